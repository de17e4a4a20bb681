"""The stand-in for the function that `predict` calls for a step.

Keras itself hands the predictions to callbacks; what is left is to take the
ids out of the batches on their way, which is the same on all backends.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tb_batchview.capture import arrays, keras_names
from tb_batchview.capture.carried import name_tensors, refuse
from tb_batchview.capture.observation import Observation
from tb_batchview.capture.step import TappedStep
from tb_batchview.ids import split_ids
from tb_batchview.records import Array


class PredictStep(TappedStep):
    """Calls Keras' own function with batches without their ids."""

    def __init__(self, model: Any, phase: str, original: Callable[..., Any]) -> None:
        """Stand in for `original`, the function that Keras made."""
        super().__init__(model, phase, original)
        self._ids: dict[str, Array] = {}

    def _build(self, *arguments: Any) -> Callable[..., tuple[Any, list[Observation]]]:
        return self._watch

    def _watch(self, *arguments: Any) -> tuple[Any, list[Observation]]:
        """Keep the ids until Keras tells of the predictions."""
        problems: list[str] = []
        found: dict[str, list[Array]] = {}

        def take(batch: Any) -> Any:
            batch, ids = self._take_ids(batch, problems)
            for place, value in ids.items():
                for part in keras_names.replica_parts(value):
                    for name, tensor in name_tensors({place: part}, problems).items():
                        found.setdefault(name, []).append(arrays.to_numpy(tensor))
            return batch

        result = self._call(take, arguments)
        try:
            self._ids = {name: np.concatenate(parts) for name, parts in found.items()}
        except ValueError:  # A guest must not stop prediction.
            self._ids = {}
            problems.append(refuse("ids must be all texts or all whole numbers. Received: both."))
        for problem in problems:
            self._complain(problem)
        return result, []

    def take_ids(self) -> dict[str, Array]:
        """Return the ids of the step before, once."""
        ids, self._ids = self._ids, {}
        return ids

    def _run_plain(self, *arguments: Any) -> Any:
        return self._call(lambda batch: split_ids(batch)[0], arguments)

    def _call(self, change: Callable[[Any], Any], arguments: tuple[Any, ...]) -> Any:
        # On JAX an iterator behind the state, otherwise a list of batches.
        *state, batches = arguments
        changed = (change(batch) for batch in batches)
        return self.original(*state, list(changed) if isinstance(batches, (list, tuple)) else changed)
