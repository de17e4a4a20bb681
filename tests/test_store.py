"""Columns of batches and samples, snapshots, overlapping files, arrays on demand."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from recorded import TIME, append, event_file, frames, make_record, make_scores, make_summary, write

from tb_batchview import layouts, metadata, tasks
from tb_batchview.columns import PhaseColumns
from tb_batchview.errors import FormatError, NotFoundError
from tb_batchview.growing import Column
from tb_batchview.places import read_array
from tb_batchview.records import BatchRecord, OutputRecord, OutputSpec
from tb_batchview.store import RunStore
from tb_batchview.views import SAMPLE_COLUMNS, Health, PhaseView, RunView

# Everything twice: with columns in memory and in files.
pytestmark = pytest.mark.usefixtures("columns_in")


def open_run(directory: Path) -> RunStore:
    return RunStore(directory / metadata.DIRECTORY)


def read_run(directory: Path) -> RunView:
    return open_run(directory).refresh()


def read(view: RunView, phase: PhaseView, row: int, kind: str, output: str = "scores") -> np.ndarray:
    place = view.place(phase, row)
    return read_array(place, place.layout.arrays[output, kind])


def assert_holds(phase: PhaseView, records: Sequence[BatchRecord]) -> None:
    """Compare the columns with what `tasks` says of the records themselves."""
    assert phase.step.tolist() == [record.step for record in records]
    assert phase.epoch.tolist() == [record.epoch for record in records]
    assert phase.index.tolist() == [record.index for record in records]
    assert phase.size.tolist() == [record.size for record in records]
    assert phase.wall_time.tolist() == [record.wall_time for record in records]
    assert phase.field("loss").tolist() == [record.loss for record in records]
    spec = OutputSpec("multiclass", 4, None, None)
    derived = [tasks.derive(spec, record.outputs["scores"]) for record in records]
    for name in ("target", "predicted", "confidence", "target_score"):
        expected = np.concatenate([columns[name] for columns in derived])
        assert np.array_equal(phase.outputs["scores"].column(name), expected)
    expected_loss = np.concatenate([record.outputs["scores"].sample_loss for record in records])
    assert np.array_equal(phase.outputs["scores"].column("sample_loss"), expected_loss)
    assert np.diff(phase.outputs["scores"].starts).tolist() == [record.size for record in records]


def test_columns_hold_what_was_recorded(tmp_path: Path) -> None:
    records = [make_record(step, samples=8 - step % 3) for step in range(30)]
    write(tmp_path, records)

    view = read_run(tmp_path)

    assert_holds(view.phases["train"], records)
    assert view.phases["train"].metrics == ("accuracy",)
    assert view.outputs["scores"].class_names == ("cat", "dog", "car", "tree")
    assert view.info == {"model": "test"}
    assert view.updated == TIME + 29


def test_phases_are_apart_and_in_order(tmp_path: Path) -> None:
    phases = ("validation", "train", "validation", "train")
    write(tmp_path, [make_record(step // 2, phase=phase) for step, phase in enumerate(phases)])

    view = read_run(tmp_path)

    assert list(view.phases) == ["train", "validation"]
    assert [phase.step.tolist() for phase in view.phases.values()] == [[0, 1], [0, 1]]


def test_a_sample_takes_at_most_24_bytes() -> None:
    assert sum(np.dtype(dtype).itemsize for dtype, _ in SAMPLE_COLUMNS.values()) == 24


def test_what_was_handed_out_never_changes(tmp_path: Path) -> None:
    pieces = frames([make_record(step) for step in range(600)])
    path = event_file(tmp_path)
    path.write_bytes(b"".join(pieces[:301]))
    run = open_run(tmp_path)
    before = run.refresh()
    kept = before.phases["train"].step.copy()

    append(path, b"".join(pieces[301:]))
    after = run.refresh()

    assert np.array_equal(before.phases["train"].step, kept)
    assert (len(before.phases["train"]), len(after.phases["train"])) == (300, 600)
    with pytest.raises(ValueError, match="read-only"):
        before.phases["train"].step[0] = 5


def test_a_refresh_that_finds_nothing_keeps_the_snapshot(tmp_path: Path) -> None:
    pieces = frames([make_record(step) for step in range(2)])
    path = event_file(tmp_path)
    path.write_bytes(b"".join(pieces[:2]))
    run = open_run(tmp_path)
    first, second = run.refresh(), run.refresh()

    append(path, pieces[2][:40])
    third = run.refresh()

    assert second is first
    assert (len(third.phases["train"]), third.health.torn_files, first.health.torn_files) == (1, 1, 0)


def test_a_metric_that_comes_later_is_missing_before(tmp_path: Path) -> None:
    few = [make_record(step, metrics={}) for step in range(2)]
    more = [make_record(step, metrics={"top5": np.nan}) for step in range(2, 4)]
    write(tmp_path, [*few, *more])

    phase = read_run(tmp_path).phases["train"]

    assert np.isnan(phase.field("metrics/top5")).all()
    assert phase.has("metrics/top5").tolist() == [False, False, True, True]
    assert [phase.has_in("metrics/top5", row) for row in (1, 2)] == [False, True]
    assert phase.has("metrics/never").tolist() == [False] * 4


def test_batches_with_only_a_header_have_no_samples(tmp_path: Path) -> None:
    records = [make_record(step, **({} if step % 3 == 1 else {"outputs": {}})) for step in range(6)]
    write(tmp_path, records)

    phase = read_run(tmp_path).phases["train"]

    assert phase.outputs["scores"].starts.tolist() == [0, 0, 8, 8, 8, 16, 16]
    assert phase.outputs["scores"].column("target", 4, 5).tolist() == make_scores(4)[1].tolist()
    assert len(phase.outputs["scores"].column("target", 2, 4)) == 0


def test_two_outputs_have_columns_of_their_own(tmp_path: Path) -> None:
    values = np.arange(8, dtype=np.float32)[:, None]
    outputs = {
        "scores": make_record(0).outputs["scores"],
        "age": OutputRecord(predictions=values + 0.5, targets=values),
    }
    specs = {"scores": OutputSpec("multiclass", 4), "age": OutputSpec("regression", 0)}
    write(tmp_path, [make_record(0, outputs=outputs)], specs=specs)

    view = read_run(tmp_path)

    assert view.phases["train"].outputs["age"].column("error").tolist() == [0.5] * 8
    assert view.phases["train"].outputs["age"].column("target").tolist() == [-1] * 8
    assert view.phases["train"].field("outputs/age/error_rate").tolist() == [0.5]
    assert {name: spec.task for name, spec in view.outputs.items()} == {"scores": "multiclass", "age": "regression"}


def test_layers_are_held_by_batch(tmp_path: Path) -> None:
    layers = [{"dense": make_summary(step)} if step % 4 == 0 else {} for step in range(9)]
    write(tmp_path, [make_record(step, layers=layers[step]) for step in range(9)])

    layer = read_run(tmp_path).phases["train"].layers["dense"]

    assert layer.rows.tolist() == [0, 4, 8]
    assert layer.figures[1].tolist() == [60, 4.5, 0.25, 4, 5, 0.125, 0]


def test_a_resumed_run_goes_on(tmp_path: Path) -> None:
    first, second = [make_record(step) for step in range(5)], [make_record(step) for step in range(5, 8)]
    write(tmp_path, first)
    write(tmp_path, second, number=1)

    view = read_run(tmp_path)

    assert_holds(view.phases["train"], [*first, *second])
    assert view.health.warnings == ()


def changed(step: int) -> BatchRecord:
    """Return another batch for a step, with layers and more samples."""
    return make_record(step, samples=11, wall_time=TIME + 1000 + step, layers={"late": make_summary(step)})


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    first=st.sets(st.integers(0, 20), max_size=12),
    second=st.sets(st.integers(0, 20), max_size=12),
    together=st.booleans(),
)
def test_of_two_files_the_later_ones_batch_counts(
    tmp_path: Path, first: set[int], second: set[int], together: bool
) -> None:
    shutil.rmtree(tmp_path / metadata.DIRECTORY, ignore_errors=True)
    earlier = {step: make_record(step, layers={"early": make_summary(step)}) for step in sorted(first)}
    later = {step: changed(step) for step in sorted(second)}
    run = open_run(tmp_path)

    write(tmp_path, earlier.values())
    if not together:
        run.refresh()
    write(tmp_path, later.values(), number=1)
    view = run.refresh()

    merged = {**earlier, **later}
    if not merged:
        assert view.phases == {}
        return
    phase = view.phases["train"]
    assert_holds(phase, [merged[step] for step in sorted(merged)])
    assert sum(count for _, _, count in view.health.warnings) == len(first & second)
    for name, own in (("early", first - second), ("late", second)):
        if name in phase.layers:
            layer = phase.layers[name]
            assert phase.step[layer.rows].tolist() == sorted(own)
            assert layer.figures[:, 3].tolist() == sorted(own)
    for row, step in enumerate(sorted(merged)):
        assert np.array_equal(read(view, phase, row, "predictions"), merged[step].outputs["scores"].predictions)


def test_a_snapshot_outlives_a_reordering(tmp_path: Path) -> None:
    records = [make_record(step) for step in range(6)]
    write(tmp_path, records)
    run = open_run(tmp_path)
    before = run.refresh()

    write(tmp_path, [changed(step) for step in range(2, 5)], number=1)
    run.refresh()

    assert_holds(before.phases["train"], records)
    assert np.array_equal(read(before, before.phases["train"], 3, "targets"), make_scores(3)[1])


def test_only_what_is_out_of_order_is_put_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sorts = []
    keep = PhaseColumns._keep
    monkeypatch.setattr(PhaseColumns, "_keep", lambda self, order: (sorts.append(len(order)), keep(self, order)))
    run = open_run(tmp_path)
    seen: list[int] = []
    # Two files of a run that grow in turn; once one goes back.
    for number, steps in (
        (0, range(10)),
        (1, range(8, 20)),
        (1, range(20, 25)),
        (0, range(25, 40)),
        (1, range(40, 45)),
    ):
        path = event_file(tmp_path, number)
        append(path, b"".join(frames([make_record(step) for step in steps])[path.exists() :]))
        view = run.refresh()
        seen = sorted({*seen, *steps})
        assert_holds(view.phases["train"], [make_record(step) for step in seen])

    assert sorts == [20]


def test_an_older_file_that_is_found_later_does_not_win(tmp_path: Path) -> None:
    write(tmp_path, [changed(step) for step in range(3)], number=1)
    run = open_run(tmp_path)
    run.refresh()
    write(tmp_path, [make_record(step) for step in range(5)])

    phase = run.refresh().phases["train"]

    assert_holds(phase, [changed(0), changed(1), changed(2), make_record(3), make_record(4)])


def test_a_replaced_file_leaves_nothing_behind(tmp_path: Path) -> None:
    path = write(tmp_path, [make_record(step) for step in range(9)])
    run = open_run(tmp_path)
    run.refresh()
    os.truncate(path, 0)
    run.refresh()
    path.unlink()
    write(tmp_path, [changed(0)])

    assert_holds(run.refresh().phases["train"], [changed(0)])


def test_a_deleted_run_no_longer_exists(tmp_path: Path) -> None:
    path = write(tmp_path, [make_record(0)])
    run = open_run(tmp_path)
    assert run.refresh().exists
    path.unlink()

    view = run.refresh()

    assert (view.exists, view.phases, view.updated) == (False, {}, None)


def test_health_tells_what_went_wrong(tmp_path: Path) -> None:
    pieces = frames(
        [make_record(step) for step in range(3)],
        statuses=[
            metadata.Status("dropped", "Slow disk.", 2, {"train": 6}),
            metadata.Status("dropped", "Slow disk.", 5, {"train": 9}),
            metadata.Status("capture", "No sample loss.", 1),
            metadata.Status("closed", "", 1, {"train": 12}),
        ],
    )
    broken = bytearray(pieces[2])
    broken[-1] ^= 1
    content = b"".join([*pieces[:2], bytes(broken), *pieces[3:]]) + pieces[1][:30]
    event_file(tmp_path).write_bytes(content)

    view = read_run(tmp_path)

    # The counts of a status are totals so far: 5 were dropped, not 7.
    assert view.health == Health(
        files=1,
        bytes=len(content),
        corrupt_records=1,
        torn_files=1,
        refused_files=0,
        dropped_batches=5,
        warnings=(("dropped", "Slow disk.", 5), ("capture", "No sample loss.", 1)),
    )
    assert view.phases["train"].seen == 12
    assert view.phases["train"].step.tolist() == [0, 2]


def test_seen_counts_the_batches_that_were_not_kept(tmp_path: Path) -> None:
    write(tmp_path, [make_record(step) for step in (0, 10, 20)])

    assert read_run(tmp_path).phases["train"].seen == 21


def test_seen_of_a_resumed_run_goes_on_counting(tmp_path: Path) -> None:
    # Each writer counts its own: of the second one's 5 the last 2 were dropped.
    first = metadata.Status("closed", "", 1, {"train": 4})
    second = metadata.Status("closed", "", 1, {"train": 5, "validation": 3})
    write(tmp_path, [make_record(step) for step in range(4)], statuses=[first])
    write(tmp_path, [make_record(step) for step in range(4, 7)], number=1, statuses=[second])

    assert read_run(tmp_path).phases["train"].seen == 9


def test_a_header_with_impossible_numbers_is_skipped_and_counted(tmp_path: Path) -> None:
    records = [make_record(0), make_record(1, epoch=float("nan")), make_record(2, size=-1), make_record(3, epoch=1e300)]
    write(tmp_path, [*records, make_record(4)])  # type: ignore[list-item]

    view = read_run(tmp_path)

    assert view.phases["train"].step.tolist() == [0, 4]
    assert view.health.corrupt_records == 3


def test_arrays_are_read_from_the_file(tmp_path: Path) -> None:
    ids = np.array(["a", "ü", "", "d" * 300, "e", "f", "g", "h"], object)
    output = make_record(0).outputs["scores"]
    record = make_record(
        0, outputs={"scores": OutputRecord(output.predictions, output.targets, output.sample_loss, None, ids)}
    )
    write(tmp_path, [record])
    view = read_run(tmp_path)
    phase = view.phases["train"]

    assert np.array_equal(read(view, phase, 0, "predictions"), output.predictions)
    assert np.array_equal(read(view, phase, 0, "sample_loss"), output.sample_loss)
    assert read(view, phase, 0, "sample_ids").tolist() == ids.tolist()


def test_layouts_past_the_limit_are_walked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layouts, "MAX_LAYOUTS", 2)
    records = [make_record(step, samples=step + 1) for step in range(9)]
    write(tmp_path, records)

    view = read_run(tmp_path)

    for row, record in enumerate(records):
        assert np.array_equal(read(view, view.phases["train"], row, "targets"), record.outputs["scores"].targets)


@pytest.mark.parametrize("change", ["truncated", "replaced", "deleted"])
def test_reading_what_is_gone_says_so(tmp_path: Path, change: str) -> None:
    path = write(tmp_path, [make_record(step) for step in range(3)])
    view = read_run(tmp_path)
    if change == "truncated":
        os.truncate(path, 500)
    elif change == "replaced":
        shutil.copy(path, tmp_path / "copy")
        os.replace(tmp_path / "copy", path)
    else:
        path.unlink()

    with pytest.raises(NotFoundError, match="was deleted, replaced or truncated"):
        read(view, view.phases["train"], 2, "predictions")


def test_strings_that_are_not_what_they_say_are_refused(tmp_path: Path) -> None:
    ids = np.array(list("abcdefgh"), object)
    output = make_record(0).outputs["scores"]
    record = make_record(0, outputs={"scores": OutputRecord(output.predictions, sample_ids=ids)})
    path = write(tmp_path, [record])
    view = read_run(tmp_path)
    place = view.place(view.phases["train"], 0)
    slot = place.layout.arrays["scores", "sample_ids"]
    content = bytearray(path.read_bytes())
    content[place.position + slot.offset] = 0x0A  # another field than string_val
    path.write_bytes(bytes(content))

    with pytest.raises(FormatError, match="has 7 strings"):
        read_array(place, slot)


def test_readers_see_whole_snapshots_while_the_run_grows(tmp_path: Path) -> None:
    pieces = frames([make_record(step, samples=4) for step in range(100)])
    path = event_file(tmp_path)
    path.write_bytes(pieces[0])
    run = open_run(tmp_path)
    done = threading.Event()
    wrong: list[str] = []

    def look() -> None:
        while not done.wait(0.001):
            phase = run.view.phases.get("train")
            if phase is not None:
                samples = phase.outputs["scores"]
                lengths = {len(phase.step), len(phase.field("loss")), len(samples.starts) - 1}
                counts = {4 * len(phase), int(samples.starts[-1]), len(samples.columns["target"])}
                if len(lengths) > 1 or len(counts) > 1:
                    wrong.append(f"{lengths} {samples.starts[-1]}")

    readers = [threading.Thread(target=look) for _ in range(4)]
    for reader in readers:
        reader.start()
    for piece in pieces[1:]:
        append(path, piece)
        run.refresh()
    done.set()
    for reader in readers:
        reader.join()

    assert wrong == []
    assert len(run.view.phases["train"]) == 100


@settings(deadline=None)
@given(st.lists(st.integers(0, 9), max_size=40), st.integers(0, 5))
def test_a_column_equals_a_list(values: list[int], padding: int) -> None:
    column, expected = Column(np.int64, -1), []
    for value in values:
        if value == 0:
            column.pad(column.count + padding)
            expected += [-1] * padding
        elif value < 5:
            column.append(value)
            expected.append(value)
        else:
            column.extend(np.arange(value))
            expected += range(value)

    assert column.view().tolist() == expected
    assert column.count == len(expected)
