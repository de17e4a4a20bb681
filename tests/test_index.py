"""Following event files: what is complete, what is torn, what is no longer there."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from recorded import SPECS, TIME, append, event_file, frames, make_record, make_summary, write
from tensorboard.compat.proto import event_pb2, summary_pb2

from tb_batchview import decode, encode, layouts, metadata, tfrecord
from tb_batchview.index import RunIndex, StatusEntry
from tb_batchview.layouts import Entry
from tb_batchview.records import BatchRecord


def follow(directory: Path) -> RunIndex:
    return RunIndex(directory / metadata.DIRECTORY)


def refresh(run: RunIndex) -> list[Entry | StatusEntry]:
    run.look()
    return list(run.read())


def steps(entries: Iterable[Entry | StatusEntry]) -> list[int]:
    return [entry.step for entry in entries if isinstance(entry, Entry)]


def count_corrupt(run: RunIndex) -> int:
    return sum(file.corrupt for file in run.files)


def test_every_batch_is_found_with_its_values(tmp_path: Path) -> None:
    records = [make_record(step) for step in range(5)]
    path = write(tmp_path, records)

    entries = refresh(follow(tmp_path))

    assert steps(entries) == [0, 1, 2, 3, 4]
    content = path.read_bytes()
    for entry, record in zip(entries, records, strict=True):
        assert isinstance(entry, Entry)
        payload = content[entry.position : entry.position + entry.length]
        stored = decode.slot_array(payload, entry.layout.arrays["scores", "predictions"])
        assert np.array_equal(stored, record.outputs["scores"].predictions)
        header = decode.slot_array(payload, entry.layout.header)
        assert dict(zip(entry.layout.content.fields, header.tolist(), strict=True))["loss"] == record.loss
        assert (entry.wall_time, entry.layout.samples) == (record.wall_time, {"scores": 8})


def test_a_refresh_reads_only_what_is_new(tmp_path: Path) -> None:
    pieces = frames([make_record(step) for step in range(4)])
    path = event_file(tmp_path)
    path.write_bytes(b"".join(pieces[:3]))
    run = follow(tmp_path)

    first, second = refresh(run), refresh(run)
    append(path, b"".join(pieces[3:]))
    third = refresh(run)

    assert [steps(entries) for entries in (first, second, third)] == [[0, 1], [], [2, 3]]


def test_torn_tail_is_read_when_complete(tmp_path: Path) -> None:
    pieces = frames([make_record(step) for step in range(2)])
    path = event_file(tmp_path)
    path.write_bytes(b"".join(pieces[:2]) + pieces[2][:50])
    run = follow(tmp_path)

    assert steps(refresh(run)) == [0]
    assert run.files[0].torn
    append(path, pieces[2][50:])
    assert steps(refresh(run)) == [1]
    assert not run.files[0].torn
    assert count_corrupt(run) == 0


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_file_that_grows_anyhow_yields_the_same_batches(tmp_path: Path, data: st.DataObject) -> None:
    content = b"".join(frames([make_record(step, samples=2) for step in range(3)]))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(content)), max_size=5)))
    path = event_file(tmp_path)
    path.write_bytes(b"")
    run = follow(tmp_path)
    found: list[int] = []

    for first, last in zip([0, *cuts], [*cuts, len(content)], strict=True):
        append(path, content[first:last])
        found += steps(refresh(run))

    assert found == [0, 1, 2]
    assert count_corrupt(run) == 0


@pytest.mark.parametrize("place", [40, -20, -2])
def test_corrupt_record_is_skipped_and_counted(tmp_path: Path, place: int) -> None:
    pieces = frames([make_record(step) for step in range(4)])
    broken = bytearray(pieces[2])
    broken[place] ^= 0xFF
    event_file(tmp_path).write_bytes(b"".join([*pieces[:2], bytes(broken), *pieces[3:]]))
    run = follow(tmp_path)

    assert steps(refresh(run)) == [0, 2, 3]
    assert count_corrupt(run) == 1


def test_a_corrupt_length_loses_no_later_record(tmp_path: Path) -> None:
    pieces = frames([make_record(step) for step in range(4)])
    broken = bytearray(pieces[2])
    broken[0] ^= 0xFF
    event_file(tmp_path).write_bytes(b"".join([*pieces[:2], bytes(broken), *pieces[3:]]))
    run = follow(tmp_path)

    assert steps(refresh(run)) == [0, 2, 3]
    assert count_corrupt(run) == 1


def test_a_lost_stretch_that_grows_is_counted_once(tmp_path: Path) -> None:
    path = event_file(tmp_path)
    path.write_bytes(b"".join(frames([make_record(0)])) + b"\xaa" * 100)
    run = follow(tmp_path)

    for _ in range(3):
        refresh(run)
        append(path, b"\xaa" * 100)

    assert count_corrupt(run) == 1


@settings(deadline=None, max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.integers(0, 10_000), value=st.integers(1, 255))
def test_one_changed_byte_never_yields_a_wrong_batch(tmp_path: Path, place: int, value: int) -> None:
    records = [make_record(step, samples=2) for step in range(3)]
    content = bytearray(b"".join(frames(records)))
    content[place % len(content)] ^= value
    event_file(tmp_path).write_bytes(bytes(content))

    for entry in refresh(follow(tmp_path)):
        assert isinstance(entry, Entry)
        payload = bytes(content[entry.position : entry.position + entry.length])
        stored = decode.slot_array(payload, entry.layout.arrays["scores", "predictions"])
        assert np.array_equal(stored, records[entry.step].outputs["scores"].predictions)


def test_a_corrupt_record_after_a_lost_stretch_is_counted_too(tmp_path: Path) -> None:
    pieces = frames([make_record(step) for step in range(4)])
    broken = bytearray(pieces[3])
    broken[40] ^= 0xFF
    event_file(tmp_path).write_bytes(b"".join([*pieces[:3], b"\xaa" * 20, bytes(broken), *pieces[4:]]))
    run = follow(tmp_path)

    assert steps(refresh(run)) == [0, 1, 3]
    assert count_corrupt(run) == 2


def same_values(found: Entry | StatusEntry, content: bytes) -> bool:
    """Compare an entry with a walk of its record from nothing."""
    assert isinstance(found, Entry)
    payload = content[found.position : found.position + found.length]
    event = decode.decode_event(payload)
    places = {slot.tag: (slot.dtype, slot.shape, slot.offset, slot.nbytes) for slot in event.slots}
    layout = found.layout
    remembered = [layout.header, *layout.arrays.values(), *layout.layers.values()]
    return (
        {slot.tag: (slot.dtype, slot.shape, slot.offset, slot.nbytes) for slot in remembered} == places
        and (found.step, found.wall_time) == (event.step, event.wall_time)
        and found.summaries
        == {
            (layer, kind): payload[slot.offset : slot.offset + slot.nbytes]
            for (layer, kind), slot in layout.layers.items()
            if kind == "layer_summary"
        }
    )


def with_layers(step: int, *layers: str, samples: int = 8) -> BatchRecord:
    return make_record(step, samples=samples, layers={layer: make_summary(step) for layer in layers})


def test_remembered_layouts_are_those_of_a_walk(tmp_path: Path) -> None:
    # Steps past 127 take another byte; sizes and layers change; "aa" and "bb" make records of the same length.
    kinds = [(), ("aa",), (), ("bb",), ("aa", "bb")]
    records = [with_layers(step, *kinds[step % 5], samples=8 - step % 2) for step in range(100, 160)]
    path = write(tmp_path, records)

    entries = refresh(follow(tmp_path))

    content = path.read_bytes()
    assert steps(entries) == list(range(100, 160))
    assert all(same_values(entry, content) for entry in entries)
    # Remembering works: there are far fewer layouts than batches.
    assert len({id(entry.layout) for entry in entries if isinstance(entry, Entry)}) < 30


def test_large_records_are_remembered_without_their_bulk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, [with_layers(step, "aa", samples=8) for step in range(10)])
    monkeypatch.setattr(layouts, "_WHOLE_BYTES", 0)

    entries = refresh(follow(tmp_path))

    content = path.read_bytes()
    assert all(same_values(entry, content) for entry in entries)
    last = entries[-1]
    assert isinstance(last, Entry)
    assert len(last.front) < last.layout.arrays["scores", "predictions"].offset < last.length


def test_a_remembered_layout_is_checked_in_the_bulk_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layouts, "_WHOLE_BYTES", 0)
    # Records of one length whose fronts are alike: only the names of the layers differ.
    path = write(tmp_path, [with_layers(step, ("aa", "bb")[step % 2]) for step in range(12)])

    entries = refresh(follow(tmp_path))

    assert [list(entry.summaries) for entry in entries if isinstance(entry, Entry)] == [
        [("aa", "layer_summary")],
        [("bb", "layer_summary")],
    ] * 6
    assert all(same_values(entry, path.read_bytes()) for entry in entries)


def test_metadata_that_is_sent_again_holds_from_there_on(tmp_path: Path) -> None:
    few = [make_record(step) for step in range(3)]
    more = [make_record(step, metrics={"accuracy": 0.5, "top5": 0.75}) for step in range(3, 6)]
    write(tmp_path, [*few, *more])

    entries = refresh(follow(tmp_path))

    names = [entry.layout.content.fields for entry in entries if isinstance(entry, Entry)]
    assert ["metrics/top5" in fields for fields in names] == [False] * 3 + [True] * 3


def test_statuses_are_read(tmp_path: Path) -> None:
    status = metadata.Status("dropped", "The disk is slow.", 3, {"train": 7})
    write(tmp_path, [make_record(0)], statuses=[status])

    entries = refresh(follow(tmp_path))

    assert entries[1] == StatusEntry(0, status)


def test_files_are_read_in_the_order_of_their_names(tmp_path: Path) -> None:
    write(tmp_path, [make_record(5)], number=2)
    write(tmp_path, [make_record(0)], number=1)

    assert steps(refresh(follow(tmp_path))) == [0, 5]


def test_other_files_are_left_alone(tmp_path: Path) -> None:
    folder = event_file(tmp_path).parent
    (folder / "notes.txt").write_text("no event file")
    (folder / "events.out.tfevents.1.host.v2").write_bytes(b"another writer's")
    os.mkfifo(folder / "events.out.tfevents.2.host.1.1.batchview")
    run = follow(tmp_path)

    assert refresh(run) == []
    assert run.files == []


@pytest.mark.parametrize("change", ["truncated", "replaced", "rewritten", "deleted"])
def test_a_file_that_is_no_longer_the_same_is_read_again(tmp_path: Path, change: str) -> None:
    path = write(tmp_path, [make_record(step) for step in range(4)])
    write(tmp_path, [make_record(9)], number=1)
    run = follow(tmp_path)
    refresh(run)

    # Another writer would write other bytes from the first record on: its time.
    encoder = encode.EventEncoder({})
    other = [encode.encode_file_version(TIME + 1), *(encoder.encode(make_record(s), SPECS) for s in range(20, 29))]
    content = b"".join(tfrecord.frame(payload) for payload in other)
    if change == "truncated":
        os.truncate(path, path.stat().st_size // 2)
    elif change == "replaced":
        path.with_suffix(".new").write_bytes(content)
        os.replace(path.with_suffix(".new"), path)
    elif change == "rewritten":
        path.write_bytes(content)
    else:
        path.unlink()

    assert run.look()
    expected = {"truncated": [0], "replaced": list(range(20, 29)), "rewritten": list(range(20, 29)), "deleted": []}
    assert steps(run.read()) == [*expected[change], 9]
    assert not run.look()


def test_a_file_replaced_between_looking_and_reading_waits_for_the_next_look(tmp_path: Path) -> None:
    path = write(tmp_path, [make_record(step) for step in range(4)])
    run = follow(tmp_path)
    refresh(run)
    append(path, b"x")
    assert not run.look()
    path.with_suffix(".new").write_bytes(b"".join(frames([make_record(step) for step in range(20, 30)])))
    os.replace(path.with_suffix(".new"), path)

    assert steps(run.read()) == []
    assert run.look()
    assert steps(run.read()) == list(range(20, 30))


def test_a_deleted_run_has_no_files(tmp_path: Path) -> None:
    path = write(tmp_path, [make_record(0)])
    run = follow(tmp_path)
    refresh(run)
    path.unlink()
    path.parent.rmdir()

    assert run.look()
    assert (run.files, list(run.read())) == ([], [])


def event_of(content: bytes, tag: str = "train/header") -> bytes:
    value = summary_pb2.Summary.Value(tag=tag, metadata=metadata.summary_metadata(content))
    value.tensor.dtype = 2
    value.tensor.tensor_shape.dim.add(size=1)
    value.tensor.tensor_content = np.zeros(1).tobytes()
    event = event_pb2.Event(step=1, wall_time=TIME)
    event.summary.value.append(value)
    return tfrecord.frame(event.SerializeToString())


def test_a_newer_format_is_refused_with_both_versions(tmp_path: Path) -> None:
    path = write(tmp_path, [])
    append(path, event_of(b'{"version": 2, "kind": "header", "phase": "train"}'))
    append(path, b"".join(frames([make_record(1)])[1:]))
    write(tmp_path, [make_record(5)], number=1)
    run = follow(tmp_path)

    assert steps(refresh(run)) == [5]
    assert run.files[0].refused.startswith("Format version must be at most 1")
    assert "version=2" in run.files[0].refused
    assert not run.files[0].torn


@pytest.mark.parametrize(
    "content",
    [
        b"no json",
        b"[]",
        b'{"version": 1}',
        b'{"version": 1, "kind": "header", "phase": "train", "fields": ["epoch", "index"]}',
        b'{"version": 1, "kind": "target", "phase": "train", "output": "scores"}',
        b'{"version": 1, "kind": "layer_summary", "phase": "train", "layer": "dense"}',
    ],
)
def test_a_record_that_is_no_batch_is_skipped_and_counted(tmp_path: Path, content: bytes) -> None:
    path = write(tmp_path, [make_record(0)])
    append(path, event_of(content))
    append(path, frames([make_record(1)])[1])
    run = follow(tmp_path)

    assert steps(refresh(run)) == [0, 1]
    assert count_corrupt(run) == 1


def test_unknown_kinds_are_skipped(tmp_path: Path) -> None:
    path = write(tmp_path, [make_record(0)])
    append(path, event_of(b'{"version": 1, "kind": "dream", "phase": "train", "colour": 3}', "train/dream"))
    run = follow(tmp_path)

    assert steps(refresh(run)) == [0]
    assert count_corrupt(run) == 0


def test_batches_whose_metadata_was_lost_are_counted(tmp_path: Path) -> None:
    pieces = frames([make_record(step) for step in range(3)])
    event_file(tmp_path).write_bytes(b"".join([pieces[0], *pieces[2:]]))
    run = follow(tmp_path)

    assert steps(refresh(run)) == []
    assert count_corrupt(run) == 2


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root reads everything")
def test_a_file_that_may_not_be_read_is_reported(tmp_path: Path) -> None:
    path = write(tmp_path, [make_record(0)])
    path.chmod(0)
    run = follow(tmp_path)

    assert refresh(run) == []
    assert "Permission denied" in run.unreadable[path.name]
