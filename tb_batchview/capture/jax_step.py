"""The stand-in for a step of Keras on JAX.

Keras compiles `train_step` as a pure function, and so does this one, with
what was seen as a further output. What is seen while a gradient is taken
belongs to the gradient's own trace and can leave it only as an auxiliary
output: `jax.value_and_grad` and `jax.grad` are replaced, for this thread and
while the step is traced, by ones that carry it.
"""

from __future__ import annotations

import contextlib
import functools
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

from tb_batchview.capture import arrays, keras_names
from tb_batchview.capture.observation import Observation, Tensors
from tb_batchview.capture.step import TappedStep
from tb_batchview.capture.summary import name_figures, summarise
from tb_batchview.capture.tap import Sight, Tap


class JaxStep(TappedStep):
    """Runs a step in a `jax.jit` like Keras', or eagerly."""

    def __init__(self, model: Any, phase: str, original: Callable[..., Any]) -> None:
        """Stand in for `original`, the function that Keras made."""
        super().__init__(model, phase, original)
        self._count = 0
        # Of what was seen when the step was traced last.
        self._names: list[str] = []

    def _build(self) -> Callable[..., tuple[Any, list[Observation]]]:
        step = keras_names.make_jax_step(self.model, self.phase, self._watch)
        steps = self.model.steps_per_execution or 1

        def run(state: Any, iterator: Any) -> tuple[Any, list[Observation]]:
            observations: list[Observation] = []
            # As Keras does it: no batch at all ends the epoch, fewer than
            # asked for do not.
            batch = next(iterator)
            for place in range(steps):
                due = np.bool_(self._is_due(self._count))
                (logs, seen), state = step(state, (due, batch))
                self._count += 1
                observations.append(self._observe(seen, due=bool(due)))
                if place + 1 < steps:
                    try:
                        batch = next(iterator)
                    except StopIteration:
                        break
            return (logs, state), observations

        return run

    def _observe(self, seen: dict[str, Any], *, due: bool) -> Observation:
        tensors = {
            # An eager step shows the very batch that the loop may use again.
            name: seen[name].copy() if isinstance(seen[name], np.ndarray) else seen[name]
            for name in self._names
            if due or not name.startswith("layers/")
        }
        if jax.process_count() > 1:
            # Of the whole; this process records its own part.
            tensors.pop("size", None)
        return Tensors(tensors, self._hints, time.time())

    def _watch(self, state: Any, due_and_data: Any) -> Any:
        """Run the user's step: what is compiled."""
        due, data = due_and_data
        user_step = getattr(self.model, keras_names.STEP_ATTRIBUTE[self.phase])
        with Tap(self.model, self._choose_layers) as tap:
            sight = tap.begin((state, data))
            sight.batch = data
            with _carried_out_of_gradients(sight):
                logs, state = user_step(state, data)
            tap.end()
        tensors, states = self._gather(tap, sight)
        tensors |= self._read_metrics(tap, states, has_loss="loss" in tensors)
        try:
            tensors |= self._summarise(due, self._layers_of(sight))
        except Exception as error:
            tap.problems.append(f"The layers could not be summarised: {error!r}.")
        self._report(tap)
        # JAX returns dicts in the order of their keys.
        self._names = list(tensors)
        return (logs, tensors), state

    def _summarise(self, due: Any, outputs: dict[str, Any]) -> dict[str, Any]:
        if not outputs:
            return {}

        def compute() -> dict[str, Any]:
            return name_figures(summarise(outputs), outputs)

        shapes = jax.eval_shape(compute)
        figures: dict[str, Any] = arrays.choose(
            due, compute, lambda: {name: jax.numpy.zeros(shape.shape) for name, shape in shapes.items()}
        )
        return figures


@contextlib.contextmanager
def _carried_out_of_gradients(sight: Sight) -> Iterator[None]:
    """Carry what is seen inside gradients out of them."""
    thread = threading.get_ident()
    originals = {name: getattr(jax, name) for name in ("value_and_grad", "grad")}

    def make(name: str) -> Callable[..., Any]:
        original = originals[name]

        @functools.wraps(original)
        def transform(fun: Any, argnums: Any = 0, has_aux: bool = False, **options: Any) -> Any:
            if threading.get_ident() != thread:
                return original(fun, argnums, has_aux, **options)

            @functools.wraps(fun)
            def seen(*args: Any, **kwargs: Any) -> Any:
                sight.scene.enter((args, kwargs))
                result = fun(*args, **kwargs)
                value, aux = result if has_aux else (result, None)
                return value, (aux, sight.take())

            inner = originals["value_and_grad"](seen, argnums, True, **options)

            @functools.wraps(fun)
            def call(*args: Any, **kwargs: Any) -> Any:
                (value, (aux, taken)), gradients = inner(*args, **kwargs)
                sight.put(taken)
                if name == "grad":
                    return (gradients, aux) if has_aux else gradients
                return ((value, aux) if has_aux else value), gradients

            return call

        return transform

    try:
        for name in originals:
            setattr(jax, name, make(name))
        yield
    finally:
        for name, original in originals.items():
            setattr(jax, name, original)
