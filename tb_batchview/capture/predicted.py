"""What can be told of predictions that are there, without a step to watch.

`predictions` calls it for models that are not compiled, and for functions that
are no models; calls `gather`, as a step does.
"""

from __future__ import annotations

from typing import Any

import keras

from tb_batchview.capture import arrays
from tb_batchview.capture.gather import describe, gather, is_recordable
from tb_batchview.capture.observation import Observed, read_observed
from tb_batchview.capture.tap import Sight


def observe_predictions(model: Any, outputs: Any, y: Any, sample_weight: Any) -> Observed:
    """Sort predictions with what belongs to them by outputs.

    Args:
        model: What made them.
        outputs: Arrays in the structure in which the model returned them.
        y: Targets, in that of the outputs.
        sample_weight: Weights, likewise, or None.
    """
    tensors = [keras.tree.map_structure(_to_tensor, part) for part in (outputs, y, sample_weight)]
    problems: list[str] = []
    sight = Sight((None, *tensors[1:]))
    sight.see_model(tensors[0], ((), {}))
    found, hints = gather(model, sight, problems)
    for name in [name for name, tensor in found.items() if not is_recordable(tensor)]:
        problems.append(f"{name} is {describe(found.pop(name))}, which cannot be recorded.")
    observed = read_observed({name: arrays.to_numpy(tensor) for name, tensor in found.items()}, hints, 0)
    return observed._replace(problems=[*problems, *observed.problems])


def _to_tensor(leaf: Any) -> Any:
    return leaf if leaf is None else keras.ops.convert_to_tensor(leaf)
