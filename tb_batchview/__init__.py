"""Every batch of a training run, as it really was, in TensorBoard.

The public names are resolved when they are first used, so that the viewer,
which TensorBoard imports, never loads Keras or TensorFlow.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from tb_batchview.version import __version__

if TYPE_CHECKING:
    from tb_batchview.callback import BatchViewCallback
    from tb_batchview.ids import with_ids, without_ids
    from tb_batchview.log import load
    from tb_batchview.predictions import record_predictions
    from tb_batchview.tagging import tag
    from tb_batchview.writer import BatchWriter

__all__ = [
    "BatchViewCallback",
    "BatchWriter",
    "__version__",
    "load",
    "record_predictions",
    "tag",
    "with_ids",
    "without_ids",
]

_HOMES = {
    "BatchViewCallback": "callback",
    "BatchWriter": "writer",
    "load": "log",
    "record_predictions": "predictions",
    "tag": "tagging",
    "with_ids": "ids",
    "without_ids": "ids",
}
_FRAMEWORKS = ("keras", "tensorflow", "jax", "torch")


def __getattr__(name: str) -> Any:
    """Import a public name from its module when it is first used."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    except ModuleNotFoundError as error:
        if error.name not in _FRAMEWORKS:
            raise
        raise ImportError(
            f"{name} needs Keras and what it runs on, as KERAS_BACKEND says ({', '.join(_FRAMEWORKS[1:])}). Received: "
            f"no module {error.name!r}. Install it: pip install {error.name}. BatchWriter needs neither, in a training "
            "loop of your own."
        ) from error
    globals()[name] = value  # the next use does not come here again
    return value


def __dir__() -> list[str]:
    """List the public names, resolved or not."""
    return sorted({*globals(), *__all__})
