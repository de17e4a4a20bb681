"""The stand-in for the function that `fit` and `evaluate` call for a step.

`install` puts a `TappedStep` in the place of `model.train_function` (or
`test_function`) while a recorder is at work; it runs the same step once,
hands Keras its own logs and the recorders what the step saw. How it runs the
step is the backend's: `tf_step`, `jax_step` and `torch_step`.
"""

from __future__ import annotations

import abc
import time
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import keras

from tb_batchview.capture import arrays, keras_names
from tb_batchview.capture.carried import Carried
from tb_batchview.capture.gather import describe, gather, is_recordable, name_outputs
from tb_batchview.capture.gradients import Weight, name_gradients, summarise_gradients
from tb_batchview.capture.inputs import THUMBNAILS, WHOLE, name_inputs
from tb_batchview.capture.layers import find_bounds, select_layers
from tb_batchview.capture.metrics import read_metrics, replay_metrics
from tb_batchview.capture.observation import Observation, Tensors
from tb_batchview.capture.summary import Bounds, Group, name_figures, plan_figures, summarise
from tb_batchview.capture.tap import Sight, Tap
from tb_batchview.errors import ArgumentError, BatchViewError
from tb_batchview.tasks import TaskHint


class Recorder(Protocol):
    """Who wants to know what the steps saw: the callback."""

    layers: Any
    histogram_freq: int
    gradients: bool
    # None, "thumbnails", or what makes pictures or texts of x.
    inputs: Any
    # Where in x are ids.
    sample_ids: str | int | None
    # Of the layers chosen, set here: those made in `build` come late.
    layer_names: frozenset[str]
    # Of what was tagged so far, set here.
    tag_names: frozenset[str]

    def receive(self, phase: str, observations: list[Observation]) -> None:
        """Take what one call of the step function saw. Must not raise."""

    def complain(self, message: str) -> None:
        """Take a sentence about what cannot be recorded."""


class Shown(NamedTuple):
    """What a step showed that is summarised.

    Attributes:
        values: Outputs of layers and what was tagged, by name.
        bounds: Of the layers that can be saturated: where they are.
        looks: By the name of a tag: returns its tensor.
    """

    values: dict[str, Any]
    bounds: Bounds
    looks: dict[str, Callable[[], Any]]

    def plan(self) -> dict[str, slice]:
        """Tell where the figures of each are, all in a row."""
        return plan_figures(self.values, self.bounds, self.looks)

    def summarise(self) -> list[Group]:
        """Compute the figures."""
        looked = {name: look() for name, look in self.looks.items()}
        # What is tagged has the rows it has, which need not be samples.
        return summarise(self.values | looked, self.bounds, self.looks)

    def name_figures(self) -> dict[str, Any]:
        """Compute the figures, by "layers/<name>"."""
        return name_figures(self.summarise(), self.values) if self.values else {}


class TappedStep(abc.ABC):
    """Runs a model's step once and tells the recorders what it saw."""

    def __init__(self, model: Any, phase: str, original: Callable[..., Any]) -> None:
        """Stand in for `original`, the function that Keras made."""
        self.model = model
        self.phase = phase
        self.original = original
        self._recorders: list[Recorder] = []
        # Who trains with this step, and does not want to know: where a batch
        # has ids, the model is not to see them all the same.
        self._others: list[Recorder] = []
        self._carried = Carried()
        self._armed: list[Recorder] = []
        self._fitting = False
        self._run: Callable[..., tuple[Any, list[Observation]]] | None = None
        self._complaints: set[str] = set()
        # What the losses say: of the step that was watched last.
        self._hints: dict[str, TaskHint] = {}
        # Names of layers that are chosen by the user, not by "auto".
        self._asked_for: set[str] = set()
        self._looked_for_layers = False
        # Of the layers that can be saturated: where they are.
        self._bounds: dict[str, tuple[float, float]] = {}

    @abc.abstractmethod
    def _build(self, *arguments: Any) -> Callable[..., tuple[Any, list[Observation]]]:
        """Make what is called instead of `original`, with its arguments.

        Args:
            arguments: Those of the step that is about to be run.

        Returns:
            A function that returns what `original` would, and what it saw.
        """

    @abc.abstractmethod
    def _run_plain(self, *arguments: Any) -> Any:
        """Run `original` on batches without their ids, and record nothing."""

    def join(self, recorder: Recorder, *, records: bool = True) -> None:
        """Add a recorder; what it wants is in effect from the next step.

        Args:
            recorder: Who trains.
            records: Whether it wants to know of these steps.
        """
        if not records:
            if recorder not in self._others:
                self._others.append(recorder)
            return
        if recorder not in self._recorders:
            wishes = [_wishes_of(other) for other in self._recorders]
            if wishes and _wishes_of(recorder) not in wishes:
                self._run = None
            self._recorders.append(recorder)
            self._looked_for_layers = False

    def leave(self, recorder: Recorder) -> None:
        """Remove a recorder, and with the last one the stand-in."""
        for members in (self._recorders, self._others, self._armed):
            if recorder in members:
                members.remove(recorder)
        if not self._recorders and not self._others:
            self._uninstall()

    def is_installed(self) -> bool:
        """Tell whether the model still calls this stand-in."""
        return bool(self._recorders or self._others) and keras_names.step_function(self.model, self.phase) is self

    def arm(self, recorder: Recorder, *, fitting: bool) -> None:
        """Say that the next step is one of this recorder's training.

        Args:
            recorder: Who is to be told of it.
            fitting: Whether it is Keras' own loop that will take the step.
        """
        self._fitting = fitting
        if recorder not in self._armed:
            self._armed.append(recorder)

    @property
    def armed(self) -> tuple[Recorder, ...]:
        """Return whom the next step is to be told to."""
        return tuple(self._armed)

    def __call__(self, *arguments: Any) -> Any:
        """Run one step as Keras would, and return what Keras expects."""
        if self._armed and self._is_foreign(*arguments):
            return self.original(*arguments)
        armed, self._armed = self._armed, []
        if not armed:
            # A fit without our callback: the one with it died on the way.
            self._uninstall()
            return self.original(*arguments)
        if not self._recorders:
            return self._run_plain(*arguments)
        if self._run is None:
            try:
                self._run = self._build(*arguments)
            except Exception as error:
                refused = isinstance(error, BatchViewError)  # Of both phases alike, and a sentence.
                self._complain(str(error) if refused else f"The {self.phase} step cannot be recorded: {error!r}")
                self._run = lambda *arguments: (self._run_plain(*arguments), [])
        result, observations = self._run(*arguments)
        for recorder in armed:
            if recorder in self._recorders:
                recorder.receive(self.phase, observations)
        return result

    def _is_foreign(self, *arguments: Any) -> bool:
        """Tell whether this is another step than the one that was armed."""
        return False

    def _uninstall(self) -> None:
        self._recorders.clear()
        self._others.clear()
        if keras_names.step_function(self.model, self.phase) is self:
            keras_names.set_step_function(self.model, self.phase, self.original)

    def _complain(self, message: str) -> None:
        if message not in self._complaints:
            self._complaints.add(message)
            for recorder in self._recorders:
                recorder.complain(message)

    def _make_tap(self, *, due: bool = True) -> Tap:
        """Make what watches a step.

        Args:
            due: Whether what is summarised is wanted of this very step.
        """
        gradients = due and self._wants_gradients()
        return Tap(self.model, self._choose_layers, gradients=gradients, tags=due and bool(self._freqs()))

    def _take_ids(self, batch: Any, problems: list[str]) -> tuple[Any, dict[str, Any]]:
        """Return a batch as the model is to see it, and the ids in it."""
        places = {recorder.sample_ids: None for recorder in self._recorders if recorder.sample_ids is not None}
        return self._carried.take(batch, places, problems)

    def _gather(self, tap: Tap, sight: Sight) -> tuple[dict[str, Any], dict[str, list[Any]]]:
        """Name what a step showed: tensors, and states of its metrics."""
        try:
            tensors, self._hints = gather(self.model, sight, tap.problems)
            tensors |= self._gather_inputs(tap, sight)
            for name in [name for name, tensor in tensors.items() if not is_recordable(tensor)]:
                tap.problems.append(f"{name} is {describe(tensors.pop(name))}, which cannot be recorded.")
            if sight.in_loop:
                tap.problems.append(
                    f"Layers that run inside a loop cannot be summarised: {', '.join(sorted(sight.in_loop))}. "
                    "The others are."
                )
            if sight.lost_tags:
                tap.problems.append(
                    "What is tagged inside a loop, a branch or a compiled function of the step's own cannot leave it "
                    f"and is not recorded: {', '.join(sorted(sight.lost_tags))}. Tag what is returned from it."
                )
            return tensors, replay_metrics(self.model, sight, tap.problems)
        except Exception as error:
            tap.problems.append(f"What the step saw could not be gathered: {error!r}.")
            return {}, {}

    def _gather_inputs(self, tap: Tap, sight: Sight) -> dict[str, Any]:
        """Name what tells what the samples were, where it is wanted."""
        wanted = {_inputs_wish(recorder) for recorder in self._recorders} - {None}
        try:
            return name_inputs(sight, [wish for wish in wanted if wish is not None], tap.problems)
        except Exception as error:
            tap.problems.append(f"The inputs could not be gathered: {error!r}.")
            return {}

    def _read_metrics(self, tap: Tap, states: dict[str, list[Any]], *, has_loss: bool) -> dict[str, Any]:
        """Name the values of metrics from their states."""
        try:
            values = {
                f"metrics/{name}": value for name, value in read_metrics(self.model, states, tap.problems).items()
            }
        except Exception as error:
            tap.problems.append(f"The metrics of a batch could not be read: {error!r}.")
            return {}
        # A loop of the user's own may have no loss but the one it reports.
        if not has_loss and "metrics/loss" in values:
            values["loss"] = values.pop("metrics/loss")
        return values

    def _summarise_due(self, tap: Tap, sight: Sight, count: int) -> dict[str, Any]:
        """Name the figures of the layers, in a step that runs eagerly."""
        if not self._is_due(count):
            return {}
        figures: dict[str, Any] = {}
        try:
            figures |= self._shown(tap, sight).name_figures()
        except Exception as error:
            tap.problems.append(f"The layers could not be summarised: {error!r}.")
        try:
            figures |= self._name_gradient_figures(self._gradients_of(tap, sight))
        except Exception as error:
            tap.problems.append(f"The gradients could not be summarised: {error!r}.")
        return figures

    def _name_gradient_figures(self, gradients: dict[str, list[Weight]]) -> dict[str, Any]:
        figures = summarise_gradients(gradients) if gradients else {}
        return {f"gradients/{name}": vector for name, vector in figures.items()}

    def _wants_gradients(self) -> bool:
        """Tell whether the gradients of this phase's steps are wanted."""
        return self.phase == "train" and any(
            recorder.gradients and recorder.histogram_freq for recorder in self._recorders
        )

    def _gradients_of(self, tap: Tap, sight: Sight) -> dict[str, list[Weight]]:
        """Return the gradients that the step applied, by layer."""
        return name_gradients(self.model, sight, tap.problems) if self._wants_gradients() else {}

    def _shown(self, tap: Tap, sight: Sight) -> Shown:
        """Return what is summarised of layers and tags."""
        outputs = self._layers_of(sight)
        tags = self._tags_of(tap, sight, outputs)
        # All are looked at before any is summarised.
        looks = {name: arrays.look_aside(value) for name, value in tags.items()}
        return Shown(outputs | tags, self._bounds_of(outputs), looks)

    def _tags_of(self, tap: Tap, sight: Sight, outputs: dict[str, Any]) -> dict[str, Any]:
        """Return what was tagged, by the name it is recorded under."""
        recorders = [recorder for recorder in self._recorders if recorder.histogram_freq]
        layers = {name for recorder in recorders for name in recorder.layer_names}
        named: dict[str, Any] = {}
        for name, values in sight.tags.items():
            free = name
            if name.partition("#")[0] in layers:
                free = f"{name} (tag)"
                tap.problems.append(
                    f"A layer is recorded as {name!r}, and what is tagged so as {free!r}. Give the tag another name."
                )
            for value in values if name not in sight.lost_tags else ():
                if not is_recordable(value):
                    tap.problems.append(
                        f"What is tagged {name!r} must be numbers of a known rank, and is not recorded. Received: "
                        f"a {type(value).__name__} of dtype {value.dtype}."
                    )
                    continue
                key, count = free, 0
                while key in outputs or key in named:
                    count += 1
                    key = f"{free}#{count}"
                named[key] = value
        for recorder in recorders if named else ():
            recorder.tag_names |= named.keys()
        return named

    def _bounds_of(self, outputs: dict[str, Any]) -> dict[str, tuple[float, float]]:
        """Return where the layers are saturated, each call of one by itself."""
        layers = {name: name.partition("#")[0] for name in outputs}
        return {name: self._bounds[layer] for name, layer in layers.items() if layer in self._bounds}

    def _layers_of(self, sight: Sight) -> dict[str, Any]:
        """Return the outputs of layers that may be summarised, by name."""
        return {name: value for name, value in sight.activations.items() if self._may_summarise(name, value, sight)}

    def _may_summarise(self, name: str, value: Any, sight: Sight) -> bool:
        layer = name.partition("#")[0]
        if layer in sight.in_loop or not is_recordable(value):
            return False
        # What the user asked for is shown whatever it does.
        return layer in self._asked_for or not arrays.is_merged(value)

    def _is_due(self, count: int) -> bool:
        """Tell whether the layers of a batch are summarised."""
        return any(count % freq == 0 for freq in self._freqs())

    def _freqs(self) -> list[int]:
        return sorted({recorder.histogram_freq for recorder in self._recorders if recorder.histogram_freq})

    def _report(self, tap: Tap) -> None:
        """Complain of what could not be watched, once."""
        if not self._looked_for_layers:
            self._looked_for_layers = True
            for recorder in self._recorders:
                if not recorder.histogram_freq or not isinstance(recorder.layers, list):
                    continue  # "auto", "all" and None match whatever there is.
                try:
                    select_layers(self.model, recorder.layers)
                except ArgumentError as error:  # The model is built by now: they will not come.
                    tap.problems.append(str(error))
        for problem in tap.problems:
            self._complain(problem)

    def _choose_layers(self) -> dict[str, Any]:
        chosen: dict[str, Any] = {}
        self._asked_for.clear()
        for recorder in self._recorders:
            if recorder.histogram_freq:
                layers = select_layers(self.model, recorder.layers, missing_ok=True)
                recorder.layer_names = frozenset(layers)
                chosen |= layers
                found = {name: find_bounds(layer) for name, layer in layers.items()}
                self._bounds |= {name: bounds for name, bounds in found.items() if bounds is not None}
                if recorder.layers != "auto":
                    self._asked_for |= layers.keys()
        return chosen


def _wishes_of(recorder: Recorder) -> tuple[Any, ...]:
    return recorder.layers, recorder.histogram_freq, recorder.gradients, _inputs_wish(recorder), recorder.sample_ids


def _inputs_wish(recorder: Recorder) -> str | None:
    if recorder.inputs is None:
        return None
    return THUMBNAILS if recorder.inputs == THUMBNAILS else WHOLE


def read_predictions(model: Any, outputs: Any, ids: dict[str, Any]) -> Observation:
    """Make an observation of what `predict` hands to callbacks.

    Args:
        model: The model that predicts.
        outputs: `logs["outputs"]` of `on_predict_batch_end`.
        ids: Of these samples, as `PredictStep` names them.
    """
    # Keras gives callbacks arrays of NumPy or of the backend.
    named = {name: keras.ops.convert_to_tensor(value) for name, value in name_outputs(model, outputs).values()}
    tensors = {f"outputs/{name}/predictions": value for name, value in named.items() if is_recordable(value)}
    return Tensors(tensors | ids, {}, time.time())
