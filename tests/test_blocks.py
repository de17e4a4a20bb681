"""Records taken in many at a time are those taken in one by one."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from recorded import MODEL, SPEC, TIME, append, event_file, frames, make_record, make_summary, write
from strategies import settings
from tensorboard.compat.proto import event_pb2, types_pb2

from tb_batchview import blocks, decode, encode, index, metadata, tfrecord
from tb_batchview.blocks import Block
from tb_batchview.index import EventFile
from tb_batchview.order import Pieces
from tb_batchview.records import BatchRecord, OutputRecord
from tb_batchview.running import RunningSpikes, RunningSums
from tb_batchview.store import RunStore
from tb_batchview.views import PhaseView, RunView

# Everything twice: with columns in memory and in files.
pytestmark = pytest.mark.usefixtures("columns_in")

SPECS = {"scores": SPEC, "other": SPEC}


@contextmanager
def taking(*, many: bool, chunk: int = tfrecord.CHUNK_BYTES) -> Iterator[None]:
    """Take in even a few records at once, or all one by one."""
    with (
        mock.patch.object(blocks, "LEAST", 2 if many else 1 << 60),
        mock.patch.object(index, "_TRIED", 6),
        mock.patch.object(tfrecord, "CHUNK_BYTES", chunk),
        mock.patch.object(tfrecord, "_SEARCHED_BYTES", min(chunk, tfrecord._SEARCHED_BYTES)),
    ):
        yield


def describe(value: Any) -> Any:
    """Return everything that a view holds, to the bit."""
    if isinstance(value, Pieces):
        value = value[:]
    if isinstance(value, np.ndarray):
        return value.dtype.str, value.shape, value.tobytes()
    if isinstance(value, Mapping):
        return [(key, describe(item)) for key, item in value.items()]
    if isinstance(value, tuple):
        return [describe(item) for item in value]
    if isinstance(value, EventFile):
        return value.path, value.position, value.size, value.corrupt, value.refused, value.worker, value.workers
    if isinstance(value, (RunningSums, RunningSpikes)):
        # What was asked so far, of the columns that are compared.
        return type(value)
    if isinstance(value, decode.Slot):
        return value.tag, value.dtype, value.shape, value.offset, value.nbytes
    if dataclasses.is_dataclass(value):
        # What is counted from the columns, when it is asked for, is no part of them.
        fields = [field.name for field in dataclasses.fields(value) if field.compare]
        return [(name, describe(getattr(value, name))) for name in fields]
    return value


def make_foreign(step: int) -> bytes:
    """Return an event of another writer: other types, numbers no float32 holds."""
    event = event_pb2.Event(wall_time=TIME + step, step=step)
    # It says something else of the output: what was said last holds.
    spec, run = dataclasses.replace(SPEC, class_names=None), {"model": "foreign"}
    header = metadata.header_content("predict", ["epoch", "index", "size"], {"scores": spec}, run, 0, 1)
    arrays: dict[str, tuple[bytes, int, np.ndarray]] = {
        "header": (header, types_pb2.DT_DOUBLE, np.array([0.5, step, 2.9])),
        "target": (b"", types_pb2.DT_INT64, np.array([step, 2**40 + 1])),
        "confidence": (b"", types_pb2.DT_DOUBLE, np.array([step / 3, 1e300])),
        "error": (b"", types_pb2.DT_BOOL, np.array([True, False])),
    }
    for kind, (content, dtype, array) in arrays.items():
        value = event.summary.value.add(tag=f"predict/{kind}")
        content = content or metadata.output_content("predict", "scores", kind)
        value.metadata.CopyFrom(metadata.summary_metadata(content))
        value.tensor.dtype = dtype
        value.tensor.tensor_shape.dim.add(size=len(array))
        value.tensor.tensor_content = array.tobytes()
    return bytes(event.SerializeToString())


def make(kind: str, step: int) -> BatchRecord:
    scores = make_record(step, samples=2).outputs["scores"]
    changes: dict[str, Any] = {
        "plain": {},
        "larger": {"samples": 3},
        "empty": {"samples": 0},
        "layer": {"layers": {"aa": make_summary(step)}},
        "layers": {"layers": {"bb": make_summary(step), "aa": make_summary(step)}},
        "validation": {"phase": "validation"},
        "not a number": {"epoch": np.nan},
        "endless": {"epoch": np.inf if step % 2 else 3.0},
        "negative": {"size": -1 if step % 3 else -0.5},
        "header only": {"outputs": {}},
        "other metric": {"metrics": {"top5": 0.5}},
        "two outputs": {"outputs": {"other": scores, "scores": scores}},
        "without loss": {"outputs": {"scores": dataclasses.replace(scores, sample_loss=None)}},
        "texts": {
            "outputs": {"scores": dataclasses.replace(scores, sample_ids=np.array(["x" * (step % 5), "yz"], object))}
        },
        "numbers": {"outputs": {"scores": OutputRecord(scores.predictions, sample_ids=np.array([step, 5]))}},
    }[kind]
    return make_record(step, **{"samples": 2, **changes})


KINDS = ["plain", "larger", "empty", "layer", "layers", "validation", "not a number", "endless", "negative"]
KINDS += ["header only", "other metric", "two outputs", "without loss", "texts", "numbers", "foreign", "status"]


def encode_kind(encoder: encode.EventEncoder, kind: str, step: int, number: int) -> bytes:
    if kind == "status":
        status = metadata.Status("dropped", "The disk is slow.", number, {"train": step})
        return encoder.encode_status(status, step=number, wall_time=TIME)
    return make_foreign(step) if kind == "foreign" else encoder.encode(make(kind, step), SPECS)


@st.composite
def payloads(draw: st.DrawFn) -> list[bytes]:
    """Return the events of a file: a few kinds of batches, in turn, again and again."""
    encoder = encode.EventEncoder(MODEL, draw(st.sampled_from([0, 1])), 2)
    found = [encode.encode_file_version(TIME)]
    step = draw(st.sampled_from([0, 0, 100, 16_350]))
    for _ in range(draw(st.integers(1, 3))):
        kinds = draw(st.lists(st.sampled_from(KINDS), min_size=1, max_size=3))
        for number in range(draw(st.integers(1, 14))):
            kind = kinds[number % len(kinds)]
            found.append(encode_kind(encoder, kind, step, number))
            step += draw(st.sampled_from([1, 1, 1, 1, 3, 0])) if number % 5 == 0 else 1
        step = max(0, step + draw(st.sampled_from([0, 0, -4, 20])))
    return found


@st.composite
def contents(draw: st.DrawFn) -> bytes:
    """Return a file: sound, with bytes changed below or above the checksums."""
    records = [bytearray(payload) for payload in draw(payloads())]
    places = st.tuples(st.integers(0, 1 << 20), st.integers(0, 1 << 20), st.integers(1, 255))
    for number, place, change in draw(st.lists(places, max_size=3)):
        record = records[number % len(records)]
        record[place % len(record)] ^= change
    content = bytearray(b"".join(tfrecord.frame(bytes(record)) for record in records))
    for _, place, change in draw(st.lists(places, max_size=2)):
        content[place % len(content)] ^= change
    return bytes(content)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("blocks")


def open_run(directory: Path) -> RunStore:
    return RunStore(directory / metadata.DIRECTORY)


@settings(max_examples=400)
@given(
    files=st.lists(contents(), min_size=1, max_size=2),
    cuts=st.lists(st.floats(0, 1), max_size=3).map(sorted),
    whole=st.booleans(),
    chunk=st.sampled_from([64, 900, 5000, tfrecord.CHUNK_BYTES]),
)
def test_blocks_are_what_single_records_are(
    directory: Path, files: list[bytes], cuts: list[float], whole: bool, chunk: int
) -> None:
    paths = [event_file(directory, number) for number in (0, 1)]
    for path in paths:
        path.unlink(missing_ok=True)
    one_by_one, many = open_run(directory), open_run(directory)

    # The files grow together; some of them are never written to their end.
    for first, last in zip([0.0, *cuts], [*cuts, 1.0] if whole else cuts, strict=False):
        for path, content in zip(paths, files, strict=False):
            append(path, content[int(first * len(content)) : int(last * len(content))])
        with taking(many=False):
            expected = one_by_one.refresh()
        with taking(many=True, chunk=chunk):
            found = many.refresh()

        assert describe(found) == describe(expected)


@settings(max_examples=40)
@given(content=contents(), place=st.integers(0), length=st.integers(0, 60))
def test_blocks_are_what_single_records_are_in_files_cut_at_any_byte(
    directory: Path, content: bytes, place: int, length: int
) -> None:
    start = place % len(content)
    path = event_file(directory)
    for cut in range(start, min(start + length, len(content)) + 1):
        path.write_bytes(content[:cut])
        with taking(many=False):
            expected = open_run(directory).refresh()
        with taking(many=True):
            assert describe(open_run(directory).refresh()) == describe(expected)


@pytest.mark.parametrize("kind", KINDS)
def test_two_kinds_in_turn_are_the_same_to_both(tmp_path: Path, kind: str) -> None:
    # The step takes another byte from 128 on.
    for other in KINDS:
        encoder = encode.EventEncoder(MODEL)
        kinds = [kind, other, other] * 4 + [other, kind] * 6
        events = [encode_kind(encoder, kind, 118 + number, number) for number, kind in enumerate(kinds)]
        event_file(tmp_path).write_bytes(b"".join(map(tfrecord.frame, [encode.encode_file_version(TIME), *events])))

        with taking(many=False):
            expected = open_run(tmp_path).refresh()
        with taking(many=True):
            assert describe(open_run(tmp_path).refresh()) == describe(expected), other


@pytest.mark.parametrize("kind", KINDS)
def test_two_files_that_grow_in_turn_are_the_same_to_both(tmp_path: Path, kind: str) -> None:
    # In the second half both layouts are known, and no single record comes between their blocks.
    for other in KINDS:
        halves: list[list[bytes]] = [[], []]
        for file, each in enumerate([kind, other]):
            encoder = encode.EventEncoder(MODEL)
            for half in (0, 1):
                steps = range(1000 + 100 * half + 50 * file, 1000 + 100 * half + 50 * file + 9)
                events = [encode_kind(encoder, each, step, step) for step in steps]
                halves[half].append(b"".join(map(tfrecord.frame, events)))
        for file in (0, 1):
            event_file(tmp_path, file).write_bytes(tfrecord.frame(encode.encode_file_version(TIME)))
        one_by_one, many = open_run(tmp_path), open_run(tmp_path)

        for half in halves:
            for file in (0, 1):
                append(event_file(tmp_path, file), half[file])
            with taking(many=False):
                expected = one_by_one.refresh()
            with taking(many=True):
                assert describe(many.refresh()) == describe(expected), other


@pytest.mark.parametrize("steps", [[*range(8), *range(8)], [*range(8), 8, 3], [*range(9), *range(20, 9, -1)]])
def test_steps_that_go_back_are_the_same_to_both(tmp_path: Path, steps: list[int]) -> None:
    # A corrupt record parts the blocks; a second file counts from where the first one ended.
    for place in range(4, len(steps)):
        encoder = encode.EventEncoder(MODEL)
        events = [encode_kind(encoder, "plain", 200 + step, 0) for step in steps]
        framed = [tfrecord.frame(event) for event in events]
        framed.insert(place, framed[-1][:-1] + bytes([framed[-1][-1] ^ 1]))
        event_file(tmp_path).write_bytes(b"".join(framed))
        status = metadata.Status("closed", "", 1, {"train": 5})
        write(tmp_path, [make_record(step) for step in (209, 210)], number=1, statuses=[status])

        with taking(many=False):
            expected = open_run(tmp_path).refresh()
        with taking(many=True):
            assert describe(open_run(tmp_path).refresh()) == describe(expected), place


def test_a_changed_byte_anywhere_is_the_same_to_both(tmp_path: Path) -> None:
    # With its checksum made anew: nothing but what stands between the values tells.
    pieces = frames([make("layer", step) for step in range(200, 212)])
    payload = pieces[9][tfrecord.HEADER_BYTES : -tfrecord.FOOTER_BYTES]
    path = event_file(tmp_path)
    different = 0
    plain: Any = None
    # In the varint of the step every bit.
    changes = [(0, 0), *((place, 1 << bit) for place in (10, 11) for bit in range(8))]
    changes += [(place, 1 << place % 8) for place in range(len(payload))]
    for place, change in changes:
        changed = bytearray(payload)
        changed[place] ^= change
        path.write_bytes(b"".join([*pieces[:9], tfrecord.frame(bytes(changed)), *pieces[10:]]))
        with taking(many=False):
            expected = describe(open_run(tmp_path).refresh())
        with taking(many=True):
            assert describe(open_run(tmp_path).refresh()) == expected, place
        plain = plain or expected
        different += expected != plain

    assert different > len(payload) // 4


@pytest.mark.parametrize("width", [2, 3, 9, 10])
def test_a_step_may_take_more_bytes_than_it_needs(tmp_path: Path, width: int) -> None:
    records = [make_record(step, samples=2) for step in range(40)]
    framed = frames(records)
    payloads = [piece[tfrecord.HEADER_BYTES : -tfrecord.FOOTER_BYTES] for piece in framed[2:]]
    assert [payload[10] for payload in payloads] == list(range(1, 40))
    padded = [
        payload[:10] + bytes([payload[10] | 0x80, *[0x80] * (width - 2), 0]) + payload[11:] for payload in payloads
    ]
    event_file(tmp_path).write_bytes(b"".join([*framed[:2], *map(tfrecord.frame, padded)]))

    with taking(many=False):
        expected = open_run(tmp_path).refresh()
    with taking(many=True):
        found = open_run(tmp_path).refresh()

    assert found.phases["train"].step.tolist() == list(range(40))
    assert describe(found) == describe(expected)


def test_layers_stand_in_the_order_of_their_batches(tmp_path: Path) -> None:
    # The first batches of each layer do not count: no epoch.
    names = ["aa", "bb"] * 4 + ["bb", "aa"] * 10 + ["bb"]
    records = [
        make_record(step, samples=2, epoch=np.nan if step < 8 else 0, layers={name: make_summary(step)})
        for step, name in enumerate(names)
    ]
    write(tmp_path, records)

    with taking(many=True):
        view = open_run(tmp_path).refresh()

    assert list(view.phases["train"].layers) == ["bb", "aa"]


def list_singles(directory: Path) -> tuple[RunView, int]:
    """Return a run, and how many of its batches were taken in one by one."""
    run = open_run(directory)
    read = run._index.read
    singles = 0

    def count(enough: Callable[[], bool]) -> Iterator[Any]:
        nonlocal singles
        for item in read(enough):
            singles += not isinstance(item, Block)
            yield item

    with mock.patch.object(run._index, "read", count):
        return run.refresh(), singles


def take_phase(directory: Path) -> PhaseView:
    return open_run(directory).refresh().phases["train"]


@pytest.mark.parametrize("every", [1, 2, 10])
def test_few_of_many_batches_are_taken_in_one_by_one(tmp_path: Path, every: int) -> None:
    # Two layouts in turn, and a step that takes another byte from 128 on.
    layers = [{} if step % every else {"aa": make_summary(step)} for step in range(2000)]
    write(tmp_path, [make_record(step, layers=layers[step]) for step in range(2000)])

    view, singles = list_singles(tmp_path)

    phase = view.phases["train"]
    assert phase.step.tolist() == list(range(2000))
    assert phase.layers["aa"].rows.tolist() == list(range(0, 2000, every))
    assert singles < 200


def test_samples_of_a_block_are_those_of_their_batches(tmp_path: Path) -> None:
    records = [make_record(step, samples=3 + step % 2) for step in range(300)]
    write(tmp_path, records)

    samples = take_phase(tmp_path).outputs["scores"]

    outputs = [record.outputs["scores"] for record in records]
    assert np.array_equal(samples.columns["target"], np.concatenate([output.targets for output in outputs]))
    assert np.array_equal(samples.columns["sample_loss"], np.concatenate([output.sample_loss for output in outputs]))
    assert np.diff(samples.starts).tolist() == [3, 4] * 150


def test_texts_of_any_length_are_taken_in_one_by_one(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    texts = [np.array(["x" * length, "y"], object) for length in generator.integers(0, 1000, 600)]
    scores = make_record(0, samples=2).outputs["scores"]
    outputs = [{"scores": dataclasses.replace(scores, sample_ids=text)} for text in texts]
    write(tmp_path, [make_record(step, samples=2, outputs=outputs[step]) for step in range(600)])

    view, singles = list_singles(tmp_path)

    assert (len(view.phases["train"]), singles) == (600, 600)


def test_a_corrupt_record_within_a_stretch_costs_only_itself(tmp_path: Path) -> None:
    pieces = frames([make_record(step) for step in range(1000)])
    pieces[501] = pieces[501][:-1] + bytes([pieces[501][-1] ^ 1])
    event_file(tmp_path).write_bytes(b"".join(pieces))

    view, singles = list_singles(tmp_path)

    assert view.phases["train"].step.tolist() == [step for step in range(1000) if step != 500]
    assert (view.health.corrupt_records, singles < 200) == (1, True)
