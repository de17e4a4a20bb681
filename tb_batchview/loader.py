"""The entry point that TensorBoard imports at every start.

An exception here would end the whole `tensorboard` command, and an import
would slow it down: so nothing heavy is imported and nothing can be raised.
`BatchViewLoader.load` imports `plugin` when TensorBoard is ready for it.
"""

from __future__ import annotations

import argparse
import logging
from typing import Any

from tensorboard.plugins import base_plugin

_LOGGER = logging.getLogger(__name__)
_PLUGIN_NAME = "batchview"


class BatchViewLoader(base_plugin.TBLoader):
    """Loads the plugin, or says in one line why it cannot."""

    def define_flags(self, parser: argparse.ArgumentParser) -> None:
        """Add the flag that names where pictures by id are."""
        try:
            parser.add_argument_group("batchview plugin").add_argument(
                "--batchview_images_dir",
                metavar="DIR",
                type=str,
                default="",
                help="Show samples whose ids are names of picture files in this directory. Default: none.",
            )
        except Exception as error:  # such as a flag that is there twice
            _LOGGER.warning("Batch View could not add its flag: %s: %s", type(error).__name__, error)

    def fix_flags(self, flags: Any) -> None:
        """Keep TensorBoard's own loaders from holding our batches.

        They keep up to a hundred events a tag in memory, whole; the plugin
        reads the files itself. What the user set stays.
        """
        try:
            samples = getattr(flags, "samples_per_plugin", None)
            if isinstance(samples, dict):
                samples.setdefault(_PLUGIN_NAME, 1)
        except Exception as error:  # the command must start
            _LOGGER.warning("Batch View could not set its flags: %s: %s", type(error).__name__, error)

    def load(self, context: base_plugin.TBContext) -> base_plugin.TBPlugin | None:
        """Return the plugin, None if it cannot be loaded."""
        try:
            from tb_batchview.plugin import BatchViewPlugin

            return BatchViewPlugin(context)
        except Exception as error:  # a broken plugin must not end the command
            _LOGGER.warning("Batch View is not available: %s: %s", type(error).__name__, error)
            return None
