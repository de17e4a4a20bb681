"""The stand-in for a step of Keras on PyTorch, which runs eagerly."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from tb_batchview.capture.observation import Observation, Tensors
from tb_batchview.capture.step import TappedStep
from tb_batchview.capture.tap import Sight, Tap
from tb_batchview.errors import BatchViewError
from tb_batchview.ids import split_ids


class TorchStep(TappedStep):
    """Calls Keras' own function and looks on."""

    _count = 0

    def _build(self, *arguments: Any) -> Callable[..., tuple[Any, list[Observation]]]:
        if self.model.jit_compile:
            raise BatchViewError(
                "Keras on PyTorch with jit_compile=True is not supported: torch.compile decides itself which tensors "
                "it keeps. Compile the model with jit_compile=False, the default. Training is not touched."
            )
        return self._watch

    def _watch(self, data: Any) -> tuple[Any, list[Observation]]:
        # Gradients and tags only where they are looked at, since they are copied.
        with self._make_tap(due=self._is_due(self._count)) as tap:
            # Keras wraps each batch in a list of one.
            batch, ids = self._take_ids(data[0], tap.problems)
            sight = tap.begin(batch, ids)
            result = self.original([batch])
            tap.end()
        observations: list[Observation] = []
        try:
            with torch.no_grad():
                observations = [Tensors(self._take(tap, sight), self._hints, time.time(), self._count)]
        except Exception as error:
            tap.problems.append(f"What the step saw could not be gathered: {error!r}.")
        self._count += 1
        self._report(tap)
        return result, observations

    def _run_plain(self, *arguments: Any) -> Any:
        (data,) = arguments
        return self.original([split_ids(batch)[0] for batch in data])

    def _take(self, tap: Tap, sight: Sight) -> dict[str, Any]:
        tensors, states = self._gather(tap, sight)
        tensors |= self._read_metrics(tap, states, has_loss="loss" in tensors)
        tensors |= self._summarise_due(tap, sight, self._count)
        # Copies, since the loop may use its buffers again; on the device.
        return {
            name: tensor.copy() if isinstance(tensor, np.ndarray) else tensor.detach().clone()
            for name, tensor in tensors.items()
        }
