"""What a compiled loss says about the task and the form of predictions.

Called by `step` when a step is traced; calls `keras_names`.
"""

from __future__ import annotations

from typing import Any

from tb_batchview.capture import keras_names
from tb_batchview.tasks import TaskHint

# By the name of the function or the class, lower case without underscores;
# https://keras.io/api/losses lists them.
_TASKS = {
    "sparsecategoricalcrossentropy": "multiclass",
    "categoricalcrossentropy": "multiclass",
    "categoricalfocalcrossentropy": "multiclass",
    "categoricalgeneralizedcrossentropy": "multiclass",
    "binarycrossentropy": "binary",
    "binaryfocalcrossentropy": "binary",
    "meansquarederror": "regression",
    "meanabsoluteerror": "regression",
    "meanabsolutepercentageerror": "regression",
    "meansquaredlogarithmicerror": "regression",
    "logcosh": "regression",
    "huber": "regression",
    "poisson": "regression",
    "cosinesimilarity": "regression",
}


def read_loss_hint(loss: Any) -> TaskHint:
    """Tell the task and whether predictions are logits from a loss.

    Args:
        loss: A Keras loss; any other callable tells nothing.
    """
    function, options = keras_names.loss_function(loss)
    for name in (function, type(loss).__name__):
        task = _TASKS.get(name.replace("_", "").lower())
        if task is not None:
            classification = task in ("multiclass", "binary")
            return TaskHint(task, bool(options.get("from_logits", False)) if classification else None)
    return TaskHint(None, None)
