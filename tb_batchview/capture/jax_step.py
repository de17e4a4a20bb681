"""The stand-in for a step of Keras on JAX.

Keras compiles `train_step` as a pure function, and so does this one, with
what was seen as a further output. What is seen while a gradient is taken
belongs to the gradient's own trace and can leave it only as an auxiliary
output: `jax_gradients` carries it.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import Any

import jax
import keras
import numpy as np

from tb_batchview.capture import arrays, jax_processes, keras_names
from tb_batchview.capture.carried import ATTACHED, name_tensors
from tb_batchview.capture.jax_gradients import carried_out
from tb_batchview.capture.observation import Observation, Tensors
from tb_batchview.capture.step import Recorder, TappedStep
from tb_batchview.capture.tap import Sight
from tb_batchview.ids import split_ids

# What has a row for each sample.
_OF_SAMPLES = ("outputs/", "inputs/", "ids/", "plain_ids/")


class JaxStep(TappedStep):
    """Runs a step in a `jax.jit` like Keras', or eagerly."""

    def __init__(self, model: Any, phase: str, original: Callable[..., Any]) -> None:
        """Stand in for `original`, the function that Keras made."""
        super().__init__(model, phase, original)
        self._count = 0
        # Of what was seen when the step was traced last.
        self._names: list[str] = []
        # Of several processes: whether the others record too is to be asked,
        # and what they said.
        self._unsure = True
        self._alone = False

    def join(self, recorder: Recorder, *, records: bool = True) -> None:
        """Add a recorder; what it wants is in effect from the next step."""
        self._unsure = True
        super().join(recorder, records=records)

    def _build(self, *arguments: Any) -> Callable[..., tuple[Any, list[Observation]]]:
        step = keras_names.make_jax_step(self.model, self.phase, self._watch, arguments[0])
        steps = self.model.steps_per_execution or 1

        def run(state: Any, iterator: Any) -> tuple[Any, list[Observation]]:
            observations: list[Observation] = []
            if self._is_alone():
                return self._run_plain(state, iterator), []
            # As Keras does it: no batch at all ends the epoch, fewer than
            # asked for do not.
            batch = next(iterator)
            for place in range(steps):
                due = np.bool_(self._is_due(self._count))
                # The ids need not go to the device and back.
                problems: list[str] = []
                batch, ids = self._take_ids(batch, problems)
                ids = _exact(ids, problems)
                (logs, seen), state = step(state, (due, batch))
                seen = name_tensors(ids, problems) | seen
                for problem in problems:
                    self._complain(problem)
                observations.append(self._observe(seen, batch, due=bool(due)))
                self._count += 1
                if place + 1 < steps:
                    try:
                        batch = next(iterator)
                    except StopIteration:
                        break
            return (logs, state), observations

        return run

    def _run_plain(self, *arguments: Any) -> Any:
        state, iterator = arguments
        return self.original(state, (split_ids(batch)[0] for batch in iterator))

    def _is_alone(self) -> bool:
        """Tell whether other processes train the model without recording."""
        if self._unsure:
            self._unsure = False
            layers = [f"gradients={self._wants_gradients()}", *sorted(self._choose_layers())]
            wishes = sorted((freq, *layers) for freq in self._freqs())
            self._alone = jax.process_count() > 1 and not jax_processes.agree(self.phase, repr(wishes))
            if self._alone:
                self._complain(
                    "Nothing is recorded: of several processes of JAX each must have the callback, with the same "
                    "layers, gradients and histogram_freq, since all must run the same step. Training is not touched."
                )
        return self._alone

    def _observe(self, seen: dict[str, Any], batch: Any, *, due: bool) -> Observation:
        tensors = {
            # An eager step shows the very batch that the loop may use again.
            name: seen[name].copy() if isinstance(seen[name], np.ndarray) else seen[name]
            for name in dict.fromkeys([*self._names, *seen])
            if name in seen and (due or not name.startswith(("layers/", "gradients/")))
        }
        if jax.process_count() > 1:
            # Of the whole; this process records its own part.
            tensors.pop("size", None)
            rows = jax_processes.rows_here(batch)
            tensors = {
                name: jax_processes.part_here(value, rows if name.startswith(_OF_SAMPLES) else None)
                for name, value in tensors.items()
            }
        return Tensors(tensors, self._hints, time.time(), self._count)

    def _watch(self, state: Any, due_and_data: Any) -> Any:
        """Run the user's step: what is compiled."""
        due, data = due_and_data
        user_step = getattr(self.model, keras_names.STEP_ATTRIBUTE[self.phase])
        with self._make_tap() as tap:
            sight = tap.begin((state, data))
            sight.batch = data
            with carried_out(sight):
                logs, state = user_step(state, data)
            tap.end()
        if _is_hidden(sight):
            # The layers and tags are hidden with the rest.
            sight.in_loop.clear()
            sight.lost_tags.clear()
            tap.problems.append(
                "What the model computed cannot be seen: its gradient is taken inside a jit or a loop of the step's "
                "own, or with a function from `from jax import value_and_grad`. Call jax.value_and_grad by its full "
                "name in train_step to have predictions and layers recorded. Training is not touched."
            )
        if isinstance(due, jax.core.Tracer):
            # A guest must not stop the step: what it saw will do.
            with contextlib.suppress(Exception):
                self._compute_sample_losses(sight)
        tensors, states = self._gather(tap, sight)
        tensors |= self._read_metrics(tap, states, has_loss="loss" in tensors)
        try:
            shown = self._shown(tap, sight)
            if shown.values:
                tensors |= _when(due, shown.name_figures)
        except Exception as error:
            tap.problems.append(f"The layers could not be summarised: {error!r}.")
        try:
            gradients = self._gradients_of(tap, sight)
            if gradients:
                tensors |= _when(due, lambda: self._name_gradient_figures(gradients))
        except Exception as error:
            tap.problems.append(f"The gradients could not be summarised: {error!r}.")
        self._report(tap)
        # JAX returns dicts in the order of their keys.
        self._names = list(tensors)
        return (logs, tensors), state

    def _compute_sample_losses(self, sight: Sight) -> None:
        """Compute Keras' own losses per sample once more, apart from the step.

        An output that the step's loss is the mean of has XLA add it up in
        another order, which changes the last bit of the loss reported.
        """
        losses = [flat.loss for flat in keras_names.flat_losses(self.model)]
        if len(losses) != len(sight.loss_calls):
            return
        for place, (loss, call) in enumerate(zip(losses, sight.loss_calls, strict=True)):
            if not keras_names.is_pure_loss(loss) or not sight.all_belong(call):
                continue
            before = sight.sample_losses[place]
            args, kwargs = jax.lax.optimization_barrier(call)
            sight.sample_losses[place] = loss.call(*args, **kwargs)
            mask = keras_names.mask_of(before)
            if mask is not None and sight.belongs(mask):
                keras_names.set_mask(sight.sample_losses[place], mask)


def _exact(ids: dict[str, Any], problems: list[str]) -> dict[str, Any]:
    """Leave out ids of which JAX has only the lower half.

    Without a distribution a batch is NumPy's until the step takes it; with one
    it is on the devices already, where numbers have 32 bits.
    """
    if keras.distribution.distribution() is None or jax.config.read("jax_enable_x64") or not set(ids) - {ATTACHED}:
        return ids
    problems.append(
        "sample_ids are not recorded under a distribution of Keras on JAX, which cuts whole numbers to 32 bits. Use "
        "with_ids."
    )
    return {place: value for place, value in ids.items() if place == ATTACHED}


def _when(due: Any, compute: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Compute figures where they are due, else zeros in their place."""
    if not isinstance(due, jax.core.Tracer):
        # An eager step; a branch of JAX would be compiled anew each time.
        return compute() if due else {}
    shapes = jax.eval_shape(compute)
    figures: dict[str, Any] = arrays.choose(
        due, compute, lambda: {name: jax.numpy.zeros(shape.shape) for name, shape in shapes.items()}
    )
    return figures


def _is_hidden(sight: Sight) -> bool:
    """Tell whether the model ran where nothing can be carried out of."""
    predictions = sight.inputs.get("y_pred")
    return not sight.all_belong(predictions) or (not sight.inputs and not sight.activations and bool(sight.in_loop))
