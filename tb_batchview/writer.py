"""`BatchWriter`: takes batches from any training loop and writes them.

The Keras callback hands over thunks, other loops arrays. A thread of its own
evaluates, encodes and writes; training only pays for putting it in a queue.
Calls `arguments`, `specs`, `encode`, `earlier`, `eventfile`, `handoff` and, for
what is remote, `storage`.
"""

from __future__ import annotations

import atexit
import collections
import contextlib
import dataclasses
import importlib
import math
import threading
import time
import warnings
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from os import PathLike
from types import MappingProxyType, TracebackType
from typing import Any

import numpy as np

from tb_batchview import address, arguments, encode, metadata, tasks, tfrecord, thumbnails
from tb_batchview.earlier import ARCHITECTURE, Earlier, LocalStorage
from tb_batchview.errors import ArgumentError, BatchViewError, BatchViewWarning
from tb_batchview.eventfile import EventFile
from tb_batchview.handoff import Handoff
from tb_batchview.records import (
    Array,
    BatchRecord,
    GradientSummary,
    LayerSummary,
    OutputRecord,
    OutputSpec,
    check_count,
    check_name,
)
from tb_batchview.specs import SpecBook
from tb_batchview.storage import RemoteStorage
from tb_batchview.tasks import TaskHint
from tb_batchview.thumbnails import NewInputs, Thumbnails
from tb_batchview.version import __version__

# How often what was written is handed to the operating system.
FLUSH_SECONDS = 1.0
# Different messages counted; further ones are counted as one.
_MAX_MESSAGES = 20
# Seconds that another writer of the same directory is waited for.
_MOST_WAIT = 10.0
_MB = 1 << 20


class BatchWriter:
    """Write batches to event files that the viewer reads while it grows.

    For training loops of any library: arrays are NumPy's or what
    `numpy.asarray` takes. TensorFlow is not needed.

    The file is opened with the first batch, in `<log_dir>/batchview/`; steps
    go on where earlier files of that directory ended. What cannot be written
    (no permission, a full disk) is warned of once and counted; it never
    raises. After `close` the writer can be used again: the next batch opens a
    new file. A forked child process must make a writer of its own; what it
    puts into its parent's is discarded.

    Several processes that train one model, each on its share of a batch, write
    into one `log_dir`, each with a writer of its own: the viewer joins the
    shares of a step. Make the writer before the first step of training: what
    the other workers wrote by then counts as an earlier training, which is
    gone on from.

    In a remote store the batches are sent in segments, every 30 seconds at
    first, by a thread; see docs/guides/remote.md.

    Where `log_dir` holds the run of another model (another "architecture" in
    its `run`), `<log_dir>-2` is written, or the next that is free, and a
    warning says so.

    Example:
    ```python
    with BatchWriter("logs/first", class_names=["cat", "dog"]) as writer:
        for x, y in batches:
            scores = step(x, y)
            writer.add_batch(predictions=scores, targets=y, loss=0.3)
    ```

    Args:
        log_dir: Directory of the run: str or os.PathLike, or the address of
            one in a remote store, such as s3://bucket/run.
        class_names: Names of the classes in the order of their numbers, or a
            dict of them by output name.
        task: "auto" (told from the hints, else from the first batch),
            "multiclass", "binary", "multilabel" or "regression", or a dict by
            output name.
        update_freq: Arrays are kept of every n-th batch of each phase; loss
            and metrics of every one.
        top_k: Keep only the k largest scores of each sample.
        max_pending_mb: How many megabytes may wait to be written.
        on_full: What happens when they do: "wait", or "drop" the batch, which
            is counted and shown.
        run: What is constant about the run, for the viewer: model, versions.
            "architecture" tells models apart: a text that is the same for
            the same model.
        worker: Number of this process, from 0: JAX's `process_index`, the
            rank of PyTorch, the `task_id` of TensorFlow's workers.
        workers: How many train together: `process_count`, world size.

    Raises:
        ArgumentError: (a `ValueError`) An argument is not what it must be, or
            a package for a remote store is missing.
        BatchViewError: A remote store cannot be written.
    """

    def __init__(
        self,
        log_dir: str | PathLike[str],
        *,
        class_names: Sequence[str] | Mapping[str, Sequence[str]] | None = None,
        task: str | Mapping[str, str] = "auto",
        update_freq: int = 1,
        top_k: int | None = None,
        max_pending_mb: float = 256,
        on_full: str = "wait",
        run: Mapping[str, str] | None = None,
        worker: int = 0,
        workers: int = 1,
    ) -> None:
        self._worker, self._workers = arguments.check_workers(worker, workers)
        self._log_dir = arguments.check_log_dir(log_dir)
        self._book = SpecBook(arguments.check_class_names(class_names), arguments.check_task(task))
        self._update_freq = check_count("update_freq", update_freq)
        self._top_k = None if top_k is None else check_count("top_k", top_k)
        if isinstance(max_pending_mb, bool) or not isinstance(max_pending_mb, (int, float)) or not max_pending_mb > 0:
            raise ArgumentError(
                f"max_pending_mb must be a number above 0. Received: max_pending_mb={max_pending_mb!r}."
            )
        if on_full not in ("wait", "drop"):
            raise ArgumentError(f"on_full must be 'wait' or 'drop'. Received: on_full={on_full!r}.")
        self._wait = on_full == "wait"
        self._run = arguments.check_run(run)
        # One `add_batch` at a time. The thread never takes it: it is held
        # while a full queue is waited for.
        self._adding = threading.RLock()
        # Guards specs and steps; held while older files are read.
        self._lock = threading.RLock()
        # Guards the counts, briefly.
        self._counting = threading.RLock()
        self._last: dict[str, int] = {}
        # By phase: the epoch, and the number of its next batch.
        self._following: dict[str, tuple[int, int]] = {}
        # What of it is in files.
        self._reached: dict[str, int] = {}
        self._scanned: set[str] = set()
        self._stale = True
        # Whether it is decided where to write, and whether anything depends on it.
        self._settled = self._used = False
        self._seen: collections.Counter[str] = collections.Counter()
        self._counts: collections.Counter[tuple[str, str]] = collections.Counter()
        self._dropped = 0
        self._skipped: dict[str, int] = {}
        self._unwritable = False
        self._thumbnails = Thumbnails(thumbnails.BUDGET_BYTES)
        # Closed files with pictures that are not written once more, and why there are none of some batches.
        self._shown_in: list[tuple[str, str]] = []
        self._not_shown = ""
        self._strays: dict[str, str] = {}  # what was said of them, by output
        # What the viewer was told of the counts, and what older files were.
        self._told: collections.Counter[tuple[str, str]] = collections.Counter()
        self._file: EventFile | None = None
        self._begin()
        remote = address.is_remote(self._log_dir)
        self._storage: LocalStorage = RemoteStorage(self._log_dir, self._count) if remote else LocalStorage()
        self._earlier = Earlier(self._log_dir, self._worker, self._workers, self._storage)
        limit = math.inf if math.isinf(max_pending_mb) else max_pending_mb * _MB
        self._handoff = Handoff(limit, idle=self._idle, finish=self._finish, may_rest=self._may_rest)
        _open_writers.add(self)
        self.await_others()
        # Handlers run from the last to the first: ours before those of the
        # libraries loaded by now, which the waiting thunks need.
        atexit.unregister(_close_writers)
        atexit.register(_close_writers)
        if remote:
            _close_before_pools_end()

    @property
    def hints(self) -> Mapping[str, TaskHint]:
        """What losses say about each output, by output name."""
        return self._book.hints

    @hints.setter
    def hints(self, hints: Mapping[str, TaskHint]) -> None:
        self._book.hints = MappingProxyType({name: TaskHint(*hint) for name, hint in hints.items()})

    @property
    def run(self) -> Mapping[str, str]:
        """What is constant about the run, for the viewer."""
        return MappingProxyType(self._run)

    @run.setter
    def run(self, run: Mapping[str, str]) -> None:
        checked = arguments.check_run(run)
        if checked != self._run:
            told = {constants.get(ARCHITECTURE, "") for constants in (checked, self._run)} - {""}
            if len(told) > 1:
                # Where the training of the model before was interrupted, what waits is still of that one.
                self.close()
            with self._lock:
                self._run = checked
                self._encoder = self._new_encoder()
                self._settled = self._settled and self._used

    @property
    def log_dir(self) -> str:
        """Where is written: another directory if that held another model."""
        with self._lock:
            self._settle()
            return self._log_dir

    @property
    def last_steps(self) -> Mapping[str, int]:
        """The last step of each phase, earlier files included."""
        with self._lock:
            return MappingProxyType(dict(self._continue()))

    @property
    def seen(self) -> Mapping[str, int]:
        """Batches taken so far, by phase, dropped ones included."""
        with self._counting:
            return MappingProxyType(dict(self._seen))

    @property
    def dropped(self) -> int:
        """Batches that were not written."""
        return self._dropped

    @property
    def warnings(self) -> tuple[metadata.Status, ...]:
        """What went wrong so far, each with its count."""
        with self._counting:
            return tuple(metadata.Status(kind, message, count) for (kind, message), count in self._counts.items())

    def add_batch(
        self,
        *,
        step: int | None = None,
        phase: str = "train",
        epoch: int = 0,
        index: int | None = None,
        predictions: Any = None,
        targets: Any = None,
        loss: float = math.nan,
        metrics: Mapping[str, float] | None = None,
        sample_loss: Any = None,
        sample_weight: Any = None,
        sample_ids: Any = None,
        inputs: Any = None,
        histograms: Mapping[str, Any] | None = None,
        gradients: Mapping[str, Any] | None = None,
        wall_time: float | None = None,
    ) -> None:
        """Record one batch.

        Arrays are copied; a loop may use its buffers again. A model with
        several outputs gives dicts of arrays by output name.

        Args:
            step: Number of the batch in its phase since the run began,
                greater than the last; None is the next one.
            phase: "train", "validation" or "predict".
            epoch: From 0.
            index: Number of the batch within its epoch; None counts the
                batches of the same epoch.
            predictions: What the loss saw, shape (samples, ...).
            targets: What it was compared with, shape (samples, ...).
            loss: The batch's own loss.
            metrics: The batch's own metrics by name.
            sample_loss: Loss of each sample, shape (samples,).
            sample_weight: Weight of each sample, shape (samples,).
            sample_ids: Integers or strings, shape (samples,).
            inputs: What the samples were: pictures, shape (samples, height,
                width) or with 1, 3 or 4 channels, uint8 or of other numbers
                whose range is found, or a list of str. Small pictures of them
                are kept, of each id one; see docs/guides/inputs.md.
            histograms: By layer name: the layer's values, shape
                (samples, ..., units), or a `LayerSummary`. Where the units
                (channels) are an earlier axis, as with PyTorch's
                convolutions, move it: `output.movedim(1, -1)`.
            gradients: By layer name: the gradient of the loss, an array or a
                list of one for each weight, of any shapes, or a
                `GradientSummary`.
            wall_time: End of the step in seconds since 1970; None is now.

        Raises:
            ArgumentError: (a `ValueError`) An argument is not what it must be.
        """
        outputs = arguments.output_records(
            predictions=predictions,
            targets=targets,
            sample_loss=sample_loss,
            sample_weight=sample_weight,
            sample_ids=sample_ids,
        )
        layers = {name: arguments.layer_values(name, values) for name, values in (histograms or {}).items()}
        slopes = {name: arguments.gradient_values(name, values) for name, values in (gradients or {}).items()}
        shown = None if inputs is None else arguments.input_values(inputs)
        sizes = {array.shape[0] for output in outputs.values() for array in _arrays(output)}
        if len(sizes) > 1:
            raise ArgumentError(f"All outputs must have the same number of samples. Received: {sorted(sizes)}.")
        if shown is not None and sizes.union({len(shown)}) != {len(shown)}:
            raise ArgumentError(f"inputs must be one per sample. Received: {len(shown)} of {sizes.pop()} samples.")
        epoch = check_count("epoch", epoch, least=0)
        record = BatchRecord(
            phase=phase,
            step=None if step is None else check_count("step", step, least=0),
            epoch=epoch,
            index=-1 if index is None else check_count("index", index, least=0),
            size=sizes.pop() if sizes else 0 if shown is None else len(shown),
            wall_time=time.time() if wall_time is None else arguments.number("wall_time", wall_time),
            loss=arguments.number("loss", loss),
            metrics={
                check_name("metric", name): arguments.number(name, value) for name, value in (metrics or {}).items()
            },
            outputs=outputs,
            inputs=shown,
        )
        held = [array for output in outputs.values() for array in _arrays(output)]
        held += [value for value in (*layers.values(), *slopes.values()) if isinstance(value, np.ndarray)]
        held += [] if shown is None else [shown] if isinstance(shown, np.ndarray) else shown
        nbytes = sum(array.nbytes for array in held)
        if shown is not None and thumbnails.is_text(shown):
            nbytes += sum(map(len, shown))
        # Steps are put in the order in which they are given out.
        with self._adding:
            with self._lock:
                self._book.tell(outputs)
                record = self._place(record)
                specs = self._book.specs()
            job = _Job(self, 1, phase, record=record, specs=specs)
            if layers or slopes:
                job.make_records = lambda: (_summarised(record, layers, slopes),)
            self._put(job, max(nbytes, 1))

    def submit(
        self,
        make_records: Callable[[], Iterable[BatchRecord]],
        *,
        nbytes: int,
        batches: int = 1,
        phase: str | None = None,
    ) -> bool:
        """Hand over batches that the writer's thread will fetch.

        Never raises; costs an append. Records without a step get the next.

        Args:
            make_records: Called in the thread, in order: copies from the
                device and makes the records.
            nbytes: What it holds in memory until then.
            batches: How many records it makes.
            phase: Of its batches. When known, the steps of batches that are
                lost are left out, so that the gap shows.

        Returns:
            Whether it was taken; False when it was dropped.
        """
        return self._put(_Job(self, batches, phase, make_records), max(nbytes, 1))

    def warn(self, kind: str, message: str) -> None:
        """Count a problem, warn of it once, and tell the viewer.

        Args:
            kind: One of `metadata.STATUS_KINDS`.
            message: One sentence.
        """
        self._count(kind, message)

    def flush(self, timeout: float | None = None) -> bool:
        """Wait until everything so far is written; False if it is not.

        In a remote `log_dir` this makes an object of what there is, so that
        others can read it: not for every batch.

        Args:
            timeout: Seconds to wait at most; None waits as long as it takes,
                for a remote store as long as `close` does.
        """
        if self._handoff.is_foreign():
            return False
        deadline = None if timeout is None else time.monotonic() + timeout
        if not self._handoff.is_idle() and not (
            self._handoff.put(self._publish, 0, wait=True) and self._handoff.drain(timeout) and not self._unwritable
        ):
            return False
        return self._storage.wait(None if deadline is None else max(0.0, deadline - time.monotonic()))

    def await_others(self) -> None:
        """Have other writers of this process to the same log_dir write what waits.

        A training that crashed ends no writer, and the next one goes on after
        what is in the files.
        """
        for other in list(_open_writers):
            if other is not self and other._earlier.log_dir == self._earlier.log_dir:
                other.flush(_MOST_WAIT)

    def close(self) -> None:
        """Write what waits, end the thread and close the file.

        What waits to be sent to a remote store is waited for, for 10 minutes at
        most and only while something arrives in each: a warning then says what
        is missing, and where it lies on the local disk.
        """
        if not self._handoff.is_foreign() and self._counts != self._told and self._handoff.is_idle():
            # Warnings alone: they still are for the viewer to tell.
            self._handoff.put(self._flush, 0, wait=True)
        self._handoff.close()
        self._unwritable = False

    def __enter__(self) -> BatchWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    # --- called by any thread, with the lock ---

    def _continue(self) -> dict[str, int]:
        """Return the last steps; of other writers' files too, at first."""
        self._settle()
        if self._stale:
            self._stale = False
            names = [name for name in self._earlier.files(self._log_dir) if name not in self._scanned]
            self._scanned.update(names)
            for phase, step in self._storage.last_steps(self._log_dir, names).items():
                self._last[phase] = max(step, self._last.get(phase, -1))
                self._reached[phase] = max(step, self._reached.get(phase, -1))
        return self._last

    @property
    def _directory(self) -> str:
        return self._storage.directory(self._log_dir)

    def _settle(self) -> None:
        """Decide where to write: not into the run of another model."""
        if self._settled:
            return
        self._settled = True
        before, given = self._log_dir, self._earlier.log_dir
        self._log_dir = self._earlier.choose(self._run.get(ARCHITECTURE, ""))
        if self._log_dir != before:
            self._last, self._reached, self._following, self._scanned = {}, {}, {}, set()
            self._stale = True
        if self._log_dir != given:
            given, here = address.hide_secrets(given), address.hide_secrets(self._log_dir)
            self._count(
                "write",
                f"{given} holds batches of another model: those of this one are in {here}. "
                "Give each model a log_dir of its own.",
            )

    def _place(self, record: BatchRecord) -> BatchRecord:
        """Return a record with its step, which is then the last one."""
        last = self._continue().get(record.phase, -1)
        step = last + 1 if record.step is None else record.step
        if step <= last:
            raise ArgumentError(
                f"step must be greater than {last}, the last one of phase {record.phase!r} in this log_dir. "
                f"Received: step={step}. Leave it out to go on, or use another log_dir."
            )
        self._continue()[record.phase] = step
        self._used = True
        epoch, following = self._following.get(record.phase, (record.epoch, 0))
        counted = following if epoch == record.epoch else 0
        index = counted if record.index < 0 else record.index
        self._following[record.phase] = (record.epoch, index + 1)
        # Not replace(): for every batch that is slow.
        return BatchRecord(
            record.phase,
            step,
            record.epoch,
            index,
            record.size,
            record.wall_time,
            record.loss,
            record.metrics,
            record.outputs,
            record.layers,
            record.gradients,
            record.inputs,
        )

    def _put(self, job: _Job, nbytes: int) -> bool:
        """Hand a job over, or count its batches as dropped."""
        if not self._unwritable:
            # Those that were dropped just before it.
            job.skipped, self._skipped = self._skipped, {}
            if self._handoff.put(job, nbytes, wait=self._wait):
                return True
            self._skipped = job.skipped
            if self._handoff.is_foreign():
                return False
            self._count("dropped", "Batches were dropped because writing could not keep up.", job.batches)
        with self._counting:
            self._dropped += job.batches
            if job.phase is not None:
                self._seen[job.phase] += job.batches
        if job.phase is not None and job.specs is None:
            self._skipped[job.phase] = self._skipped.get(job.phase, 0) + job.batches
        return False

    def _count(self, kind: str, message: str, count: int = 1) -> None:
        """Count a problem; warn the first time."""
        with self._counting:
            if (kind, message) not in self._counts and len(self._counts) >= _MAX_MESSAGES:
                message = "There were further problems."
            first = (kind, message) not in self._counts
            self._counts[kind, message] += count
        if first:
            # Where warnings are made errors training still goes on.
            with contextlib.suppress(Warning):
                warnings.warn(f"tb_batchview: {message}", BatchViewWarning, stacklevel=3)

    # --- called by the writer's thread alone ---

    def _write(self, job: _Job) -> None:
        """Fetch and write the batches of a job; never raises."""
        reached = written = 0
        try:
            with self._lock:
                for phase, batches in job.skipped.items():
                    self._skip(phase, batches)
            if not self._unwritable:
                for record in job.records():
                    record, specs = self._prepare(record, job.specs)
                    reached += 1
                    written += self._write_batch(record, specs)
        except BaseException as error:
            self._count("capture", f"A batch could not be recorded: {_describe(error)}")
        with self._counting:
            self._dropped += max(job.batches, reached) - written
        missing = job.batches - reached
        if missing > 0 and job.phase is not None:
            with self._counting:
                self._seen[job.phase] += missing
            if job.specs is None:
                with self._lock:
                    self._skip(job.phase, missing)

    def _skip(self, phase: str, batches: int) -> None:
        """Leave out steps."""
        last = self._continue()
        last[phase] = last.get(phase, -1) + batches
        self._used = True

    def _prepare(
        self, record: BatchRecord, specs: Mapping[str, OutputSpec] | None
    ) -> tuple[BatchRecord, Mapping[str, OutputSpec]]:
        """Give a record its step and specs, where the caller did not."""
        if specs is not None:
            return record, specs
        with self._lock:
            wrong = self._book.tell_anyhow(record.outputs)
            if wrong:
                self._count("capture", wrong)
            return self._place(record), self._book.specs()

    def _write_batch(self, record: BatchRecord, specs: Mapping[str, OutputSpec]) -> bool:
        """Encode a batch and append it; False if that failed."""
        with self._counting:
            number = self._seen[record.phase]
            self._seen[record.phase] += 1
        try:
            if number % self._update_freq:
                record = dataclasses.replace(record, outputs={}, inputs=None)
            remote = self._storage.is_remote
            if remote and not self._storage.make_room(self._file, _nbytes(record), wait=self._wait):
                self._count("dropped", "Batches were dropped because those before them could not be sent in time.")
                return False
            record, kept = self._show(record)
            self._mind_strays(record, specs)
            event = self._encoder.encode_pieces(record, specs, self._top_k)
            size = sum(map(len, event))
            if size > tfrecord.MAX_PAYLOAD_BYTES:
                raise BatchViewError(f"A batch must have fewer than 2 GiB. Received: {size} bytes.")
            self._append(event)
        except OSError as error:
            self._fail(error)
        except Exception as error:
            self._count("write", f"A batch could not be written: {_describe(error)}")
        else:
            self._unflushed += 1
            self._reached[record.phase] = max(record.step or 0, self._reached.get(record.phase, -1))
            if kept is not None:
                self._thumbnails.remember(kept)
                self._shows = True
            if self._file is not None:
                self._file.batches += 1
                if self._file.is_due:
                    self._end_file()
            return True
        return False

    def _mind_strays(self, record: BatchRecord, specs: Mapping[str, OutputSpec]) -> None:
        """Count targets that are no class: they would be missed by nobody."""
        for name, output in record.outputs.items():
            strays = tasks.find_strays(name, specs[name], output)
            if strays:
                # As the first of each output has it: the number may differ from batch to batch.
                self._count("capture", self._strays.setdefault(name, strays))

    def _show(self, record: BatchRecord) -> tuple[BatchRecord, NewInputs | None]:
        """Make small pictures of a record's inputs, or leave them out."""
        if record.inputs is None:
            return record, None
        kept = None
        if not self._shows and not all(
            log_dir == self._log_dir and self._storage.holds(log_dir, name) for log_dir, name in self._shown_in
        ):
            # Gone, or another model's: what it had is to be written once more.
            self._forget_shown()
        try:
            known = (output.sample_ids for output in record.outputs.values() if output.sample_ids is not None)
            ids = next(map(encode.sample_ids, known), None)
            if self._thumbnails.is_full and self._thumbnails.lacks(record.phase, ids):
                most = thumbnails.BUDGET_BYTES >> 20
                self._count(
                    "capture",
                    f"Inputs are no longer recorded: those so far take the {most} MB that they may. The batches go on "
                    "without them.",
                )
            else:
                kept = self._thumbnails.make(record.phase, _inputs_of(record), ids)
        except Exception as error:
            # The first will do: what a function of the user's says may differ from batch to batch.
            self._not_shown = self._not_shown or f"The inputs of a batch could not be recorded: {_describe(error)}"
            self._count("capture", self._not_shown)
        return dataclasses.replace(record, inputs=None if kept is None else kept.values), kept

    def _forget_shown(self) -> None:
        """Write the picture of each id once more."""
        self._thumbnails.forget()
        self._shown_in.clear()

    def _append(self, event: Sequence[metadata.Payload]) -> None:
        if self._file is None:
            with self._lock:
                self._settle()
                self._used = True
                self._file = self._storage.create(self._log_dir, self._worker if self._workers > 1 else None)
        self._file.append(event)

    def _idle(self) -> None:
        """Flush about every second."""
        if time.monotonic() - self._flushed >= FLUSH_SECONDS:
            self._flush()

    def _publish(self) -> None:
        """Let everything so far be read, where the file stands in the way."""
        self._flush()
        if self._file is not None and self._file.is_segment:
            self._end_file()

    def _flush(self, *, alone: bool = False) -> None:
        """Hand everything to the operating system; never raises.

        Args:
            alone: Whether statuses may begin a segment, without a batch.
        """
        self._flushed = time.monotonic()
        if self._unwritable:
            return
        try:
            if alone or self._file is not None or not self._storage.is_remote:
                self._write_statuses()
            if self._file is not None:
                self._file.flush()
            self._unflushed = 0
        except OSError as error:
            self._fail(error)
        if self._file is not None and self._file.is_due:
            self._end_file()

    def _may_rest(self) -> bool:
        """Tell whether nothing is to be done without a further batch."""
        return self._file is None or not self._file.is_segment

    def _write_statuses(self) -> None:
        """Append a status for each count that has changed."""
        with self._counting:
            news = {key: count for key, count in self._counts.items() if self._told[key] != count}
            self._told.update({key: count - self._told[key] for key, count in news.items()})
            statuses = [
                metadata.Status(kind, message, count - self._before[kind, message], self._seen_here())
                for (kind, message), count in news.items()
            ]
        for status in statuses:
            self._write_status(status)

    def _write_status(self, status: metadata.Status) -> None:
        self._append([self._encoder.encode_status(status, step=self._statuses, wall_time=time.time())])
        self._statuses += 1

    def _seen_here(self) -> dict[str, int]:
        """Return the batches of each phase since this file began."""
        return {phase: count - self._seen_before[phase] for phase, count in self._seen.items()}

    def _fail(self, error: OSError) -> None:
        """Count a failure of the disk; give up a directory never opened."""
        file, directory = self._file, address.hide_secrets(self._directory)
        if (file is None or not file.is_open) and not self._storage.goes_on:
            self._unwritable = True
            message = f"Nothing is recorded: {directory} cannot be written ({_describe(error)})."
        else:
            message = f"Batches could not be written to {directory} ({_describe(error)})."
        self._count("write", message)
        with self._counting:
            self._dropped += self._unflushed
        self._unflushed = 0
        # The metadata may have been in what was lost: say it again.
        self._encoder = self._new_encoder()
        self._forget_shown()

    def _finish(self) -> None:
        """Close the file in order, so that the next batch opens another."""
        self._flush(alone=True)
        self._end_file()
        # The next training may be of another model.
        self._settled = self._used = False
        # Another writer may go on before this one does.
        self._stale = True
        rest = self._storage.finish()
        if rest:
            self._count("write", rest)
            with self._counting:
                # A file that tells it could not be sent either.
                self._told["write", rest] = self._counts["write", rest]

    def _end_file(self) -> None:
        """Close the file in order; the next one begins with nothing said."""
        try:
            if self._file is not None and not self._unwritable:
                last = self._reached if self._file.is_segment else {}
                try:
                    self._write_status(metadata.Status("closed", "", 1, self._seen_here(), dict(last)))
                finally:
                    # A segment is sent as far as it could be written.
                    self._file.close()
                self._scanned.add(self._file.name)
                if self._shows:
                    self._shown_in.append((self._log_dir, self._file.name))
        except OSError as error:
            self._fail(error)
        self._begin()

    def _begin(self) -> None:
        """Start with nothing said, for the next file."""
        self._file = None
        self._encoder = self._new_encoder()
        self._statuses = 0
        # Whether this file has pictures.
        self._shows = False
        self._unflushed = 0
        self._flushed = 0.0
        with self._counting:
            self._before = self._told.copy()
            self._seen_before = self._seen.copy()

    def _new_encoder(self) -> encode.EventEncoder:
        constants = {**self._run, "writer": f"tb_batchview {__version__}"}
        return encode.EventEncoder(constants, self._worker, self._workers)


@dataclasses.dataclass(slots=True)
class _Job:
    """Batches on their way to the thread, which calls it.

    Of few objects, no closures among them: many may wait, and Python's garbage
    collector looks at each again and again.

    Attributes:
        writer: Whose they are.
        batches: How many.
        phase: Of all of them, where known.
        make_records: Makes them, where they are not made yet.
        record: The only one, where it is.
        specs: Of their outputs, where the caller told them; then the steps
            are given too.
        skipped: Batches lost just before, by phase.
    """

    writer: BatchWriter
    batches: int
    phase: str | None
    make_records: Callable[[], Iterable[BatchRecord]] | None = None
    record: BatchRecord | None = None
    specs: Mapping[str, OutputSpec] | None = None
    skipped: dict[str, int] = dataclasses.field(default_factory=dict)

    def __call__(self) -> None:
        self.writer._write(self)

    def records(self) -> Iterable[BatchRecord]:
        """Return the batches."""
        if self.make_records is not None:
            return self.make_records()
        return () if self.record is None else (self.record,)


_open_writers: weakref.WeakSet[BatchWriter] = weakref.WeakSet()


def _close_writers() -> None:
    """Write what an interrupted training left."""
    for writer in list(_open_writers):
        writer.close()


def _close_before_pools_end() -> None:
    """Have writers closed while file systems can still look up hosts.

    What asyncio does in threads ends before `atexit` begins. There is no
    public way to be earlier; without this one the rest is not sent when
    nobody closed the writer, and is named.
    """
    global _closes_early
    register = getattr(threading, "_register_atexit", None)
    if register is not None and not _closes_early:
        # The last that is registered runs first, and this one comes with the pools.
        importlib.import_module("concurrent.futures.thread")
        with contextlib.suppress(RuntimeError):  # Python is ending.
            register(_close_writers)
        _closes_early = True


_closes_early = False


def _nbytes(record: BatchRecord) -> int:
    return sum(array.nbytes for output in record.outputs.values() for array in _arrays(output))


def _describe(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"[:300]


def _arrays(output: OutputRecord) -> list[Array]:
    return list(output.arrays().values())


def _inputs_of(record: BatchRecord) -> Callable[[], Array | list[Array]]:
    """Return what makes the inputs of a batch, checked."""

    def make() -> Array | list[Array]:
        inputs = record.inputs
        if callable(inputs):
            inputs = arguments.input_values(inputs())
        if len(inputs) != record.size:
            raise ArgumentError(f"inputs must be one per sample. Received: {len(inputs)} of {record.size} samples.")
        return inputs

    return make


def _summarised(
    record: BatchRecord, layers: Mapping[str, Array | LayerSummary], gradients: Mapping[str, Array | GradientSummary]
) -> BatchRecord:
    """Return a record with the summaries of its layers and gradients."""
    if not layers and not gradients:
        return record
    return dataclasses.replace(
        record,
        layers={
            name: values if isinstance(values, LayerSummary) else LayerSummary.of(values)
            for name, values in layers.items()
        },
        gradients={
            name: values if isinstance(values, GradientSummary) else GradientSummary.of(values)
            for name, values in gradients.items()
        },
    )
