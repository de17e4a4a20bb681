"""`BatchViewCallback`: records every batch of a Keras model's training.

The thin guest in `model.fit`: it has `capture` watch the steps and hands what
they saw to `writer`, whose thread copies it from the device and writes it.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from tb_batchview.capture import (
    BACKENDS,
    Observation,
    Observed,
    PredictStep,
    TappedStep,
    build_without_ids,
    describe_model,
    find_worker,
    install,
    name_place,
    output_units,
    read_predictions,
    select_layers,
)
from tb_batchview.errors import ArgumentError, BatchViewError, in_brief
from tb_batchview.records import PHASES, BatchRecord, GradientSummary, LayerSummary, OutputRecord
from tb_batchview.writer import BatchWriter

_FIT = "train"
_EVALUATE = "validation"


class BatchViewCallback(keras.callbacks.Callback):
    """Record what a model did on every batch of its training.

    Predictions, targets, sample weights, the loss per sample, the batch's own
    loss and metrics and summaries of layer activations are taken from the
    training step itself: predictions are what the loss saw, before the
    weights are updated and with dropout at work. There is no second forward
    pass, and the model is left as it was found. `tensorboard --logdir` shows
    the result under *Batch View*; `tb_batchview.load` reads it.

    It works with any way to train that `docs/how-it-works.md` lists: in graph
    and eager mode and under XLA, on TensorFlow, JAX and PyTorch, with steps,
    losses and metrics of one's own, several outputs, mixed precision,
    `MirroredStrategy`. Outputs that are not one per sample, metrics of several
    numbers and metrics with state outside Keras' variables are left out; of
    pixels and tokens a bounded number is kept.

    Recording never stops training: what cannot be recorded, or goes wrong
    after training has begun, is warned of once, counted, and shown in the
    viewer. Pass a new callback or the same one to a further `fit`; the same
    one spares the time to compile the step again.

    Example:
    ```python
    callback = BatchViewCallback("logs/first", class_names=["cat", "dog"])
    model.fit(x, y, epochs=3, validation_split=0.1, callbacks=[callback])
    ```

    Args:
        log_dir: Directory of the run, as `keras.callbacks.TensorBoard` takes
            it: str or os.PathLike, or an address such as s3://bucket/run (see
            docs/guides/remote.md). A further `fit` goes on in the same run; a
            model with other weights than the run there gets one beside it,
            `<log_dir>-2`.
        class_names: Names of the classes in the order of their numbers, or a
            dict of them by output name.
        task: "auto" (told from the loss, else from the first batch),
            "multiclass", "binary", "multilabel" or "regression", or a dict by
            output name.
        layers: Which layers' activations are summarised. "auto": those of
            Keras' own classes that compute something, without normalisation
            layers, what runs inside other layers and sums that TensorFlow
            would merge into the next, since tapping these can change the last
            bit of training. "all", None, or a list of names, globs (as in
            `fnmatch`) and layers, which are taken at their word.
        gradients: Whether the gradients of the loss are summarised too: for
            each layer with trainable weights, whatever `layers` says, the
            norm and a histogram. They are those that Keras gives the
            optimizer, without its loss scale and before it clips or
            accumulates them.
        histogram_freq: Layers, and tensors that are given to `tag`, are
            summarised in every n-th batch of each phase; 0 is never.
        update_freq: Predictions, targets and what belongs to each sample are
            kept of every n-th batch; loss and metrics of every one.
        top_k: Keep only the k largest scores of each sample.
        inputs: What the samples were. "thumbnails" keeps a small picture of
            each, of the first input that looks like pictures (with 1, 3 or 4
            channels, or none), else the text of the first that holds texts. A
            function of x, as the model is given it but in NumPy, returns
            pictures, shape (samples, height, width[, channels]), uint8 or of
            other numbers, or a list of str. Of each id one is kept, 256 MB in
            all. None keeps nothing, for size and privacy. Of `predict` nothing
            is kept.
        sample_ids: Where the inputs have ids of the samples already: the key
            of a dict or the place in a tuple, of whole numbers (or texts, on
            TensorFlow). They stay among the inputs, and the model sees what
            it always did. None: those that `with_ids` attached, if any.
        record: Which phases are recorded: "train", "validation" (`evaluate`
            too), "predict".
        max_pending_mb: How many megabytes may wait to be written.
        on_full: What happens when they do: "wait" for the disk, or "drop" the
            batch, which is counted and shown.

    Raises:
        ArgumentError: (a `ValueError`) An argument is not what it must be; in
            `fit`, layers or class names that the model does not have.
        BatchViewError: Keras runs on another backend than TensorFlow, JAX and
            PyTorch; or a remote `log_dir` cannot be written.
    """

    def __init__(
        self,
        log_dir: str | os.PathLike[str],
        *,
        class_names: Sequence[str] | Mapping[str, Sequence[str]] | None = None,
        task: str | Mapping[str, str] = "auto",
        layers: str | Sequence[Any] | None = "auto",
        gradients: bool = False,
        histogram_freq: int = 10,
        update_freq: int = 1,
        top_k: int | None = None,
        inputs: str | Callable[[Any], Any] | None = None,
        sample_ids: str | int | None = None,
        record: Sequence[str] = ("train", "validation"),
        max_pending_mb: float = 256,
        on_full: str = "wait",
    ) -> None:
        super().__init__()
        if keras.backend.backend() not in BACKENDS:
            raise BatchViewError(
                f"BatchViewCallback needs Keras on one of the backends {', '.join(BACKENDS)}. Received: backend="
                f"{keras.backend.backend()!r}. Use BatchWriter in a training loop of your own."
            )
        self.layers = _check_layers(layers)
        self.histogram_freq = _check_count("histogram_freq", histogram_freq, least=0)
        self.sample_ids = _check_sample_ids(sample_ids)
        self._record = _check_record(record)
        self.gradients = _check_gradients(gradients, self.histogram_freq, self._record)
        self.inputs = _check_inputs(inputs, self._record)
        self._class_names = class_names
        worker, workers = find_worker()
        self._writer = BatchWriter(
            log_dir,
            class_names=class_names,
            task=task,
            update_freq=update_freq,
            top_k=top_k,
            max_pending_mb=max_pending_mb,
            on_full=on_full,
            worker=worker,
            workers=workers,
        )
        self._directory = os.path.abspath(log_dir)
        self._doubled = False
        self._steps: dict[str, TappedStep] = {}
        self.layer_names: frozenset[str] = frozenset()
        self.tag_names: frozenset[str] = frozenset()
        self._epoch = 0
        # The batch of the epoch that Keras named last, by phase.
        self._batch = dict.fromkeys(PHASES, 0)
        self._fitting = False
        self._described = False
        build_without_ids(self)

    def set_model(self, model: Any) -> None:
        """Take the model, and check that its layers are those asked for."""
        if not isinstance(model, keras.Model):
            raise BatchViewError(
                f"BatchViewCallback needs a model of Keras 3. Received: {type(model).__module__}."
                f"{type(model).__name__}. Models of tf_keras (Keras 2) are not supported; use BatchWriter."
            )
        super().set_model(model)
        _check_class_names(self._class_names, output_units(model))
        chosen = select_layers(model, self.layers, missing_ok=not model.built) if self.histogram_freq else {}
        self.layer_names = frozenset(chosen)
        self._described = False
        if model.built:
            self._describe_model()

    def on_train_begin(self, logs: Any = None) -> None:
        """Begin to watch the training steps."""
        self._fitting = True
        self._writer.await_others()
        self._begin(_FIT)

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Remember the epoch."""
        self._epoch = epoch

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Tell the step that it is one of ours."""
        self._arm(_FIT, batch)

    def on_train_end(self, logs: Any = None) -> None:
        """Give the model back as it was, and write all that waits."""
        self._fitting = False
        self._end(_FIT)
        self._writer.close()

    def on_test_begin(self, logs: Any = None) -> None:
        """Begin to watch the evaluation steps."""
        self._begin(_EVALUATE)

    def on_test_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Tell the step that it is one of ours."""
        self._arm(_EVALUATE, batch)

    def on_test_end(self, logs: Any = None) -> None:
        """Give the model back as it was."""
        self._end(_EVALUATE)
        if not self._fitting:
            self._writer.close()

    def on_predict_begin(self, logs: Any = None) -> None:
        """Begin to take ids out of the batches."""
        self._begin("predict")

    def on_predict_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Tell the step that it is one of ours."""
        self._arm("predict", batch)

    def on_predict_batch_end(self, batch: int, logs: Any = None) -> None:
        """Record what `predict` hands to every callback."""
        if "predict" in self._record and logs:
            self._batch["predict"] = batch
            step = self._steps.get("predict")
            try:
                ids = step.take_ids() if isinstance(step, PredictStep) else {}
                self._submit("predict", [read_predictions(self.model, _read_logs(logs), ids)])
            except Exception as error:  # A guest must not stop prediction.
                self.complain(f"A batch could not be recorded: {error!r}.")

    def on_predict_end(self, logs: Any = None) -> None:
        """Give the model back as it was, and write all that waits."""
        self._end("predict")
        if not self._fitting:
            self._writer.close()

    def receive(self, phase: str, observations: list[Observation]) -> None:
        """Take what one call of the step saw (called by `capture`)."""
        try:
            self._submit(phase, observations)
        except Exception as error:  # A guest must not stop training.
            self.complain(f"A batch could not be recorded: {error!r}.")

    def complain(self, message: str) -> None:
        """Warn once of what cannot be recorded (called by `capture`)."""
        self._writer.warn("capture", message)

    def _own_layers(self, seen: Observed) -> dict[str, LayerSummary]:
        """Return the layers this callback asked for, and tags, in their turn."""
        if not self.histogram_freq or seen.turn % self.histogram_freq:
            return {}
        return {
            name: summary
            for name, summary in seen.layers.items()
            if name.partition("#")[0] in self.layer_names or name in self.tag_names
        }

    def _own_gradients(self, seen: Observed) -> dict[str, GradientSummary]:
        """Return the gradients, if this callback wants them now."""
        return seen.gradients if self.gradients and seen.turn % self.histogram_freq == 0 else {}

    def _own_inputs(self, seen: Observed) -> Any:
        """Return what the samples were, or how to make it when it is needed."""
        x, make = seen.inputs.x, self.inputs
        if not callable(make):
            return None if make is None else seen.inputs.thumbnails
        return None if x is None else lambda: make(x)

    def _identified(self, seen: Observed) -> dict[str, OutputRecord]:
        """Return the outputs with the ids of their samples, where these are known."""
        # Data may have them in the one phase, and be given them in another.
        ids = seen.ids.get(name_place(self.sample_ids), seen.ids.get(name_place(None)))
        if ids is None:
            return seen.outputs
        return {name: dataclasses.replace(record, sample_ids=ids) for name, record in seen.outputs.items()}

    def _describe_model(self) -> None:
        self._writer.run = describe_model(self.model)
        self._described = True

    def _begin(self, phase: str) -> None:
        records = phase in self._record
        try:
            step = install(self.model, phase, self, reuse=self._steps.get(phase), records=records)
        except Exception as error:
            self.complain(f"The {phase} steps cannot be recorded: {error!r}.")
            return
        if step is not None:
            self._steps[phase] = step

    def _arm(self, phase: str, batch: int) -> None:
        self._batch[phase] = batch
        step = self._steps.get(phase)
        if step is None or not step.is_installed():
            # Compiled anew since, or given back by a train_on_batch between.
            self._begin(phase)
            step = self._steps.get(phase)
        if step is not None:
            # Keras' own loops tell callbacks how many steps there are to be.
            step.arm(self, fitting="steps" in (self.params or {}))
            self._mind_doubles(step)

    def _mind_doubles(self, step: TappedStep) -> None:
        """Warn once of another callback that writes the same into the same place."""
        others = (other for other in step.armed if other is not self and isinstance(other, BatchViewCallback))
        if not self._doubled and any(other._directory == self._directory for other in others):
            self._doubled = True
            self.complain(
                "Several callbacks with one log_dir record the same batches, several times or over each other. "
                "Give one callback, or each a log_dir of its own."
            )

    def _end(self, phase: str) -> None:
        step = self._steps.get(phase)
        if step is not None:
            step.leave(self)

    def _submit(self, phase: str, observations: list[Observation]) -> None:
        if not self._described:  # The model was built in its first step.
            self._describe_model()
        epoch, first = self._epoch, self._batch[phase]

        def make_records() -> Iterator[BatchRecord]:
            batches = ((observation, seen) for observation in observations for seen in observation.read())
            for place, (observation, seen) in enumerate(batches):
                self._writer.hints = seen.hints
                for problem in seen.problems:
                    self.complain(problem)
                yield BatchRecord(
                    phase=phase,
                    step=None,
                    epoch=epoch,
                    index=first + place,
                    size=seen.size,
                    wall_time=observation.wall_time,
                    loss=seen.loss,
                    metrics=seen.metrics,
                    outputs=self._identified(seen),
                    layers=self._own_layers(seen),
                    gradients=self._own_gradients(seen),
                    inputs=self._own_inputs(seen),
                )

        nbytes = sum(observation.nbytes for observation in observations)
        batches = sum(observation.batches for observation in observations)
        self._writer.submit(make_records, nbytes=nbytes, batches=batches, phase=phase)


def _read_logs(logs: Mapping[str, Any]) -> Any:
    """Return the outputs of `predict` as the model returned them.

    Keras takes a dict of them for further logs, and an array of one number
    for a figure.
    """
    outputs = logs["outputs"] if logs.keys() == {"outputs"} else dict(logs)

    def whole(value: Any) -> Any:
        return np.full((1, 1), value, keras.backend.floatx()) if isinstance(value, float) else value

    return keras.tree.map_structure(whole, outputs)


def _check_layers(layers: Any) -> Any:
    if layers is None or layers in ("auto", "all"):
        return layers
    items = None if isinstance(layers, str) else list(layers) if isinstance(layers, Sequence) else None
    if items is None or not all(isinstance(item, (str, keras.layers.Layer)) for item in items):
        raise ArgumentError(
            "layers must be 'auto', 'all', None or a list of layer names, globs and layers. Received: "
            f"layers={in_brief(layers)}."
        )
    return items


def _check_class_names(names: Any, units: Mapping[str, int | None]) -> None:
    """Raise for names that fit no output, where the outputs are known."""
    # One score is that of class 1.
    classes = {output: 2 if count == 1 else count for output, count in units.items() if count is not None}
    for output, given in names.items() if isinstance(names, Mapping) else ():
        if units and output not in units:
            raise ArgumentError(
                f"class_names must be for outputs of the model. Received: [{output!r}]. There are: {', '.join(units)}."
            )
        if output in classes and len(given) != classes[output]:
            raise ArgumentError(
                f"class_names must have one name for each of the {classes[output]} classes. Received: {len(given)} "
                f"names for output {output!r}."
            )
    if isinstance(names, Sequence) and classes and len(classes) == len(units) and len(names) not in classes.values():
        raise ArgumentError(
            f"class_names must have one name for each of the {' or '.join(str(count) for count in classes.values())} "
            f"classes. Received: {len(names)} names."
        )


def _check_count(name: str, value: Any, *, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ArgumentError(f"{name} must be a whole number of at least {least}. Received: {name}={value!r}.")
    return value


def _check_inputs(inputs: Any, record: Sequence[str]) -> Any:
    if not (inputs is None or inputs == "thumbnails" or callable(inputs)):
        raise ArgumentError(
            "inputs must be None, 'thumbnails' or a function of x that returns pictures or texts, one per sample. "
            f"Received: inputs={inputs!r}."
        )
    if inputs is not None and set(record) == {"predict"}:
        raise ArgumentError(
            f"inputs need the phase 'train' or 'validation'. Received: record={record!r}. Of predict none are kept; "
            "record_predictions keeps them."
        )
    return inputs


def _check_gradients(gradients: Any, histogram_freq: int, record: Sequence[str]) -> bool:
    if not isinstance(gradients, bool):
        raise ArgumentError(f"gradients must be True or False. Received: gradients={gradients!r}.")
    if gradients and not histogram_freq:
        raise ArgumentError(
            "gradients=True needs a histogram_freq of at least 1, which says in which batches they are summarised. "
            "Received: histogram_freq=0."
        )
    if gradients and _FIT not in record:
        raise ArgumentError(f"gradients=True needs the phase 'train'. Received: record={record!r}.")
    return gradients


def _check_sample_ids(place: Any) -> str | int | None:
    if place is not None and (isinstance(place, bool) or not isinstance(place, (str, int))):
        raise ArgumentError(
            "sample_ids must be a key of x, where it is a dict, or a place in x, where it is a tuple. Received: "
            f"sample_ids={place!r}. To attach ids to the inputs, use with_ids."
        )
    return place


def _check_record(record: Any) -> tuple[str, ...]:
    phases = () if isinstance(record, str) or not isinstance(record, Sequence) else tuple(record)
    if not phases or not set(phases) <= set(PHASES):
        raise ArgumentError(
            f"record must be a list of phases of {', '.join(PHASES)}. Received: record={in_brief(record)}."
        )
    return phases
