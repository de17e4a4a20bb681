"""Batches out of order, read as they come: the same as if all had been there at once."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from recorded import TIME, append, event_file, frames, make_record, make_scores, make_summary, write
from strategies import settings
from test_slices import ticking

from tb_batchview import analysis, columns, following, load, metadata, running, shards, views
from tb_batchview.columns import PhaseColumns
from tb_batchview.order import Order, Pieces, spread
from tb_batchview.places import read_array
from tb_batchview.records import BatchRecord, OutputRecord
from tb_batchview.running import RunningSpikes, RunningSums
from tb_batchview.store import RunStore
from tb_batchview.views import Late, PhaseView, RunView, Tokens

# -- order -------------------------------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12)), max_size=6), st.data())
def test_pieces_are_an_array(ranges: list[tuple[int, int]], data: st.DataObject) -> None:
    column = np.arange(100, 112)
    begins, ends = (np.array(side, np.int64) for side in (list(map(min, ranges)), list(map(max, ranges))))
    expected = [row for begin, end in zip(begins, ends, strict=True) for row in column[begin:end].tolist()]
    pieces = Pieces(column, begins, ends)

    with mock.patch("tb_batchview.order._FEW", data.draw(st.sampled_from([1, 4096]))):
        for _ in range(4):
            part = slice(*data.draw(st.tuples(*[st.none() | st.integers(-40, 40)] * 2)))
            assert pieces[part].tolist() == expected[part]
    assert (len(pieces), pieces.dtype, np.asarray(pieces).tolist()) == (len(expected), column.dtype, expected)
    assert spread(begins, ends).tolist() == [row - 100 for row in expected]


rounds = st.lists(st.lists(st.tuples(st.integers(0, 25), st.integers(0, 3)), min_size=1, max_size=12), max_size=6)


@given(rounds)
def test_an_order_is_that_of_a_sort_of_all(rounds: list[list[tuple[int, int]]]) -> None:
    order, every = Order.of(np.zeros(0, np.int64)), list[tuple[int, int]]()
    for added in rounds:
        before, first = order.rows().tolist(), len(every)
        every += added
        step, rank = (np.array(values) for values in zip(*every, strict=True))

        order, changed = order.merged(np.arange(first, len(every)), step, rank.__getitem__)

        last = {step: row for step, _, row in sorted((step, rank, row) for row, (step, rank) in enumerate(every))}
        rows = [last[step] for step in sorted(last)]
        assert (order.rows().tolist(), len(order)) == (rows, len(rows))
        assert np.array_equal(order.take(step), sorted(last))
        # What it says is as it was, is; and not less than that.
        same = next(
            (at for at, (a, b) in enumerate(zip(before, rows, strict=False)) if a != b), min(map(len, (before, rows)))
        )
        assert changed == same
        sparse = np.arange(0, len(every), 3)
        found, places = order.pick(sparse)
        assert [(rows[place], sparse[at]) for at, place in zip(found, places, strict=True)] == [
            (row, row) for row in rows if row % 3 == 0
        ]


def test_rows_that_follow_each_other_are_one_stretch() -> None:
    order, _ = Order.of(np.arange(5)).merged(np.array([5, 6]), np.array([0, 1, 2, 3, 4, 2, 3]), lambda rows: rows)
    assert (order.begins.tolist(), order.ends.tolist()) == ([0, 5, 4], [2, 7, 5])
    assert (order.is_plain, Order.of(np.arange(3)).is_plain, Order.of(np.arange(1, 3)).is_plain) == (False, True, False)
    assert order.extended(7, 9).ends.tolist() == [2, 7, 5, 9]


@given(st.lists(st.integers(0, 30), max_size=12), st.sampled_from([2, 3, 64]))
def test_a_token_is_another_once_a_row_before_it_changed(changes: list[int], most: int) -> None:
    tokens = Tokens()
    known: dict[Any, list[int]] = {}
    versions = [0] * 31
    with mock.patch.object(views, "_MOST_CHANGES", most):
        for number, row in enumerate([31, *changes]):
            if row < 31:
                tokens = tokens.changed(row)
                versions[row:] = [number] * (31 - row)
            for last in range(31):
                # A token and a range tell what was in the rows.
                key = tokens.before(last), last
                assert known.setdefault(key, versions[:last]) == versions[:last]
            assert len({tokens.before(last) for last in range(31)}) <= most + 1


def test_a_token_stays_while_only_later_rows_change() -> None:
    tokens = Tokens()
    assert tokens.changed(10).before(10) is tokens.before(10)
    assert tokens.changed(10).before(11) is not tokens.before(11)
    assert tokens.changed(10).changed(5).before(11) is not tokens.changed(10).before(11)


def test_what_is_late_is_made_once_and_only_if_it_is_there() -> None:
    made: list[str] = []
    late = Late(["a", "b"], lambda name: (made.append(name), len(made))[1])

    assert (list(late), len(late), "b" in late, "c" in late, made) == (["a", "b"], 2, True, False, [])
    assert (late["b"], late["a"], late["b"], made) == (1, 2, 1, ["b", "a"])
    with pytest.raises(KeyError, match="c"):
        late["c"]


# -- what was counted --------------------------------------------------------------------------------------------------


@given(st.lists(st.integers(0, 40), min_size=1, max_size=6), st.data())
def test_sums_and_spikes_go_on_from_what_did_not_change(changes: list[int], data: st.DataObject) -> None:
    losses = 1 + np.random.default_rng(0).random(41)
    sums, spikes = RunningSums(), RunningSpikes()
    with mock.patch.object(running, "MOST_SUMS", data.draw(st.sampled_from([2, 5, 4096]))):
        for number, row in enumerate(changes):
            sums, spikes = sums.before(row), spikes.before(row)
            losses = losses.copy()
            losses[row:] = np.random.default_rng(number).choice([1.0, 1.1, 1.2, 30.0], 41 - row, p=[0.3, 0.3, 0.3, 0.1])
            values = (10 * losses).astype(int)
            if data.draw(st.booleans()):  # else nobody asks before the next change
                first, last = sorted(data.draw(st.tuples(st.integers(0, 41), st.integers(0, 41))))

                def count(first: int, last: int, values: Any = values) -> Any:
                    return np.array([values[first:last].sum()])

                found = sums.count(count, (first, last), batches=41, samples=10_000)
                assert found.tolist() == [[values[first:last].sum()]]
                rows, ratios = analysis.mark_spikes(losses)
                within = (rows >= first) & (rows < last)
                expected = analysis.rank_spikes(losses, rows[within], ratios[within], 9)
                assert str(spikes.find(losses, first, last, 9)) == str(expected)


def test_what_is_before_a_change_is_not_counted_again() -> None:
    counted: list[tuple[int, int]] = []

    def count(first: int, last: int) -> Any:
        counted.append((first, last))
        return np.array([last - first])

    sums = RunningSums()
    sums.count(count, (0, 1000), batches=1000, samples=100_000)
    counted.clear()
    later = sums.before(900).before(950)

    assert later.count(count, (0, 1000), batches=1000, samples=100_000).tolist() == [[1000]]
    assert min(first for first, last in counted if first < last) == 900


# -- runs --------------------------------------------------------------------------------------------------------------


def make(step: int, file: int, samples: int) -> BatchRecord:
    """Return what a file has of a step: other samples than the other files, now and then other things."""
    record = make_record(100 * file + step, samples=samples)
    scores, targets = make_scores(100 * file + step, samples)
    ids = np.array([f"{(step * 3 + file + n) % 7}" for n in range(samples)], object)
    outputs = {"scores": OutputRecord(scores, targets, record.outputs["scores"].sample_loss, sample_ids=ids)}
    changes: dict[str, Any] = {
        "step": step,
        "epoch": (step + file // 2) // 5,
        "index": step % 5,
        "wall_time": TIME + 100 * file + step,
        "loss": [1.0, 1.25, np.nan, 40.0, 1.5][(step + file) % 5],
        "metrics": {"accuracy": step / 10, **({f"of_{file}": step} if step % 2 else {})},
        "outputs": {} if (step + file) % 6 == 0 else outputs,
        "layers": {"dense": make_summary(step + 100 * file)} if step % 3 == file % 3 else {},
    }
    return BatchRecord(**{**vars(record), **changes})


def describe_run(view: RunView) -> Any:
    """Return what is to be seen of a run, whatever it was made from."""
    return {name: describe_phase(view, phase) for name, phase in view.phases.items()}, view.health.warnings


def describe_phase(view: RunView, phase: PhaseView) -> Any:
    outputs = {
        name: (
            samples.starts.tolist(),
            {kind: samples.column(kind).tobytes() for kind in sorted(samples.columns)},
        )
        for name, samples in phase.outputs.items()
    }
    layers = {name: (layer.rows.tolist(), layer.figures.tolist()) for name, layer in phase.layers.items()}
    records = [
        [column.tolist() for column in phase.records(layer, 0, len(layer.rows))[:3]] for layer in phase.layers.values()
    ]
    predictions = []
    for row in range(len(phase)):
        place = view.place(phase, row)
        slot = place.layout.arrays.get(("scores", "predictions"))
        predictions.append(None if slot is None else read_array(place, slot).tobytes())
    names = ("step", "epoch", "index", "size", "wall_time")
    return (
        len(phase),
        phase.seen,
        phase.apart,
        {name: getattr(phase, name).tolist() for name in names},
        {name: (phase.field(name).tobytes(), phase.has(name).tolist()) for name in sorted(phase.fields)},
        outputs,
        layers,
        records,
        predictions,
    )


def ask(view: RunView) -> Any:
    """Return answers that are counted while a run grows."""
    found: dict[str, Any] = {}
    for name, phase in view.phases.items():
        count = len(phase)
        spikes = str(phase.find_spikes(count // 3, count, 5))
        samples = phase.samples("scores")
        ranges = [(0, count), (count // 2, count), (0, count // 2)]
        matrices = [samples.count_confusion(4, *part).tolist() for part in ranges]
        ids = following._identify(view, phase, "scores", read_array)
        names = list(ids.names())
        found[name] = spikes, matrices, [names[code] if code >= 0 else None for code in ids.codes]
    return found


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("order")


files = st.tuples(
    st.integers(0, 8),  # where its steps begin
    st.integers(1, 2),  # and how far they are apart
    st.integers(0, 2),  # the worker, of as many
    st.integers(1, 3),  # samples of a batch
)
turns = st.lists(st.tuples(st.integers(0, 2), st.integers(1, 6), st.sampled_from(["", "look", "all"])), max_size=9)


@settings(max_examples=60)
@given(
    files=st.lists(files, min_size=2, max_size=3),
    workers=st.sampled_from([1, 1, 2, 3]),
    turns=turns,
    share=st.sampled_from([0, 4]),
    most_open=st.sampled_from([0, 3, 4096]),
    slices=st.booleans(),
)
def test_files_that_grow_in_any_turn_come_to_the_same(
    directory: Path, files: Any, workers: int, turns: Any, share: int, most_open: int, slices: bool
) -> None:
    shutil.rmtree(directory / metadata.DIRECTORY, ignore_errors=True)
    rests: list[Iterator[bytes]] = []
    for number, (begin, by, worker, samples) in enumerate(files):
        records = [make(step, number, samples) for step in range(begin, begin + 14 * by, by)]
        rests.append(iter(frames(records, worker=worker % workers, workers=workers)))
        # All are there from the beginning, without a batch: what is found later is numbered otherwise.
        append(event_file(directory, number), next(rests[-1]))
    run = RunStore(directory / metadata.DIRECTORY)
    snapshots: list[tuple[RunView, Any]] = []
    answers: dict[Any, Any] = {}

    with (
        mock.patch.object(columns, "NEW_SHARE", share),
        mock.patch.object(shards, "NEW_SHARE", share),
        mock.patch.object(shards, "MOST_OPEN", most_open),
    ):
        for number, count, refresh in [*turns, (0, 0, "all")]:
            rest = rests[number % len(rests)]
            append(event_file(directory, number % len(rests)), b"".join(itertools.islice(rest, count)))
            if not refresh:
                continue
            if slices:
                run.look()
                with ticking():
                    while not run.read(0):
                        snapshots.append((run.view, describe_run(run.view)))
            view = run.refresh()
            fresh = RunStore(directory / metadata.DIRECTORY).refresh()
            assert describe_run(view) == describe_run(fresh)
            assert refresh == "look" or ask(view) == ask(fresh)
            snapshots.append((view, describe_run(view)))
            for name, phase in view.phases.items():
                for stop in range(0, len(phase) + 1, 3):
                    samples, part = phase.samples("scores"), slice(*phase.samples("scores").starts[[0, stop]])
                    key = name, samples.tokens.before(stop), stop
                    seen = [samples.part(kind, part.start, part.stop).tobytes() for kind in ("target", "confidence")]
                    assert answers.setdefault(key, seen) == seen

    # What was handed out is as it was.
    for view, described in snapshots:
        assert describe_run(view) == described


def grow(directory: Path, files: Mapping[int, Iterator[bytes]], counts: Mapping[int, int]) -> None:
    """Append as many records to each of some files."""
    for number, count in counts.items():
        append(event_file(directory, number), b"".join(itertools.islice(files[number], count)))


def test_a_refresh_moves_nothing_where_a_training_goes_over_old_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = {0: iter(frames(make_record(step) for step in range(300)))}
    written[1] = iter(frames(make_record(step, wall_time=TIME + 1000) for step in range(150, 320)))
    grow(tmp_path, written, {0: 301, 1: 11})
    run = RunStore(tmp_path / metadata.DIRECTORY)
    opened = run.refresh().phases["train"]
    moved: list[int] = []
    taken = Pieces.__getitem__
    looked: list[int] = []
    monkeypatch.setattr(PhaseColumns, "_keep", lambda self, order: moved.append(len(order)))
    monkeypatch.setattr(Pieces, "__getitem__", lambda self, part: (looked.append(len(self)), taken(self, part))[1])

    for number in range(8):
        grow(tmp_path, written, {1: 20})
        phase = run.refresh().phases["train"]
        assert (len(phase), run.view.health.warnings[0][2]) == (300 if number < 7 else 320, min(150, 30 + 20 * number))
    assert (moved, looked) == ([], [])

    # What came before the overlap is known to be the same, and what came in it to be another.
    tokens = [snapshot.outputs["scores"].tokens for snapshot in (opened, phase)]
    assert [tokens[0].before(last) is tokens[1].before(last) for last in (150, 160, 161, 320)] == [
        True,
        True,
        False,
        False,
    ]
    later = [False] * 150 + [True] * 170
    assert (phase.wall_time > TIME + 900).tolist() == later
    assert max(looked) == 320


def test_a_refresh_joins_what_is_new(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = {
        worker: iter(frames((make_record(step) for step in range(400)), worker=worker, workers=2)) for worker in (0, 1)
    }
    grow(tmp_path, written, {0: 301, 1: 101})
    run = RunStore(tmp_path / metadata.DIRECTORY)
    joined: list[int] = []
    join = shards.Joining._join_steps
    monkeypatch.setattr(shards, "MOST_OPEN", 30)
    monkeypatch.setattr(
        shards.Joining, "_join_steps", lambda self, of, step: (joined.append(len(step)), join(self, of, step))[1]
    )
    run.refresh()
    assert joined == [300]

    for size in (8, 8, 8):
        joined.clear()
        grow(tmp_path, written, {0: 5, 1: 5})
        phase = run.refresh().phases["train"]
        assert sum(joined) == 10
        assert phase.size.tolist().count(2 * size) == len(phase.shards[1])
    # One that is far behind catches up, at once.
    grow(tmp_path, written, {1: 400})
    assert run.refresh().phases["train"].size[:315].tolist() == [16] * 315


def test_nothing_is_gathered_of_what_nobody_joins(tmp_path: Path) -> None:
    run = RunStore(tmp_path / metadata.DIRECTORY)
    written = {0: iter(frames(make_record(step) for step in range(30)))}
    for _ in range(3):
        grow(tmp_path, written, {0: 10})
        run.refresh()

    assert run._phases["train"][0]._news == []


def test_a_table_of_samples_is_in_order_too(tmp_path: Path) -> None:
    pd = pytest.importorskip("pandas")
    write(tmp_path, [make_record(step) for step in range(6)])
    log = load(tmp_path)
    with mock.patch.object(columns, "NEW_SHARE", 0):
        write(tmp_path, [make_record(step, samples=3) for step in (2, 4, 7)], number=1)
        log.refresh()

    pd.testing.assert_frame_equal(log["."].to_pandas("train"), load(tmp_path)["."].to_pandas("train"))
    assert len(log["."].to_pandas("train")) == 4 * 8 + 3 * 3


def test_a_run_that_was_read_in_slices_is_in_one_piece(tmp_path: Path) -> None:
    write(tmp_path, [make_record(step) for step in range(40)])
    write(tmp_path, [make_record(step, samples=3) for step in range(20, 60)], number=1)
    run = RunStore(tmp_path / metadata.DIRECTORY)
    run.look()
    with ticking():
        while not run.read(0):
            pass

    samples = run.view.phases["train"].outputs["scores"]

    assert not any(isinstance(column, Pieces) for column in samples.columns.values())
    assert np.diff(samples.starts).tolist() == [8] * 20 + [3] * 40
