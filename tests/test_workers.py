"""Several workers record one training: their shares of a step become one batch."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st
from recorded import CLASSES, TIME, append, event_file, frames, make_record, make_scores, make_summary, write
from tensorboard.backend.application import TensorBoardWSGI
from tensorboard.plugins import base_plugin
from werkzeug.test import Client

from tb_batchview import answers, cli, encode, layouts, metadata, places, tasks, tfrecord
from tb_batchview.errors import ArgumentError, FormatError
from tb_batchview.log import load
from tb_batchview.plugin import BatchViewPlugin
from tb_batchview.records import BatchRecord, GradientSummary, OutputRecord, OutputSpec
from tb_batchview.store import RunStore
from tb_batchview.views import PhaseView, RunView
from tb_batchview.writer import BatchWriter

# Everything twice: with columns in memory and in files.
pytestmark = pytest.mark.usefixtures("columns_in")

ROOT = Path(__file__).parent.parent
DEADLINE = 120
SCORES = np.array([[0.5, 0.25, 0.25], [0.125, 0.125, 0.75]], np.float32)
TARGETS = np.array([0, 1])
FIGURES = ("target", "predicted", "confidence", "target_score", "sample_loss")


def start(*command: Any) -> subprocess.Popen[str]:
    """Start a Python of its own on what is tested."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (ROOT, ROOT / "tests")))}
    return subprocess.Popen(
        [sys.executable, *map(str, command)],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(processes: Sequence[subprocess.Popen[str]]) -> None:
    """Wait for all; none is left behind."""
    try:
        for process in processes:
            _, errors = process.communicate(timeout=DEADLINE)
            assert process.returncode == 0, errors[-3000:]
    finally:
        for process in processes:
            with contextlib.suppress(OSError):
                process.kill()


def share(step: int, worker: int, *, samples: int | None = None, **changes: Any) -> BatchRecord:
    """Return what a worker has of a step: other samples, and other figures."""
    samples = 3 + (step + 2 * worker) % 4 if samples is None else samples
    record = make_record(1000 * worker + step, samples=samples)
    own = {"step": step, "epoch": step // 10, "index": step % 10, "wall_time": TIME + step + worker / 4}
    return BatchRecord(**{**vars(record), **own, **changes})


def write_worker(
    directory: Path, records: Sequence[BatchRecord], worker: int, workers: int = 2, **options: Any
) -> Path:
    return write(directory, records, worker=worker, workers=workers, **{"number": worker, **options})


def read_run(directory: Path) -> RunView:
    return RunStore(directory / metadata.DIRECTORY).refresh()


def joined(parts: Sequence[BatchRecord]) -> BatchRecord:
    """Return what one process would have recorded of the same samples."""
    sizes = [record.size for record in parts]
    outputs = {}
    for name in dict.fromkeys(name for record in parts for name in record.outputs):
        of_all = [record.outputs[name] for record in parts]
        fields = ("predictions", "targets", "sample_loss")
        outputs[name] = OutputRecord(**{field: np.concatenate([getattr(o, field) for o in of_all]) for field in fields})
    return make_record(
        parts[0].step or 0,
        epoch=parts[0].epoch,
        index=parts[0].index,
        phase=parts[0].phase,
        size=sum(sizes),
        wall_time=max(record.wall_time for record in parts),
        loss=float(np.average([record.loss for record in parts], weights=sizes)),
        metrics={"accuracy": float(np.average([record.metrics["accuracy"] for record in parts], weights=sizes))},
        outputs=outputs,
        layers=parts[0].layers,
    )


def join_records(*shards: Sequence[BatchRecord]) -> list[BatchRecord]:
    steps = sorted({record.step for records in shards for record in records if record.step is not None})
    return [joined([record for records in shards for record in records if record.step == step]) for step in steps]


def assert_holds(view: RunView, phase: PhaseView, records: Sequence[BatchRecord]) -> None:
    """Compare columns and arrays with records that one process could have written."""
    for name in ("step", "epoch", "index", "size", "wall_time"):
        assert getattr(phase, name).tolist() == [getattr(record, name) for record in records], name
    np.testing.assert_allclose(phase.field("loss"), [record.loss for record in records], rtol=1e-14)
    accuracy = [record.metrics["accuracy"] for record in records]
    np.testing.assert_allclose(phase.field("metrics/accuracy"), accuracy, rtol=1e-14)
    derived = [tasks.derive(OutputSpec("multiclass", CLASSES), record.outputs["scores"]) for record in records]
    samples = phase.outputs["scores"]
    for name in FIGURES[:-1]:
        np.testing.assert_array_equal(samples.column(name), np.concatenate([columns[name] for columns in derived]))
    losses = np.concatenate([record.outputs["scores"].sample_loss for record in records])  # type: ignore[misc]
    np.testing.assert_array_equal(samples.column("sample_loss"), losses)
    assert np.diff(samples.starts).tolist() == [record.size for record in records]
    for row, record in enumerate(records):
        for kind in ("predictions", "targets"):
            place = view.place(phase, row)
            array = places.read_array(place, place.layout.arrays["scores", kind])
            np.testing.assert_array_equal(array, getattr(record.outputs["scores"], kind))


# -- writing -----------------------------------------------------------------------------------------------------------

WORKER = """
import sys
from recorded import make_scores
from tb_batchview import BatchWriter

log_dir, worker, rounds = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
writer = BatchWriter(log_dir, worker=worker, workers=2)
print("made", flush=True)
for number in range(rounds):
    sys.stdin.readline()  # the test says whose turn it is
    for phase, count in (("train", 3), ("validation", 1)):
        for batch in range(count):
            scores, targets = make_scores(1000 * worker + 10 * number + batch, samples=2 + worker + batch)
            writer.add_batch(phase=phase, epoch=number, predictions=scores, targets=targets, loss=worker + batch)
    writer.flush()
    print("done", flush=True)
if len(sys.argv) > 4:
    import os
    os._exit(9)  # as a kill does: nothing is closed
writer.close()
"""


def take_turns(log_dir: Path, rounds: Sequence[int], *, kill: bool = False) -> None:
    """Let two processes write, the second one first."""
    workers = [start("-c", WORKER, log_dir, worker, rounds[worker], *["kill"] * kill) for worker in (0, 1)]
    try:
        for worker in workers:
            assert worker.stdout is not None
            assert worker.stdout.readline() == "made\n"
        for number in range(max(rounds)):
            for own, worker in reversed([*zip(rounds, workers, strict=True)]):
                if number < own:
                    assert worker.stdin is not None
                    assert worker.stdout is not None
                    print(file=worker.stdin, flush=True)
                    assert worker.stdout.readline() == "done\n"
    finally:
        for worker in workers:
            worker.communicate(timeout=DEADLINE)
    assert [worker.returncode for worker in workers] == [9 if kill else 0] * 2


def test_two_processes_record_one_run(tmp_path: Path) -> None:
    take_turns(tmp_path, (3, 3))

    run = load(tmp_path)["."]

    assert run.health.workers == 2
    assert run.health.warnings == ()
    train, validation = run.view.phases["train"], run.view.phases["validation"]
    assert [(len(phase), phase.seen) for phase in (train, validation)] == [(9, 9), (3, 3)]
    for row, batch in enumerate(run.batches("train")):
        number, place = divmod(row, 3)
        parts = [make_scores(1000 * worker + 10 * number + place, samples=2 + worker + place) for worker in (0, 1)]
        np.testing.assert_array_equal(batch.predictions, np.concatenate([scores for scores, _ in parts]))
        np.testing.assert_array_equal(batch.target, np.concatenate([targets for _, targets in parts]))
        sizes = [2 + place, 3 + place]
        assert (batch.step, batch.epoch, batch.index, batch.size) == (row, number, place, sum(sizes))
        assert batch.loss == pytest.approx((place * sizes[0] + (1 + place) * sizes[1]) / sum(sizes), rel=1e-14)


def test_a_resumed_training_goes_on_after_the_greatest_step_of_any_worker(tmp_path: Path) -> None:
    take_turns(tmp_path, (3, 2), kill=True)
    take_turns(tmp_path, (1, 2))

    run = load(tmp_path)["."]

    phase = run.view.phases["train"]
    of_worker = [shard.step.tolist() for shard in phase.shards]
    # Worker 1 was killed after six; both go on at nine, whoever writes first.
    assert of_worker == [[*range(9), 9, 10, 11], [*range(6), *range(9, 15)]]
    assert (len(phase), phase.seen) == (15, 15)
    assert [batch.size for batch in run.batches("train")][5:10] == [9, 2, 3, 4, 5]
    assert run.health.warnings == ()


def test_files_tell_the_worker(tmp_path: Path) -> None:
    for worker in (0, 1):
        with BatchWriter(tmp_path, worker=worker, workers=2) as writer:
            writer.add_batch(loss=1.0)

    names = sorted(os.listdir(tmp_path / "batchview"))

    assert [metadata.file_worker(name) for name in names] == [0, 1]
    assert all(metadata.is_event_file(name) for name in names)
    assert metadata.file_worker(metadata.file_name(1, "host.worker7", 2, 3)) == 7, "only a name: the content decides"
    assert metadata.file_worker(metadata.file_name(1, "host", 2, 3)) is None


def test_a_single_worker_writes_what_it_always_wrote(tmp_path: Path) -> None:
    assert b"worker" not in metadata.header_content("train", ("epoch",), {}, {})
    assert metadata.status_content() == b'{"version":1,"kind":"status"}'
    with BatchWriter(tmp_path) as writer:
        writer.add_batch(loss=1.0)

    assert "worker" not in os.listdir(tmp_path / "batchview")[0]
    assert load(tmp_path)["."].health.workers == 1


def test_a_worker_does_not_go_on_after_the_others_of_its_training(tmp_path: Path) -> None:
    writers = [BatchWriter(tmp_path, worker=worker, workers=3) for worker in range(3)]
    for _ in range(2):  # two trainings with the same writers
        for writer in writers:
            for _ in range(4):
                writer.add_batch(loss=1.0)
            writer.close()

    assert [dict(writer.last_steps) for writer in writers] == [{"train": 7}] * 3
    view = read_run(tmp_path)
    assert (view.phases["train"].step.tolist(), view.phases["train"].seen) == (list(range(8)), 8)


def test_a_worker_goes_on_after_a_run_of_one_process(tmp_path: Path) -> None:
    with BatchWriter(tmp_path) as writer:
        for _ in range(3):
            writer.add_batch(loss=1.0)
    writers = [BatchWriter(tmp_path, worker=worker, workers=2) for worker in range(2)]
    for writer in writers:
        writer.add_batch(loss=1.0)
        writer.close()

    assert [shard.step.tolist() for shard in read_run(tmp_path).phases["train"].shards] == [[0, 1, 2, 3], [3]]


def test_dropped_batches_of_two_workers_are_seen_once(tmp_path: Path) -> None:
    closed = [metadata.Status("closed", "", 1, {"train": seen}) for seen in (7, 6)]
    for worker in (0, 1):
        write_worker(tmp_path, [share(step, worker) for step in range(5)], worker, statuses=[closed[worker]])
    # A second training: the first two batches of each worker were dropped.
    later = metadata.Status("closed", "", 1, {"train": 4})
    for worker in (0, 1):
        records = [share(step, worker) for step in (9, 10)]
        write_worker(tmp_path, records, worker, number=2 + worker, statuses=[later])

    phase = read_run(tmp_path).phases["train"]

    assert (len(phase), phase.seen) == (7, 11)


@pytest.mark.parametrize(
    ("worker", "workers", "words"),
    [
        (-5, 2, "worker must be a whole number of at least 0. Received: worker=-5"),
        (7, 2, "worker must be below workers. Received: worker=7, workers=2. Number the processes from 0."),
        (0, 0, "workers must be a whole number of at least 1. Received: workers=0"),
        (True, 2, "worker must be a whole number"),
        (0, 10**9, "workers must be at most 1048576. Received: workers=1000000000."),
    ],
)
def test_wrong_workers_are_refused(tmp_path: Path, worker: Any, workers: Any, words: str) -> None:
    with pytest.raises(ArgumentError, match=words):
        BatchWriter(tmp_path, worker=worker, workers=workers)


# -- reading -----------------------------------------------------------------------------------------------------------


def test_a_joined_batch_is_the_union_of_the_shares(tmp_path: Path) -> None:
    shards = [[share(step, worker) for step in range(12)] for worker in range(3)]
    for worker in (2, 0, 1):
        write_worker(tmp_path, shards[worker], worker, 3, number=9 - worker)

    view = read_run(tmp_path)

    assert_holds(view, view.phases["train"], join_records(*shards))
    assert (view.health.workers, view.health.warnings) == (3, ())


chunks = st.lists(st.tuples(st.integers(0, 2), st.integers(1, 3)), min_size=1, max_size=14)


@settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(chunks=chunks, late=st.sets(st.integers(0, 2)))
def test_shares_arrive_in_any_order(tmp_path: Path, chunks: list[tuple[int, int]], late: set[int]) -> None:
    """After each piece the run shows what has arrived; validation comes between."""
    shutil.rmtree(tmp_path / metadata.DIRECTORY, ignore_errors=True)
    run = RunStore(tmp_path / metadata.DIRECTORY)
    shards: list[list[BatchRecord]] = []
    for worker in range(3):
        # Some workers begin later, as after being killed.
        first = 4 if worker in late else 0
        train = [share(step, worker) for step in range(first, first + 12)]
        checks = [share(step, worker, phase="validation") for step in range(6)]
        shards.append([r for i in range(6) for r in (*train[2 * i : 2 * i + 2], checks[i])])
    pieces = [frames(shards[worker], worker=worker, workers=3) for worker in range(3)]
    arrived = [0, 0, 0]
    for worker, count in chunks:
        path = event_file(tmp_path, worker)
        if not arrived[worker]:
            append(path, pieces[worker][0])
        append(path, b"".join(pieces[worker][1 + arrived[worker] :][:count]))
        arrived[worker] = min(arrived[worker] + count, len(shards[worker]))
        view = run.refresh()
        for name in ("train", "validation"):
            shown = [[r for r in records[:n] if r.phase == name] for records, n in zip(shards, arrived, strict=True)]
            expected = join_records(*shown)
            assert (name in view.phases) == bool(expected)
            if expected:
                assert_holds(view, view.phases[name], expected)


def test_what_was_handed_out_stays_as_it_was(tmp_path: Path) -> None:
    shards = [[share(step, worker) for step in range(6)] for worker in range(2)]
    path = write_worker(tmp_path, shards[1][:3], 1)
    write_worker(tmp_path, shards[0], 0)
    run = RunStore(tmp_path / metadata.DIRECTORY)
    before = run.refresh()

    append(path, b"".join(frames(shards[1], worker=1, workers=2)[4:]))
    after = run.refresh()

    assert_holds(before, before.phases["train"], join_records(shards[0], shards[1][:3]))
    assert_holds(after, after.phases["train"], join_records(*shards))
    with pytest.raises(ValueError, match="read-only"):
        after.phases["train"].field("loss")[0] = 1
    assert run.refresh() is after


def test_of_two_files_of_one_worker_the_later_counts(tmp_path: Path) -> None:
    first = [[share(step, worker) for step in range(4)] for worker in range(2)]
    again = [share(step, 5) for step in (2, 3, 4)]
    for worker in range(2):
        write_worker(tmp_path, first[worker], worker)
    write_worker(tmp_path, again, 1, number=2)

    view = read_run(tmp_path)

    assert_holds(view, view.phases["train"], join_records(first[0], [*first[1][:2], *again]))
    assert view.health.warnings == (("read", "Batches that were recorded twice: the later file counts.", 2),)


@pytest.mark.parametrize(
    ("given", "sizes", "expected"),
    [
        ([1.0, 4.0], [2, 1], 2.0),
        ([1.0, None], [2, 1], 1.0),  # the worker has no such metric
        ([None, None], [2, 1], None),
        ([1.0, 4.0], [0, 0], 2.5),  # loss and metrics alone: nobody tells of how many samples
        ([np.inf, 1.0], [0, 4], 1.0),
        ([np.inf, 1.0], [4, 4], np.inf),
        ([1e308, 1.2e308], [4, 4], 1.1e308),
        ([0.1, None], [3, 7], 0.1),
    ],
)
def test_figures_are_weighted_by_samples(
    tmp_path: Path, given: list[float | None], sizes: list[int], expected: float | None
) -> None:
    for worker, (value, size) in enumerate(zip(given, sizes, strict=True)):
        metrics = {"m": value} if value is not None else {}
        write_worker(tmp_path, [share(0, worker, samples=size, metrics=metrics, outputs={}, size=size)], worker)

    phase = read_run(tmp_path).phases["train"]
    (figure,) = phase.field("metrics/m")

    assert phase.has_in("metrics/m", 0) == phase.has("metrics/m")[0] == (expected is not None)
    np.testing.assert_allclose(figure, np.nan if expected is None else expected, rtol=1e-14)
    if given[1] is None and expected is not None:
        assert figure == expected, "to the last bit"


def test_a_worker_that_tells_no_loss_does_not_spoil_it_and_one_that_diverged_does(tmp_path: Path) -> None:
    nan = float("nan")
    losses = {0: [1.0, 2.0, 3.0], 1: [nan, nan, nan], 2: [3.0, nan, 5.0]}
    for worker, of_worker in losses.items():
        records = [share(step, worker, samples=4, loss=loss) for step, loss in enumerate(of_worker)]
        write_worker(tmp_path, records, worker, 3)

    loss = read_run(tmp_path).phases["train"].field("loss")

    np.testing.assert_array_equal(loss, [2.0, nan, 4.0])


def test_layers_are_those_of_the_first_worker_that_has_them(tmp_path: Path) -> None:
    layers: Mapping[tuple[int, int], Any] = {
        (0, 0): {"a": make_summary(10)},
        (1, 0): {"a": make_summary(20), "b": make_summary(21)},
        (1, 1): {"a": make_summary(30)},
        (0, 2): {"a": make_summary(40)},
    }
    for worker in range(2):
        records = [share(step, worker, layers=layers.get((worker, step), {})) for step in range(3)]
        write_worker(tmp_path, records, worker)

    run = load(tmp_path)["."]

    assert run.layers == ("a", "b")
    assert run.layer("a").steps.tolist() == [0, 1, 2]
    assert run.layer("a").min.tolist() == [10, 30, 40]
    assert run.layer("a").unit_means[:, 0].tolist() == [10.5, 30.5, 40.5]
    assert run.layer("b").min.tolist() == [21]
    assert {name: summary.min for name, summary in run.batches("train")[0].layers.items()} == {"a": 10, "b": 21}
    assert run.batches("train")[1].layers["a"].unit_means.tolist() == [30.5] * 3  # type: ignore[union-attr]


def test_what_one_worker_lacks_is_missing_and_nothing_is_moved(tmp_path: Path) -> None:
    """Outputs, losses, ids and targets in only one share: each sample keeps its own."""
    values = np.arange(4, dtype=np.float32)[:, None]
    scores = [make_scores(number, samples=4) for number in range(2)]
    first = {"scores": OutputRecord(predictions=scores[0][0], sample_loss=np.full(4, 0.5, np.float32))}
    second = {
        "scores": OutputRecord(scores[1][0], scores[1][1], sample_ids=np.arange(4)),
        "age": OutputRecord(predictions=values, targets=values + 1, sample_weight=np.full(4, 2, np.float32)),
    }
    specs = {"scores": OutputSpec("multiclass", CLASSES), "age": OutputSpec("regression", 0)}
    write_worker(tmp_path, [share(0, 0, samples=4, outputs=first)], 0, specs=specs)
    write_worker(tmp_path, [share(0, 1, samples=4, outputs=second)], 1, specs=specs)

    run = load(tmp_path)["."]

    nan = float("nan")
    batch, samples = run.batches("train")[0], run.view.phases["train"].outputs
    np.testing.assert_array_equal(batch.predictions["scores"], np.concatenate([scores[0][0], scores[1][0]]))
    np.testing.assert_array_equal(batch.predictions["age"], [[nan]] * 4 + values.tolist())
    assert batch.targets["scores"].tolist() == [-1] * 4 + scores[1][1].tolist()
    assert batch.sample_ids["scores"].tolist() == [None] * 4 + list("0123")
    np.testing.assert_array_equal(batch.sample_loss["scores"], [0.5] * 4 + [nan] * 4)
    np.testing.assert_array_equal(batch.sample_weight["age"], [nan] * 4 + [2] * 4)
    np.testing.assert_array_equal(samples["scores"].column("sample_loss"), [0.5] * 4 + [nan] * 4)
    np.testing.assert_array_equal(samples["scores"].column("target"), [-1] * 4 + scores[1][1].tolist())
    np.testing.assert_array_equal(samples["age"].column("error"), [nan] * 4 + [1] * 4)
    table = run.to_pandas("train")
    assert len(table) == 8
    np.testing.assert_array_equal(table["age/error"], [nan] * 4 + [1] * 4)
    np.testing.assert_array_equal(table["scores/predicted"], batch.predicted["scores"])
    assert table["scores/sample_id"].fillna("none").tolist() == ["none"] * 4 + list("0123")


kept = st.lists(
    st.tuples(
        st.integers(0, 2), st.integers(0, 4), st.sampled_from(["cats", "dogs"]), st.integers(0, 3), st.booleans()
    ),
    max_size=20,
)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(kept=kept)
@example(kept=[(0, 0, "cats", 1, True), (0, 0, "dogs", 3, True), (1, 1, "cats", 1, True)])
def test_columns_and_arrays_are_of_the_same_samples(
    tmp_path: Path, kept: list[tuple[int, int, str, int, bool]]
) -> None:
    """Whatever each worker has of each batch: foreign files may even have outputs of different lengths."""
    # What a single worker recorded is shown as it is.
    assume(any(worker for worker, *_ in kept))
    shutil.rmtree(tmp_path / metadata.DIRECTORY, ignore_errors=True)
    shares: dict[tuple[int, int], dict[str, OutputRecord]] = {}
    for worker, step, name, samples, with_targets in kept:
        scores, targets = make_scores(100 * worker + step, samples=samples)
        shares.setdefault((worker, step), {})[name] = OutputRecord(scores, targets if with_targets else None)
    specs = dict.fromkeys(("cats", "dogs"), OutputSpec("multiclass", CLASSES))
    for worker in range(3):
        steps = [step for step in range(5) if worker == 0 or (worker, step) in shares]
        records = [share(step, worker, outputs=shares.get((worker, step), {})) for step in steps]
        write_worker(tmp_path, records, worker, 3, specs=specs)

    view = read_run(tmp_path)

    phase = view.phases["train"]
    for step in range(5):
        place = view.place(phase, step)
        parts = [shares.get((worker, step), {}) for worker in range(3)]
        longest = [max((len(output.predictions) for output in part.values()), default=0) for part in parts]  # type: ignore[arg-type]
        for name, samples in phase.outputs.items():
            having = any(name in part and len(part[name].predictions) for part in parts)  # type: ignore[arg-type]
            count = sum(longest) if having else 0
            assert samples.starts[step + 1] - samples.starts[step] == count
            assert place.layout.samples.get(name, 0) == count
            if not count:
                continue
            expected = np.full((count, CLASSES), np.nan, np.float32)
            for worker, part in enumerate(parts):
                if name in part:
                    first = sum(longest[:worker])
                    expected[first : first + len(part[name].predictions)] = part[name].predictions  # type: ignore[arg-type]
            arrays = {
                kind: places.read_array(place, slot) for (of, kind), slot in place.layout.arrays.items() if of == name
            }
            np.testing.assert_array_equal(arrays["predictions"], expected)
            for kind in {"target", "predicted", "confidence", "target_score"} & set(arrays):
                np.testing.assert_array_equal(samples.column(kind, step, step + 1), arrays[kind])


def test_shares_of_other_shapes_and_types_are_put_together(tmp_path: Path) -> None:
    """Sequences padded by each worker on its own; a text id beside a number."""
    first = OutputRecord(np.ones((2, 3, 2), np.float16), np.ones((2, 3), np.uint8), sample_ids=np.array([7, 8]))
    second = OutputRecord(np.zeros((1, 5, 2)), np.zeros((1, 5), np.uint8), sample_ids=np.array(["x"], object))
    specs = {"words": OutputSpec("multiclass", 2)}
    for worker, output in enumerate((first, second)):
        size = len(output.predictions)  # type: ignore[arg-type]
        record = share(0, worker, samples=size, outputs={"words": output})
        write_worker(tmp_path, [record], worker, specs=specs)

    batch = load(tmp_path)["."].batches("train")[0]

    assert (batch.predictions.shape, batch.predictions.dtype) == ((3, 5, 2), np.float64)
    assert np.isnan(batch.predictions[:2, 3:]).all()
    assert batch.targets.tolist() == [[1, 1, 1, -1, -1]] * 2 + [[0] * 5]
    assert batch.sample_ids.tolist() == ["7", "8", "x"]


def test_arrays_of_one_worker_are_not_copied(tmp_path: Path) -> None:
    write_worker(tmp_path, [share(step, 0) for step in range(2)], 0)
    write_worker(tmp_path, [share(0, 1)], 1)

    shared, alone = load(tmp_path)["."].batches("train")

    assert isinstance(alone.predictions.base.base, memoryview)
    assert not shared.predictions.flags.writeable
    assert shared.predictions.flags.owndata


def test_labels_a_worker_does_not_have_are_not_wrong(tmp_path: Path) -> None:
    scores = np.array([[0.9, 0.1], [0.2, 0.8]], np.float32)
    specs = {"tags": OutputSpec("multilabel", 2, None)}
    outputs = [OutputRecord(scores, np.array([[1, 0], [1, 1]], bool)), OutputRecord(scores)]
    for worker, output in enumerate(outputs):
        write_worker(tmp_path, [share(0, worker, samples=2, outputs={"tags": output})], worker, specs=specs)

    report = load(tmp_path)["."].class_report("train")

    assert (report.samples, report.support.tolist(), report.predicted.tolist()) == (2, [2, 1], [1, 1])
    assert report.accuracy == 0.75


def test_layouts_past_the_limit_are_walked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layouts, "MAX_LAYOUTS", 2)
    shards = [[share(step, worker, samples=step + worker + 1) for step in range(6)] for worker in range(2)]
    for worker in range(2):
        write_worker(tmp_path, shards[worker], worker)

    view = read_run(tmp_path)

    assert_holds(view, view.phases["train"], join_records(*shards))


def test_batches_of_different_epochs_under_one_step_are_told(tmp_path: Path) -> None:
    write_worker(tmp_path, [share(step, 0, epoch=step // 3) for step in range(6)], 0)
    write_worker(tmp_path, [share(step, 1, epoch=step // 2) for step in range(6)], 1)

    view = read_run(tmp_path)

    assert view.phases["train"].epoch.tolist() == [0, 0, 0, 1, 1, 1]
    (warning,) = view.health.warnings
    assert warning == ("read", "Workers recorded different batches under one step: their epochs differ.", 3)


# -- what is told ------------------------------------------------------------------------------------------------------


def test_a_missing_worker_is_told_until_it_comes(tmp_path: Path) -> None:
    write_worker(tmp_path, [share(0, 0)], 0, 4)
    write_worker(tmp_path, [share(0, 2)], 2, 4)
    run = RunStore(tmp_path / metadata.DIRECTORY)

    first = run.refresh().health
    write_worker(tmp_path, [share(0, 1)], 1, 4)
    # A file with nothing but a status is of its worker too.
    write_worker(tmp_path, [], 3, 4, statuses=[metadata.Status("capture", "No loss.")])
    second = run.refresh().health

    message = "Nothing is recorded by 2 of 4 workers, the first of them worker 1."
    assert (first.workers, first.warnings) == (4, (("read", message, 1),))
    assert (second.workers, second.warnings) == (4, (("capture", "No loss.", 1),))


def test_answers_and_commands_say_how_many_workers(tmp_path: Path) -> None:
    for worker in range(2):
        write_worker(tmp_path / "both", [share(step, worker) for step in range(3)], worker)
    write(tmp_path / "alone", [make_record(0)])
    log = load(tmp_path)

    listed = {name: answers.describe_run(name, run.view, with_names=False) for name, run in log.items()}
    inspected = CliRunner().invoke(cli.main, ["inspect", str(tmp_path)]).stdout.splitlines()
    in_json = json.loads(CliRunner().invoke(cli.main, ["inspect", "--json", str(tmp_path)]).stdout)
    findings = CliRunner().invoke(cli.main, ["doctor", str(tmp_path)]).stdout

    assert {name: run["health"]["workers"] for name, run in listed.items()} == {"both": 2, "alone": 1}
    assert listed["both"]["phases"][0]["samples"] == sum(
        share(step, worker).size for step in range(3) for worker in (0, 1)
    )
    assert [line.split()[:5] for line in inspected] == [
        ["run", "workers", "phase", "batches", "kept"],
        ["alone", "1", "train", "1", "1"],
        ["both", "2", "train", "3", "3"],
    ]
    assert [run["health"]["workers"] for run in in_json] == [1, 2]
    assert "run both: 2 workers, 2 file(s)" in findings


def test_every_route_answers_as_for_a_run_of_one_process(tmp_path: Path) -> None:
    # Shares of four samples: the means of their figures are exact.
    shards = [
        [share(step, worker, samples=4, layers=summaries(step, worker)) for step in range(9)] for worker in (0, 1)
    ]
    for worker in (0, 1):
        write_worker(tmp_path / "both", shards[worker], worker)
    write(tmp_path / "one", join_records(*shards))
    plugin = BatchViewPlugin(base_plugin.TBContext(logdir=str(tmp_path)), refresh_seconds=0, patience=60)
    client = Client(TensorBoardWSGI([plugin]))
    requests = (
        "batches?points=3",
        "batches?sort=loss",
        "batch?step=4",
        "sample?step=4&sample=6",
        "samples?outcome=wrong&sort=confidence",
        "classes?start=2&stop=7",
        "confusion?",
        "layers?",
        "layer?layer=dense",
    )
    for request in requests:
        both, one = (
            client.get(f"/data/plugin/batchview/{request}&phase=train&run={run}".replace("?&", "?"))
            for run in ("both", "one")
        )
        assert both.status_code == 200, both.get_data(as_text=True)
        assert both.get_data() == one.get_data(), request


def summaries(step: int, worker: int) -> dict[str, Any]:
    """Return what a worker tells of its layers; the first one counts."""
    return {"dense": make_summary(step + 100 * worker)} if step % 3 == 0 else {}


def test_gradients_are_those_of_the_first_worker_that_has_them(tmp_path: Path) -> None:
    def gradient(step: int, worker: int) -> GradientSummary:
        return GradientSummary(4, 0.5, 0.25, 0.0, 1.0, 0.0, 0.0, step + 100.0 * worker, np.full(3, step + worker))

    # The first has layers only in the last batch, the second gradients of another layer too.
    shards: list[list[BatchRecord]] = [[], []]
    for step in range(4):
        first = {"dense": gradient(step, 0)} if step % 2 else {}
        layers = {"dense": make_summary(step)} if step == 3 else {}
        shards[0].append(share(step, 0, samples=4, gradients=first, layers=layers))
        second = {"dense": gradient(step, 1), "head": gradient(step, 1)}
        shards[1].append(share(step, 1, samples=4, gradients=second, layers=summaries(step, 1)))
    for worker in (0, 1):
        write_worker(tmp_path, shards[worker], worker)
    run = load(tmp_path)["."]

    assert run.gradient_layers == ("dense", "head")
    np.testing.assert_array_equal(run.gradients("dense").norm, [100, 1, 102, 3])
    np.testing.assert_array_equal(run.gradients("dense").histograms[:, 0], [1, 1, 3, 3])
    np.testing.assert_array_equal(run.gradients("head").norm, [100, 101, 102, 103])
    assert [batch.gradients["dense"].norm for batch in run.batches("train")] == [100, 1, 102, 3]
    # A layer and its gradient may be of another worker each.
    np.testing.assert_array_equal(run.layer("dense").min, [100, 3])
    np.testing.assert_array_equal(run.layer("dense").unit_means[:, 0], [100.5, 3.5])


def test_answers_of_what_one_worker_lacks(tmp_path: Path) -> None:
    """No route fails where predictions, targets or losses are of one worker alone."""
    first, second = (make_record(worker, samples=4).outputs["scores"] for worker in (0, 1))
    outputs = [OutputRecord(first.predictions, sample_ids=np.arange(4)), OutputRecord(targets=second.targets)]
    for worker, output in enumerate(outputs):
        write_worker(tmp_path / "run", [share(0, worker, samples=4, outputs={"scores": output})], worker)
    plugin = BatchViewPlugin(base_plugin.TBContext(logdir=str(tmp_path)), refresh_seconds=0, patience=60)
    client = Client(TensorBoardWSGI([plugin]))

    for route in ("batches", "batch", "samples", "classes", "confusion", "sample"):
        step = "&step=0" if route in ("batch", "sample") else ""
        answer = client.get(
            f"/data/plugin/batchview/{route}?run=run&phase=train{step}" + "&sample=5" * (route == "sample")
        )
        assert answer.status_code == 200, answer.get_data(as_text=True)
        if route == "batch":
            samples = sorted(json.loads(answer.get_data())["samples"], key=lambda sample: sample["sample"])

    assert [sample["id"] for sample in samples] == ["0", "1", "2", "3", None, None, None, None]
    assert [sample["predicted"] is None for sample in samples] == [False] * 4 + [True] * 4
    assert [sample["target"] for sample in samples] == [None] * 4 + second.targets.tolist()  # type: ignore[union-attr]


# -- foreign files -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("worker", "workers"), [(7, 2), (-5, 2), (0, 10**9), (0, 0), (2**40, 2**41), ("1", 2), (True, 2)]
)
def test_a_file_of_an_impossible_worker_is_left_out_and_counted(tmp_path: Path, worker: Any, workers: Any) -> None:
    write_worker(tmp_path, [share(0, 0)], 0)
    write_worker(tmp_path, [share(0, 1)], 1)
    content = json.loads(metadata.header_content("train", ("epoch",), {}, {}))
    content |= {"worker": worker, "workers": workers}
    with pytest.raises(FormatError, match="in metadata"):
        metadata.parse_content(json.dumps(content).encode())
    pieces = [foreign(frame, worker, workers) for frame in frames([share(step, 1) for step in range(3)], workers=2)]
    event_file(tmp_path, 7).write_bytes(b"".join(pieces))

    view = read_run(tmp_path)

    assert view.health.corrupt_records == 3
    assert (view.health.workers, len(view.phases["train"].shards)) == (2, 2)


def foreign(frame: bytes, worker: Any, workers: Any) -> bytes:
    """Return a record whose metadata says another worker."""
    from tensorboard.compat.proto import event_pb2

    event = event_pb2.Event.FromString(frame[tfrecord.HEADER_BYTES : -tfrecord.FOOTER_BYTES])
    for value in event.summary.value:
        said = value.metadata.plugin_data.content
        if said and json.loads(said)["kind"] == "header":
            changed = {**json.loads(said), "worker": worker, "workers": workers}
            value.metadata.plugin_data.content = json.dumps(changed).encode()
    return tfrecord.frame(event.SerializeToString())


def test_a_file_has_one_worker_whatever_it_says_later(tmp_path: Path) -> None:
    encoders = [encode.EventEncoder({}, worker, 100) for worker in range(100)]
    records = [make_record(step) for step in range(100)]
    pieces = [
        encoders[step].encode(records[step], {"scores": OutputSpec("multiclass", CLASSES)}) for step in range(100)
    ]
    payloads = [encode.encode_file_version(TIME), *pieces]
    event_file(tmp_path).write_bytes(b"".join(map(tfrecord.frame, payloads)))

    view = read_run(tmp_path)

    assert (len(view.phases["train"]), view.phases["train"].shards) == (100, ())


def test_the_most_workers_take_no_memory(tmp_path: Path) -> None:
    write_worker(tmp_path, [share(0, 0)], metadata.MAX_WORKERS - 1, metadata.MAX_WORKERS)

    health = read_run(tmp_path).health

    missing = metadata.MAX_WORKERS - 1
    message = f"Nothing is recorded by {missing} of {missing + 1} workers, the first of them worker 0."
    assert (health.workers, health.warnings) == (missing + 1, (("read", message, 1),))


def test_missing_values_do_not_fill_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One wide row in one file must not become many in the samples of another."""
    monkeypatch.setattr(places, "MAX_FILLED_BYTES", 10_000)
    wide = OutputRecord(np.ones((1, 100), np.float32))
    many = OutputRecord(targets=np.zeros(1000, np.int32), sample_loss=np.ones(1000, np.float32))
    specs = {"age": OutputSpec("regression", 0)}
    write_worker(tmp_path, [share(0, 0, samples=1, outputs={"age": wide})], 0, specs=specs)
    write_worker(tmp_path, [share(0, 1, samples=1000, outputs={"age": many})], 1, specs=specs)

    batch = load(tmp_path)["."].batches("train")[0]

    assert batch.predictions is None
    assert batch.targets.tolist() == [-1] + [0] * 1000
    assert np.isnan(batch.sample_loss[0])


def test_sizes_that_do_not_add_up_stay_numbers(tmp_path: Path) -> None:
    for worker in range(2):
        write_worker(tmp_path, [share(0, worker, size=2**62 - 512)], worker)

    assert read_run(tmp_path).phases["train"].size.tolist() == [2**62]


# -- export ------------------------------------------------------------------------------------------------------------


def export(logdir: Path, run: str, form: str, out: Path, *options: str) -> None:
    command = ["export", str(logdir), "--run", run, "--format", form, "--out", str(out), *options]
    result = CliRunner().invoke(cli.main, command)
    assert result.exit_code == 0, result.output


def test_a_joined_run_is_exported_as_one_of_a_single_process(tmp_path: Path) -> None:
    shards = [[share(step, worker) for step in range(7)] for worker in range(2)]
    for worker in range(2):
        write_worker(tmp_path / "logs" / "both", shards[worker], worker)
    write(tmp_path / "logs" / "one", join_records(*shards))

    for form in ("csv", "npz", "sqlite"):
        for run in ("both", "one"):
            export(tmp_path / "logs", run, form, tmp_path / f"{run}.{form}")

    assert (tmp_path / "both.csv").read_bytes() == (tmp_path / "one.csv").read_bytes()
    with np.load(tmp_path / "both.npz") as both, np.load(tmp_path / "one.npz") as one:
        assert both.files == one.files
        for name in set(both.files) - {"info"}:
            compare = np.testing.assert_allclose if both[name].dtype.kind == "f" else np.testing.assert_array_equal
            compare(both[name], one[name])


def test_ids_that_only_one_worker_has_are_exported(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow.parquet")
    outputs = [make_record(worker, samples=2).outputs["scores"] for worker in range(2)]
    outputs[1] = OutputRecord(outputs[1].predictions, outputs[1].targets, sample_ids=np.array([7, 8]))
    for worker, output in enumerate(outputs):
        write_worker(tmp_path / "logs", [share(0, worker, samples=2, outputs={"scores": output})], worker)

    for form, out in (("csv", "a.csv"), ("npz", "a.npz"), ("parquet", "a")):
        export(tmp_path / "logs", ".", form, tmp_path / out)

    lines = list(csv.DictReader(io.StringIO((tmp_path / "a.csv").read_text())))
    assert [line["id"] for line in lines] == ["", "", "7", "8"]
    with np.load(tmp_path / "a.npz") as arrays:
        assert arrays["sample_ids"].tolist() == ["", "", "7", "8"]
    table = pyarrow.read_table(tmp_path / "a" / "phase=train")
    assert table["id"].to_pylist() == [None, None, "7", "8"]


# -- a real one --------------------------------------------------------------------------------------------------------


def find_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for listener in sockets:
            listener.bind(("localhost", 0))
        return [listener.getsockname()[1] for listener in sockets]


def recompute(epochs: int) -> dict[str, list[tuple[np.ndarray, np.ndarray, np.ndarray, float]]]:
    """Train in NumPy, on whole batches: targets, scores, losses per sample, loss."""
    generator = np.random.default_rng(0)
    kernel = generator.normal(size=(5, 3)).astype(np.float32).astype(np.float64)
    x, y = generator.normal(size=(56, 5)).astype(np.float32), generator.integers(0, 3, 56)
    batches: dict[str, list[tuple[np.ndarray, np.ndarray, np.ndarray, float]]] = {"train": [], "validation": []}
    for _ in range(epochs):
        for phase, of_phase in batches.items():
            for first in range(0, 56, 20):
                xs, ys = x[first : first + 20], y[first : first + 20]
                powers = np.exp(xs @ kernel)
                scores = powers / powers.sum(axis=1, keepdims=True)
                losses = -np.log(scores[np.arange(len(ys)), ys])
                of_phase.append((ys, scores, losses, float(losses.mean())))
                if phase == "train":
                    kernel -= 0.5 * xs.T @ (scores - np.eye(3)[ys]) / 20
    return batches


@pytest.mark.slow
@pytest.mark.parametrize("columns_in", ["files"], indirect=True, scope="module")  # once is enough
def test_tensorflow_workers_record_the_global_batches(tmp_path: Path) -> None:
    """MultiWorkerMirroredStrategy, two processes, each with its share of a loop's step."""
    pytest.importorskip("tensorflow")
    ports = ",".join(map(str, find_ports(2)))
    finish([start(ROOT / "tests" / "multi_worker.py", worker, ports, tmp_path) for worker in range(2)])

    run = load(tmp_path)["."]

    assert (run.health.workers, run.health.warnings, run.health.files) == (2, (), 2)
    for phase, expected in recompute(epochs=2).items():
        assert (len(run.batches(phase)), run.view.phases[phase].seen) == (6, 6)
        for batch, (targets, scores, losses, loss) in zip(run.batches(phase), expected, strict=True):
            assert batch.targets.tolist() == targets.tolist()
            np.testing.assert_allclose(batch.predictions, scores, atol=1e-5)
            np.testing.assert_allclose(batch.sample_loss, losses, atol=1e-5)
            assert batch.loss == pytest.approx(loss, abs=1e-5)
        confusion = np.zeros((3, 3), int)
        for targets, scores, _, _ in expected:
            np.add.at(confusion, (targets, scores.argmax(axis=1)), 1)
        assert run.confusion(phase).tolist() == confusion.tolist()
