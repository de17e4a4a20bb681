"""`record_predictions`: puts data through a model once and records it.

Calls `feeds` for the batches, `capture` for what the model's own evaluation
step saw of each, and `writer`; `log` opens what was recorded.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from typing import Any

import keras
import numpy as np

from tb_batchview import address, metadata
from tb_batchview.capture import (
    NOTHING_SHOWN,
    Observation,
    Observed,
    TappedStep,
    describe_model,
    find_shown,
    find_worker,
    has_loss,
    install,
    left_as_found,
    observe_predictions,
    take_attached,
)
from tb_batchview.errors import ArgumentError, BatchViewError, NotFoundError, in_brief
from tb_batchview.feeds import Batch, open_feed, structured, to_array
from tb_batchview.log import load
from tb_batchview.records import PHASES, Array, check_count
from tb_batchview.run import Run
from tb_batchview.writer import BatchWriter

# The function of Keras that is watched: that of `evaluate`.
_EVALUATE = "validation"
# Batches that wait to be written: nobody trains meanwhile, so that it may wait.
_MAX_PENDING_MB = 32


def record_predictions(
    model: Any,
    data: Any = None,
    log_dir: str | os.PathLike[str] | None = None,
    *,
    x: Any = None,
    y: Any = None,
    sample_weight: Any = None,
    sample_ids: Iterable[Any] | None = None,
    data_arguments: Mapping[str, Any] | None = None,
    batch_size: int | None = None,
    steps: int | None = None,
    phase: str = "predict",
    epoch: int | None = None,
    step: int | None = None,
    outputs: str | Sequence[str] | None = None,
    class_names: Sequence[str] | Mapping[str, Sequence[str]] | None = None,
    task: str | Mapping[str, str] = "auto",
    top_k: int | None = None,
    inputs: Any = None,
    verbose: int | str = "auto",
) -> Run:
    """Record what a model predicts for data, beside their true values.

    One pass and one forward pass a batch: inputs and targets are taken from
    the data together, so that they belong together in shuffled data too. One
    batch is in memory at a time, as the data has it, the last one smaller.

    A model that is compiled with a loss also has its loss of each sample, and
    of each batch the loss and the metrics, as `evaluate` would give for that
    batch alone. The model is left as it was found: weights, the state of
    metrics and of random seeds, whether it is in the middle of a training or
    not.

    The batches are written as they are made: `tensorboard --logdir` shows them
    meanwhile, and an error in the data or the model, which is raised with a
    note of how far it came, leaves those before it readable.

    Example:
    ```python
    run = record_predictions(model, test_data, "logs/test", class_names=["cat", "dog"])
    print(run.confusion("predict"))
    ```

    Args:
        model: A `keras.Model`, compiled or not; or any function of a batch of
            inputs, as the data has them, that returns an array, or a list or
            dict of arrays, with one row per sample.
        data: What `evaluate` takes: a `tf.data.Dataset`, a
            `keras.utils.PyDataset` (its workers as threads), a `DataLoader`,
            a generator or any other iterable of batches `(x, y)` or
            `(x, y, sample_weight)`; arrays as such a tuple, or with `y`
            beside them; or a function that makes one of these. Targets are
            class numbers or one-hot rows, values or labels.
        log_dir: Directory of the run: str or os.PathLike, or the address of
            one in a remote store, such as s3://bucket/run. What is recorded
            there already is gone on from.
        x: The same as `data`.
        y: Targets of arrays, where `data` is inputs alone.
        sample_weight: Weights of arrays, likewise.
        sample_ids: An integer or string for each sample, in the order of the
            data: file names, say. Samples are found by it, and followed from
            one pass to the next. None: those that `with_ids` attached to the
            inputs, if any.
        data_arguments: Keyword arguments for `data`, where that is a function.
        batch_size: Of arrays; None is 32. Other data come in batches.
        steps: How many batches to take at most; None takes all.
        phase: Under which phase it is recorded: "predict", "validation" or
            "train".
        epoch: Number of this pass; None counts the passes of the phase in
            `log_dir`, from 0.
        step: Number of the first batch; None goes on after the last one of
            the phase in `log_dir`, from 0.
        outputs: Names of the outputs that are recorded; None is all.
        class_names: Names of the classes in the order of their numbers, or a
            dict of them by output name.
        task: "auto" (told from the loss, else from the first batch),
            "multiclass", "binary", "multilabel" or "regression", or a dict by
            output name.
        top_k: Keep only the k largest scores of each sample.
        inputs: What the samples were, to be seen in the viewer, as of
            `BatchViewCallback`: "thumbnails" for the input that looks like
            pictures or texts, or a function of a batch of inputs, in NumPy,
            that returns pictures or texts, one per sample.
        verbose: "auto" shows a bar at a terminal and in a notebook, 1
            anywhere, 0 nowhere.

    Returns:
        The run, as `load(log_dir)["."]`, with what was recorded there before.

    Raises:
        ArgumentError: (a `ValueError`) An argument is not what it must be;
            the data have no targets, differ in length or never end.
        BatchViewError: Nothing could be written.
    """
    if data is not None and x is not None:
        raise ArgumentError("data must be given once. Received: data and x, which are the same.")
    if log_dir is None:
        raise ArgumentError("log_dir must be a str or os.PathLike. Received: log_dir=None.")
    chosen = _check_outputs(outputs)
    if phase not in PHASES:
        raise ArgumentError(f"phase must be one of {', '.join(PHASES)}. Received: phase={phase!r}.")
    if inputs not in (None, "thumbnails") and not callable(inputs):
        raise ArgumentError(
            "inputs must be None, 'thumbnails' or a function of a batch of inputs. "
            f"Received: inputs={in_brief(inputs)}."
        )
    if verbose not in ("auto", 0, 1):
        raise ArgumentError(f"verbose must be 'auto', 0 or 1. Received: verbose={in_brief(verbose)}.")
    counts = {"epoch": epoch, "step": step, "batch_size": batch_size, "steps": steps}
    for name, count in counts.items():
        if count is not None:
            check_count(name, count, least=0 if name in ("epoch", "step") else 1)
    subject = _Subject(model)
    worker, workers = find_worker()
    writer = BatchWriter(
        log_dir,
        class_names=class_names,
        task=task,
        top_k=top_k,
        max_pending_mb=_MAX_PENDING_MB,
        worker=worker,
        workers=workers,
    )
    feed = open_feed(
        x if data is None else data,
        y=y,
        sample_weight=sample_weight,
        batch_size=batch_size,
        steps=steps,
        arguments=data_arguments,
    )
    ids = _Ids(sample_ids, feed.samples)
    done = samples = 0
    try:
        with writer, subject.watched(writer), _show_progress(feed.total, verbose) as show:
            for attached in feed.batches:
                batch, carried = subject.take_ids(attached)
                seen = subject.see(batch)
                if not done:
                    writer.hints = seen.hints
                    writer.run = subject.describe()
                    epoch = _count_passes(writer.log_dir, phase) if epoch is None else epoch
                given = ids.take(batch.size)
                found = _choose(seen, chosen, carried if given is None else given)
                if inputs is not None:
                    found["inputs"] = _choose_shown(inputs, batch.x)
                writer.add_batch(phase=phase, step=step, epoch=epoch or 0, index=done, **found)
                step = None
                done += 1
                samples += batch.size
                show(done)
            if not done:
                raise ArgumentError("data must have at least one batch. Received: none.")
            ids.check_end(samples if steps is None else None)
    except BaseException as error:
        if done and hasattr(error, "add_note"):  # From Python 3.11 on.
            error.add_note(
                f"tb_batchview: the {done} batches ({samples} samples) before this error are in {writer.log_dir} and "
                "can be read."
            )
        raise
    run = _find_run(writer.log_dir)
    if run is None or phase not in run.phases:
        raise BatchViewError(
            f"Nothing could be recorded in {writer.log_dir}: "
            f"{'; '.join(warning.message for warning in writer.warnings) or 'no batch was written'}"
        )
    return run


class _Subject:
    """What makes the predictions: a model of Keras, or any function.

    Of a compiled model it is the recorder (`capture.step.Recorder`) of one
    `test_on_batch` for each batch.
    """

    # As a recorder: no layers, no gradients, no inputs.
    layers = None
    histogram_freq = 0
    gradients = False
    inputs = None
    sample_ids: str | int | None = None
    layer_names: frozenset[str] = frozenset()
    tag_names: frozenset[str] = frozenset()

    def __init__(self, model: Any) -> None:
        self._model = model
        self._is_keras = isinstance(model, keras.Model)
        if not self._is_keras and not callable(model):
            raise ArgumentError(
                f"model must be a keras.Model, or a function of a batch of inputs. Received: model={in_brief(model)}."
            )
        replicas = getattr(getattr(model, "distribute_strategy", None), "num_replicas_in_sync", 1)
        if self._is_keras and replicas > 1:
            raise ArgumentError(
                f"model must be on one replica. Received: a model of {replicas} replicas. Call model.evaluate with "
                "BatchViewCallback(log_dir, record=['validation']), which records the same."
            )
        self._step: TappedStep | None = None
        self._seen: list[Observed] = []
        self._writer: BatchWriter | None = None

    def describe(self) -> dict[str, str]:
        """Return what the viewer is told of the model."""
        if self._is_keras:
            return describe_model(self._model)
        return {"model": getattr(self._model, "__name__", type(self._model).__name__)}

    @contextlib.contextmanager
    def watched(self, writer: BatchWriter) -> Iterator[None]:
        """Watch the model's evaluation, and leave all as it was found."""
        self._writer = writer
        if not self._is_keras:
            yield
            return
        with left_as_found(self._model):
            try:
                if self._model.compiled:
                    self._step = install(self._model, _EVALUATE, self)
                yield
            finally:
                if self._step is not None:
                    self._step.leave(self)

    def take_ids(self, batch: Batch) -> tuple[Batch, Array | None]:
        """Return a batch without the ids that its inputs may carry, and these."""
        problems: list[str] = []
        x, ids = take_attached(batch.x, batch.size, problems)
        for problem in problems:
            self.complain(problem)
        return batch._replace(x=x), ids

    def see(self, batch: Batch) -> Observed:
        """Put a batch through the model, once."""
        if not self._is_keras:
            outputs = keras.tree.map_structure(to_array, structured(self._model(batch.x)))
            for leaf in keras.tree.flatten(outputs):
                if leaf.dtype.kind in "OSTUMmc" or leaf.shape[:1] != (batch.size,):
                    raise ArgumentError(
                        "model must return numbers, one row per sample. Received: an array of dtype "
                        f"{leaf.dtype} and shape {leaf.shape} for {batch.size} samples."
                    )
            return self._predicted(outputs, batch)
        x = keras.tree.map_structure(_native, batch.x)
        # Tensors also of a step that runs eagerly, which would see arrays as they are.
        y, sample_weight = (keras.tree.map_structure(_to_tensor, part) for part in (batch.y, batch.sample_weight))
        batch = Batch(x, y, sample_weight, batch.size)
        # Texts for targets are an error soon; the loss would complain of them first, at length.
        if self._step is not None and not all(_is_text(leaf) for leaf in keras.tree.flatten(y)):
            seen = self._evaluate(self._step, batch)
            if seen is not None:
                return seen
            self._step.leave(self)
            self._step = None
        return self._predicted(self._model.predict_on_batch(batch.x), batch)

    def _evaluate(self, step: TappedStep, batch: Batch) -> Observed | None:
        """Return what `test_step` saw, None where that does not tell."""
        self._seen.clear()
        step.arm(self, fitting=False)
        problem = "its test_step shows no predictions with their targets"
        try:
            self._model.test_on_batch(batch.x, batch.y, batch.sample_weight)
        except Exception as error:
            # If the model is to blame, predict_on_batch says so in the open.
            problem = f"{type(error).__name__}: {error}"[:500]
        for seen in self._seen:
            for found in seen.problems:
                self.complain(found)
            if any(output.predictions is not None and output.targets is not None for output in seen.outputs.values()):
                return seen
        if has_loss(self._model):
            self.complain(
                f"Predictions are recorded without loss and metrics, for the model cannot be evaluated: {problem}."
            )
        return None

    def _predicted(self, outputs: Any, batch: Batch) -> Observed:
        """Return predictions that are there, with their targets."""
        seen = observe_predictions(self._model, outputs, batch.y, batch.sample_weight)
        if all(output.targets is None for output in seen.outputs.values()):
            kinds = keras.tree.map_structure(lambda leaf: str(getattr(leaf.dtype, "name", leaf.dtype)), batch.y)
            raise ArgumentError(
                "Targets must be numbers, one row per sample, in the structure of the outputs "
                f"{', '.join(seen.outputs)}. Received: y of {kinds}."
            )
        for found in seen.problems:
            self.complain(found)
        return seen

    def receive(self, phase: str, observations: list[Observation]) -> None:
        """Take what the step saw."""
        self._seen = [seen for observation in observations for seen in observation.read()]

    def complain(self, message: str) -> None:
        """Warn once of what cannot be recorded."""
        assert self._writer is not None
        self._writer.warn("capture", message)


class _Ids:
    """Ids of samples, handed out in the order of the data."""

    def __init__(self, ids: Any, samples: int | None) -> None:
        if ids is not None and (isinstance(ids, (str, bytes)) or not isinstance(ids, Iterable)):
            raise ArgumentError(
                f"sample_ids must have one id for each sample. Received: sample_ids={in_brief(ids)}. "
                "Give a list or an array."
            )
        self._count = len(ids) if isinstance(ids, Sized) else None
        self._rest = None if ids is None else iter(ids)
        self.check_end(samples)

    def take(self, size: int) -> Array | None:
        """Return the ids of the next samples."""
        if self._rest is None:
            return None
        taken = list(itertools.islice(self._rest, size))
        if len(taken) < size:
            raise ArgumentError(
                f"sample_ids must have one id for each sample. Received: {len(taken)} ids more for a batch of {size}."
            )
        return np.asarray(taken)

    def check_end(self, samples: int | None) -> None:
        """Raise where there are more or fewer ids than samples, if known."""
        if None not in (samples, self._count) and self._count != samples:
            raise ArgumentError(
                f"sample_ids must have one id for each sample. Received: {self._count} ids for {samples} samples."
            )


def _check_outputs(outputs: str | Iterable[Any] | None) -> tuple[str, ...] | None:
    if outputs is None:
        return None
    names = (outputs,) if isinstance(outputs, str) else tuple(outputs)
    if not names or not all(isinstance(name, str) for name in names):
        raise ArgumentError(f"outputs must be names of outputs. Received: outputs={in_brief(outputs)}.")
    return names


def _choose(seen: Observed, chosen: Sequence[str] | None, ids: Array | None) -> dict[str, Any]:
    """Return what `add_batch` takes, of the outputs that are wanted."""
    unknown = sorted(set(chosen or ()) - set(seen.outputs))
    if unknown:
        raise ArgumentError(
            f"outputs must be names of outputs. Received: {unknown}. There are: {', '.join(seen.outputs)}."
        )
    fields: dict[str, Any] = {}
    for name, output in seen.outputs.items():
        if chosen is None or name in chosen:
            for field, array in output.arrays().items():
                fields.setdefault(field, {})[name] = array
    if ids is not None:
        fields["sample_ids"] = ids
    return fields | {"loss": seen.loss, "metrics": seen.metrics}


def _choose_shown(inputs: Any, x: Any) -> Any:
    """Return what `add_batch` keeps pictures or texts of.

    Args:
        inputs: "thumbnails" or the user's function.
        x: Inputs of a batch.
    """
    # Copied: a function may work in place, and these are the user's own arrays.
    x = keras.tree.map_structure(_copy_given, x)
    if callable(inputs):
        return keras.tree.map_structure(lambda leaf: to_array(leaf) if hasattr(leaf, "detach") else leaf, inputs(x))
    leaves = [leaf for leaf in keras.tree.flatten(x) if leaf is not None]
    shown = leaves[0] if len(leaves) == 1 else find_shown(leaves)
    if shown is None:
        raise ArgumentError(NOTHING_SHOWN)
    return shown


def _copy_given(leaf: Any) -> Any:
    """Return an input as a callback's function is given it."""
    if leaf is None:
        return None
    array = np.array(to_array(leaf))
    if array.dtype.kind in "OS":
        texts = [text.decode("utf-8", "replace") if isinstance(text, bytes) else text for text in array.ravel()]
        array = np.array(texts, object).reshape(array.shape)
    return array


def _find_run(log_dir: str) -> Run | None:
    """Return the run that a directory holds, if it does."""
    try:
        return load(log_dir).get(".")
    except NotFoundError:
        return None


def _count_passes(log_dir: str, phase: str) -> int:
    """Return how many passes of a phase a directory holds."""
    local = not address.is_remote(log_dir)
    run = None if local and not os.path.isdir(os.path.join(log_dir, metadata.DIRECTORY)) else _find_run(log_dir)
    return 0 if run is None or phase not in run.phases else run.batches(phase)[-1].epoch + 1


def _native(leaf: Any) -> Any:
    """Return a tensor of another backend than the model's as an array."""
    library = type(leaf).__module__.partition(".")[0]
    foreign = library in ("tensorflow", "torch") and library != keras.backend.backend()
    return to_array(leaf) if foreign else leaf


def _is_text(leaf: Any) -> bool:
    return str(getattr(leaf, "dtype", "")) in ("<dtype: 'string'>", "string")


def _to_tensor(leaf: Any) -> Any:
    return leaf if leaf is None else keras.ops.convert_to_tensor(_native(leaf))


@contextlib.contextmanager
def _show_progress(total: int | None, verbose: int | str) -> Iterator[Any]:
    """Yield what is to be told how many batches are done."""
    if not verbose or (verbose == "auto" and not _is_looked_at()):
        yield lambda done: None
        return
    bar = keras.utils.Progbar(total, unit_name="batch")
    last = 0

    def show(done: int) -> None:
        nonlocal last
        last = done
        bar.update(done, finalize=False)

    yield show
    bar.update(last, finalize=True)


def _is_looked_at() -> bool:
    screen: Any = sys.stdout  # None where Python has no console.
    ipython: Any = sys.modules.get("IPython")
    # A notebook's shell has a kernel, that of a terminal has none.
    in_notebook = ipython is not None and hasattr(ipython.get_ipython(), "kernel")
    return in_notebook or (screen is not None and screen.isatty())
