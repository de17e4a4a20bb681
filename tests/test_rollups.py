"""Any range of a layer's summaries, from blocks: as if each was read by itself."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from recorded import append, event_file, frames, make_record, write
from strategies import layer_summaries

from tb_batchview import layouts, metadata, rollups
from tb_batchview.errors import NotFoundError
from tb_batchview.kept import Kept
from tb_batchview.layers import LayerLog
from tb_batchview.log import load
from tb_batchview.records import BatchRecord, LayerSummary
from tb_batchview.summaries import LayerWindows

UNITS = 4
BATCHES = 1200


@pytest.fixture(autouse=True)
def kept(monkeypatch: pytest.MonkeyPatch) -> Kept:
    """Begin each test with nothing kept."""
    kept = Kept()
    monkeypatch.setattr(rollups, "KEPT", kept)
    return kept


def activate(step: int) -> np.ndarray:
    """Return what a layer puts out: drifting, of varying size, at times not finite."""
    rng = np.random.default_rng(step)
    values = rng.normal(math.sin(step / 200), 1 + step / BATCHES, (3 + step % 5, UNITS)).astype(np.float32)
    values = np.maximum(values, 0) if step % 2 else values
    # In all units alike, so that the weights of the units are those of the batch.
    values[0] = {7: np.nan, 8: np.inf}.get(step % 50, values[0])
    return np.full_like(values, np.nan) if step % 97 == 5 else values


def record(step: int, values: np.ndarray | None = None, **changes: Any) -> BatchRecord:
    summary = LayerSummary.of(activate(step) if values is None else values)
    return make_record(step, outputs={}, metrics={}, layers={"dense": summary}, **changes)


def read_layer(directory: Path) -> LayerLog:
    return load(directory)["."].layer("dense")


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Record a layer in every third batch."""
    folder = tmp_path_factory.mktemp("layer")
    write(folder, [record(3 * number, activate(number)) for number in range(BATCHES)])
    return folder


# --- averages: from the activations themselves ---


def check_average(layer: LayerLog, batches: Sequence[np.ndarray], start: int | None, stop: int | None) -> None:
    average = layer.average(start, stop)
    rows = np.concatenate([np.zeros((0, UNITS), np.float32), *batches]).astype(np.float64)
    values = rows[np.isfinite(rows)]

    assert average.batches == len(batches)
    assert average.histogram.sum() == pytest.approx(len(values), rel=1e-12)
    if not len(values):
        assert np.isnan([average.mean, average.std, average.min, average.max, average.zero_fraction]).all()
        assert average.unit_means is None
        return
    assert average.mean == pytest.approx(values.mean(), rel=1e-5, abs=1e-6)
    assert average.std == pytest.approx(values.std(), rel=1e-5)
    assert (average.min, average.max) == (values.min(), values.max())
    assert average.zero_fraction == pytest.approx((values == 0).mean(), abs=1e-6)
    sound = rows[np.isfinite(rows).all(axis=1)]
    assert average.unit_means is not None
    np.testing.assert_allclose(average.unit_means, sound.mean(axis=0), rtol=1e-5, atol=1e-6)
    assert (average.edges[0], average.edges[-1]) == (values.min(), values.max())
    if len(batches) > 20:
        counts = np.histogram(values, average.edges)[0]
        # Values lie not quite evenly within the bins that each batch was counted in.
        assert np.abs(np.cumsum(counts) - np.cumsum(average.histogram)).max() < 0.02 * len(values)


RANGES = [
    (None, None),
    (0, 1),
    (1, 3),
    (15, 16),
    (291, 292),
    (30, 33),
    (None, 60),
    (3000, None),
    (100, 3500),
    (9999, None),
]


@pytest.mark.parametrize(("start", "stop"), [*RANGES, (50, 20), (-5, 7)])
def test_an_average_is_that_of_the_activations(recorded: Path, start: int | None, stop: int | None) -> None:
    steps = range(0, 3 * BATCHES, 3)
    chosen = [s // 3 for s in steps if (start is None or s >= start) and (stop is None or s < stop)]

    check_average(read_layer(recorded), [activate(number) for number in chosen], start, stop)


def test_averages_of_a_growing_run_take_in_what_came(tmp_path: Path) -> None:
    pieces = frames([record(step) for step in range(900)])
    path = event_file(tmp_path)
    path.write_bytes(b"".join(pieces[:601]))
    log = load(tmp_path)
    batches = [activate(step) for step in range(900)]
    before = log["."].snapshot()

    check_average(log["."].layer("dense"), batches[:600], None, None)
    append(path, b"".join(pieces[601:]))
    log.refresh()

    for _ in range(2):  # The snapshot from before stays what it was, beside the newer one.
        check_average(log["."].layer("dense"), batches, None, None)
        check_average(log["."].layer("dense"), batches[580:900], 580, None)
        check_average(before.layer("dense"), batches[:600], None, None)


def write_shard(directory: Path, records: Sequence[BatchRecord], worker: int) -> None:
    folder = directory / metadata.DIRECTORY
    folder.mkdir(parents=True, exist_ok=True)
    name = metadata.file_name(1_780_000_000 + worker, "host", 7, worker, worker)
    (folder / name).write_bytes(b"".join(frames(records, worker=worker, workers=2)))


def test_of_several_workers_the_first_that_has_a_summary_counts(tmp_path: Path) -> None:
    other = [np.full((2, UNITS), step + 0.5, np.float32) for step in range(700)]
    write_shard(tmp_path, [record(step, other[step]) for step in range(700)], 1)
    log = load(tmp_path)
    check_average(log["."].layer("dense"), other, None, None)

    # Late, and in every other batch only: its summaries take the place of some.
    write_shard(tmp_path, [record(step) for step in range(0, 700, 2)], 0)
    log.refresh()

    joined = [other[step] if step % 2 else activate(step) for step in range(700)]
    check_average(log["."].layer("dense"), joined, None, None)
    check_average(log["."].layer("dense"), joined[3:90], 3, 90)
    assert log["."].layer("dense").windows(None, None, 10, 30).batches == 700


def test_files_that_were_replaced_are_read_anew(tmp_path: Path) -> None:
    path = write(tmp_path, [record(step) for step in range(600)])
    log = load(tmp_path)
    log["."].layer("dense").average()

    path.unlink()
    write(tmp_path, [record(step, activate(step) + 100) for step in range(600)], number=1)
    log.refresh()

    check_average(log["."].layer("dense"), [activate(step) + 100 for step in range(600)], None, None)


def test_batches_that_are_recorded_again_take_the_place_of_the_earlier_ones(tmp_path: Path) -> None:
    write(tmp_path, [record(step) for step in range(700)])
    log = load(tmp_path)
    log["."].layer("dense").average()

    write(tmp_path, [record(step, activate(step) + 5) for step in range(100, 720)], number=1)
    log.refresh()

    expected = [activate(step) + (5 if step >= 100 else 0) for step in range(720)]
    check_average(log["."].layer("dense"), expected, None, None)


def test_units_weigh_as_many_values_as_their_batch_had(tmp_path: Path) -> None:
    first = np.array([[1.0, np.nan], [1.0, np.nan], [1.0, np.nan]], np.float32)
    second = np.array([[5.0, 8.0]], np.float32)
    write(tmp_path, [record(0, first), record(1, second)])

    units = read_layer(tmp_path).average().unit_means

    assert units is not None
    # A unit without a finite value in one batch has the mean of the other.
    assert units.tolist() == pytest.approx([(3 * 1 + 2 * 5) / 5, 8.0])


def test_units_of_another_number_are_left_out(tmp_path: Path) -> None:
    values = [np.full((2, 3), 1, np.float32), np.full((2, 2), 5, np.float32), np.full(4, 9, np.float32)]
    write(tmp_path, [record(step, each) for step, each in enumerate(values)])
    layer = read_layer(tmp_path)

    assert layer.average().unit_means == pytest.approx([5, 5])
    assert layer.average(0, 1).unit_means == pytest.approx([1, 1, 1])
    assert layer.average(2).unit_means is None
    assert [layer.units(number) for number in range(3)] == [3, 2, None]


# --- windows: blocks and each summary by itself ---


def direct(layer: LayerLog, windows: LayerWindows, first: int, last: int) -> Iterator[tuple[int, int, rollups.Values]]:
    """Yield each window's row, its first summary and all of them, read one by one."""
    starts = sorted({first, *range(-(-first // windows.size) * windows.size, last, windows.size)})
    assert layer.steps[starts].tolist() == windows.step.tolist()
    for row, (start, stop) in enumerate(zip(starts, [*starts[1:], last], strict=True)):
        (piece,) = layer._rollup.values(start, stop, 1)
        yield row, start, piece.rows


def count_around(layer: LayerLog, first: int, last: int, largest: int, edge: float) -> float:
    """Count what lies in the bins around a value: in the blocks, and in those that they were merged from."""
    total, block = 0.0, rollups.SMALLEST
    while block <= largest:
        for piece in layer._rollup.values(first, last, block):
            rows = piece.rows.histograms
            if piece.size >= rollups.SMALLEST:
                number = np.full(len(rows), 0)
                axis = np.stack([rows._edge(number + place) for place in range(rows.below.shape[1])])
                begin = np.maximum((axis < edge).sum(axis=0) - 1, 0)
                end = np.minimum((axis <= edge).sum(axis=0), len(axis) - 1)
                total += (rows.below[np.arange(len(rows)), end] - rows.below[np.arange(len(rows)), begin]).sum()
        block *= rollups.FACTOR
    return total


@settings(deadline=None, max_examples=15)
@given(st.integers(0, BATCHES), st.integers(0, BATCHES), st.integers(1, 60), st.integers(2, 9), st.booleans())
def test_windows_are_those_of_the_summaries(
    recorded: Path, one: int, other: int, points: int, bins: int, usual: bool
) -> None:
    first, last = sorted((one, other))
    layer = read_layer(recorded)

    windows = layer.windows(3 * first, 3 * last, points, bins, usual=usual)

    assert len(windows.step) <= points
    assert (windows.batches, windows.histogram.shape) == (last - first, (len(windows.step), bins))
    if first == last:
        return
    for row, start, rows in direct(layer, windows, first, last):
        merged = rollups.analysis.merge_moments(rows.figures, len(rows))
        for figure in ("weight", "mean", "std", "min", "max", "zero_fraction"):
            exact, found = getattr(merged, figure)[0], getattr(windows.moments, figure)[row]
            assert found == pytest.approx(exact, rel=1e-9, nan_ok=True), figure
        below = rows.histograms.below_at(windows.edges).sum(axis=0)
        total = rows.histograms.total.sum()
        shares = np.array([windows.below[row], *windows.histogram[row], windows.above[row]])
        assert shares.sum() == pytest.approx(1 if total else 0, abs=1e-12)
        largest = rollups.block_size(windows.size)
        for edge, exact, found in zip(windows.edges, below, np.cumsum(shares)[:-1] * total, strict=True):
            # Smaller than a block: the same to the last bits.
            around = count_around(layer, start, start + len(rows), largest, edge)
            assert abs(exact - found) <= around + 1e-9 * total


@settings(deadline=None, max_examples=60)
@given(st.data(), st.lists(layer_summaries(), min_size=1, max_size=40), st.integers(1, 5))
def test_whatever_is_recorded_no_mass_is_lost(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, drawn: list[LayerSummary], points: int
) -> None:
    folder = tmp_path_factory.mktemp("drawn")
    summaries = [drawn[number % len(drawn)] for number in range(40)]
    write(folder, [make_record(step, outputs={}, layers={"dense": each}) for step, each in enumerate(summaries)])
    layer = read_layer(folder)
    first, last = sorted((data.draw(st.integers(0, 40)), data.draw(st.integers(0, 40))))

    windows = layer.windows(first, last, points, 7, usual=data.draw(st.booleans()))

    rows = [piece.rows.histograms for piece in layer._rollup.values(first, last, 1)]
    blocks = [piece.rows.histograms for piece in layer._rollup.values(first, last, 32)]
    total = sum(part.total.sum() for part in rows)
    assert sum(part.total.sum() for part in blocks) == pytest.approx(total, rel=1e-12)
    shares = windows.histogram.sum(axis=1) + windows.below + windows.above
    assert np.isin(np.round(shares, 9), (0, 1)).all()
    assert windows.histogram.min(initial=0) >= 0
    assert layer.average(first, last).histogram.sum() <= total * (1 + 1e-9)


def test_windows_stay_where_they_are_while_a_run_grows(tmp_path: Path) -> None:
    pieces = frames([record(step) for step in range(400)])
    path = event_file(tmp_path)
    path.write_bytes(b"".join(pieces[:301]))
    log = load(tmp_path)
    seen = {}
    for count in range(300, 400, 9):
        windows = log["."].layer("dense").windows(None, None, 20, 30)
        assert windows.step.tolist() == list(range(0, windows.batches, windows.size))
        # All but the last one, which grows.
        for row, step in enumerate(windows.step[:-1].tolist()):
            figures = (windows.moments.mean[row], windows.moments.std[row])
            assert seen.setdefault((windows.size, step), figures) == figures
        append(path, b"".join(pieces[count + 1 : count + 10]))
        log.refresh()
    assert len({size for size, _ in seen}) == 2


def test_a_growing_run_is_read_only_where_it_grew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    plain = rollups._read_slots
    monkeypatch.setattr(rollups, "_read_slots", lambda *args: (read.append(len(args[2])), plain(*args))[1])
    pieces = frames([record(step) for step in range(720)])
    path = event_file(tmp_path)
    path.write_bytes(b"".join(pieces[:641]))
    log = load(tmp_path)

    def ask() -> int:
        read.clear()
        log["."].layer("dense").windows(None, None, 30, 30)
        return sum(read)

    assert (ask(), ask()) == (640, 0)
    append(path, b"".join(pieces[641:]))
    log.refresh()
    assert ask() == 80
    assert ask() == 720 % 8


@pytest.mark.parametrize("first", [0, 1, 63, 64, 100_001])
@pytest.mark.parametrize("points", [1, 2, 7, 200, 500])
def test_there_are_never_more_windows_than_asked_for(first: int, points: int) -> None:
    for length in (0, 1, 7, 500, 501, 6000, 99_999, 10**6, 10**9):
        size = rollups.window_size(first, first + length, points)
        windows = (first + length - 1) // size - first // size + 1 if length else 0
        assert windows <= points
        block = rollups.block_size(size)
        assert size % block == 0
        assert size // block <= (6 if block == 1 else 3)
        # Not many fewer either.
        assert length <= points or 2 * windows + 2 >= points


# --- bounds ---


def test_memory_is_bounded_and_answers_are_the_same(recorded: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ranges = [(None, None, 20), (90, 3000, 200), (0, 900, 10), (None, None, 100)]
    expected = [read_layer(recorded).windows(*asked, 30).histogram for asked in ranges]
    small = Kept(150_000)
    monkeypatch.setattr(rollups, "KEPT", small)

    for _ in range(2):
        for asked, histogram in zip(ranges, expected, strict=True):
            assert np.array_equal(read_layer(recorded).windows(*asked, 30).histogram, histogram)
            assert 0 < small.bytes <= small.limit


def test_many_threads_get_what_one_would(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pieces = frames([record(step) for step in range(800)])
    path = event_file(tmp_path)
    path.write_bytes(b"".join(pieces[:401]))
    log = load(tmp_path)
    wrong: list[Any] = []

    def ask(seed: int) -> None:
        rng = np.random.default_rng(seed)
        for _ in range(15):
            first, last = sorted(rng.integers(0, 400, 2).tolist())
            layer = log["."].layer("dense")
            found = layer.windows(first, last, 10, 30)
            values = np.concatenate([np.zeros((0, UNITS)), *map(activate, range(first, last))])
            values = values[np.isfinite(values)]
            if sum(found.moments.weight) != len(values) or layer.average(first).histogram.sum() <= 0:
                wrong.append((first, last))

    threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for number in range(401, 801, 20):
        append(path, b"".join(pieces[number : number + 20]))
        log.refresh()
    for thread in threads:
        thread.join()

    assert wrong == []
    check_average(log["."].layer("dense"), [activate(step) for step in range(800)], None, None)


def test_a_file_that_was_cut_is_not_read_past_its_end(tmp_path: Path) -> None:
    path = write(tmp_path, [record(step) for step in range(40)])
    layer = read_layer(tmp_path)
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)

    with pytest.raises(NotFoundError, match="must still hold the batch"):
        layer.windows(None, None, 4, 30)


def test_records_whose_form_is_not_remembered_are_walked_again(
    recorded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layouts, "MAX_LAYOUTS", 0)
    write(tmp_path, [record(step) for step in range(30)])
    layer = read_layer(tmp_path)

    assert (layer._columns._layout < 0).all()
    check_average(layer, [activate(step) for step in range(30)], None, None)
    assert layer.windows(None, None, 3, 30).batches == 30


def test_histograms_of_several_numbers_of_bins_are_all_counted(tmp_path: Path) -> None:
    def summary(step: int) -> LayerSummary:
        bins = (4, 10, 3000)[step % 3]
        return LayerSummary(bins, 0.5, 0.1, 0, 1, 0, 0, np.ones(bins, np.float32))

    write(tmp_path, [make_record(step, outputs={}, layers={"dense": summary(step)}) for step in range(24)])

    windows = read_layer(tmp_path).windows(None, None, 1, 10)

    assert windows.histogram[0] == pytest.approx([0.1] * 10)
    assert read_layer(tmp_path).average().histogram.sum() == pytest.approx(8 * (4 + 10 + 3000))
