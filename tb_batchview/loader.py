"""The entry point that TensorBoard imports at every start.

An exception here would end the whole `tensorboard` command, and an import
would slow it down: so nothing heavy is imported and nothing can be raised.
`BatchViewLoader.load` imports `plugin` when TensorBoard is ready for it.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import re
import sys
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any

from tensorboard.plugins import base_plugin

_LOGGER = logging.getLogger(__name__)
_PLUGIN_NAME = "batchview"
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")
_TENSORFLOW_SCHEMES = {"file", "gs", "ram"}
# While there is a module of this name, TensorBoard does not use TensorFlow.
_WITHOUT_TENSORFLOW = "tensorboard.compat.notf"


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
        reads the files itself. What the user set stays. And let them open
        remote directories that TensorFlow does not know.
        """
        try:
            samples = getattr(flags, "samples_per_plugin", None)
            if isinstance(samples, dict):
                samples.setdefault(_PLUGIN_NAME, 1)
            _open_remote(flags)
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


def _open_remote(flags: Any) -> None:
    """Have TensorBoard read a remote directory that TensorFlow cannot.

    Where TensorFlow is installed, `tensorboard --logdir s3://…` would end
    before it starts. Where it is not, TensorBoard reads through fsspec: so it
    is told that it is not, in this one case.
    """
    given = f"{getattr(flags, 'logdir', '')},{getattr(flags, 'logdir_spec', '')}"
    unknown = sorted(set(_SCHEME.findall(given)) - _TENSORFLOW_SCHEMES)
    if not unknown or find_spec("tensorflow") is None or find_spec("tensorflow_io") is not None:
        return
    if find_spec("fsspec") is None:
        _LOGGER.warning('Batch View: %s:// is read through fsspec: pip install "tb_batchview[remote]"', unknown[0])
        return
    from tensorboard import compat

    # tf.summary of this process, if there is one, goes on with TensorFlow.
    with contextlib.suppress(ImportError):
        hasattr(compat.tf2, "summary")
    sys.modules.setdefault(_WITHOUT_TENSORFLOW, ModuleType(_WITHOUT_TENSORFLOW))
    # What its modules call `tf` is one object, and was TensorFlow already when the command began.
    stub = import_module("tensorboard.compat.tensorflow_stub")
    vars(compat.tf).update(
        {name: value for name, value in vars(stub).items() if name == "__version__" or not name.startswith("__")}
    )
    _LOGGER.warning("Batch View: TensorFlow cannot read %s://, so that TensorBoard runs without it", unknown[0])
