"""Files that nobody's writer made: each record costs itself, a count, and little else."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import crc32c
import fuzz
import numpy as np
import pytest
from recorded import CLASSES, SPECS, TIME, append, event_file, frames, make_record, make_summary, write
from tensorboard.compat.proto import event_pb2, summary_pb2, tensor_pb2
from tensorboard.plugins import base_plugin

from tb_batchview import encode, load, metadata, tfrecord
from tb_batchview.plugin import BatchViewPlugin
from tb_batchview.writer import BatchWriter

Event = Any
HEADER = metadata.header_content("train", ("epoch", "index", "size", "loss"), {}, {})


def sound(*steps: int) -> list[bytes]:
    """Return records of batches, the first with its metadata."""
    encoder = encode.EventEncoder({})
    return [encoder.encode(make_record(step, samples=2), SPECS) for step in steps]


def changed(change: Callable[[Event], None], step: int = 5) -> bytes:
    """Return the record of a batch that was changed."""
    (payload,) = sound(step)
    event = event_pb2.Event.FromString(payload)
    change(event)
    return bytes(event.SerializeToString())


def value_of(event: Event, kind: str) -> Any:
    return next(value for value in event.summary.value if value.tag.rpartition("/")[2] == kind)


def set_array(kind: str, array: np.ndarray) -> Callable[[Event], None]:
    """Put another array in the place of one."""

    def change(event: Event) -> None:
        value = value_of(event, kind)
        del value.tensor.tensor_shape.dim[:]
        for size in array.shape:
            value.tensor.tensor_shape.dim.add(size=size)
        value.tensor.dtype = encode._DTYPE_NUMBERS[array.dtype]
        value.tensor.tensor_content = array.tobytes()

    return change


def set_shape(kind: str, *sizes: int) -> Callable[[Event], None]:
    """Let an array say another shape than it has."""

    def change(event: Event) -> None:
        shape = value_of(event, kind).tensor.tensor_shape
        del shape.dim[:]
        for size in sizes:
            shape.dim.add(size=size)

    return change


def set_header(number: float, place: int) -> Callable[[Event], None]:
    def change(event: Event) -> None:
        tensor = value_of(event, "header").tensor
        numbers = np.frombuffer(tensor.tensor_content).copy()
        numbers[place] = number
        tensor.tensor_content = numbers.tobytes()

    return change


def set_content(**fields: Any) -> Callable[[Event], None]:
    """Change what the header's metadata say."""

    def change(event: Event) -> None:
        data = value_of(event, "header").metadata.plugin_data
        data.content = json.dumps({**json.loads(data.content), **fields}).encode()

    return change


def set_raw(content: bytes) -> Callable[[Event], None]:
    def change(event: Event) -> None:
        value_of(event, "header").metadata.plugin_data.content = content

    return change


def set_step(step: int) -> Callable[[Event], None]:
    def change(event: Event) -> None:
        event.step = step

    return change


def add_values(count: int) -> Callable[[Event], None]:
    def change(event: Event) -> None:
        for number in range(count):
            event.summary.value.add(tag=str(number), tensor={"dtype": "DT_INT8", "tensor_content": b"a"})

    return change


def rename(name: str) -> Callable[[Event], None]:
    """Give the output another name, in tags and metadata."""

    def change(event: Event) -> None:
        for value in event.summary.value:
            value.tag = value.tag.replace("scores", name)
            content = json.loads(value.metadata.plugin_data.content)
            if "output" in content:
                content["output"] = name
            if "outputs" in content:
                content["outputs"] = {name: content["outputs"]["scores"]}
                content["fields"] = [field.replace("scores", name) for field in content["fields"]]
            value.metadata.plugin_data.content = json.dumps(content).encode()

    return change


def nested(depth: int) -> bytes:
    body = b""
    for level in range(depth):
        # Event.summary, Summary.value, Value.tensor, and from there on whatever.
        field = (5, 1, 8)[depth - 1 - level] if level >= depth - 3 else 2
        body = bytes([field << 3 | 2]) + encode._varint(len(body)) + body
    return body


def text(event: Event) -> None:
    tensor = value_of(event, "predictions").tensor
    tensor.CopyFrom(tensor_pb2.TensorProto(dtype="DT_STRING", string_val=[b"a", b"\xff"]))
    tensor.tensor_shape.dim.add(size=2)


def add_inputs(
    *texts: bytes, dtype: str = "DT_STRING", sizes: tuple[int, ...] | None = None
) -> Callable[[Event], None]:
    """Add what the samples were."""

    def change(event: Event) -> None:
        data = metadata.summary_metadata(metadata.inputs_content("train", "image"))
        value = event.summary.value.add(tag="train/inputs", metadata=data)
        value.tensor.CopyFrom(tensor_pb2.TensorProto(dtype=dtype, string_val=texts))
        for size in (len(texts),) if sizes is None else sizes:
            value.tensor.tensor_shape.dim.add(size=size)
        if dtype != "DT_STRING":
            value.tensor.tensor_content = bytes(len(texts))

    return change


def status_of(array: np.ndarray | None, *sizes: int, texts: int = 0) -> bytes:
    event = event_pb2.Event(wall_time=TIME)
    value = event.summary.value.add(tag="status", metadata=metadata.summary_metadata(metadata.status_content()))
    for size in sizes:
        value.tensor.tensor_shape.dim.add(size=size)
    if array is None:
        value.tensor.dtype = 7
        value.tensor.string_val.extend([b'{"kind":"write"}'] * texts)
    else:
        value.tensor.dtype = encode._DTYPE_NUMBERS[array.dtype]
        value.tensor.tensor_content = array.tobytes()
    return bytes(event.SerializeToString())


# Name: the record, and whether it is a batch all the same.
RECORDS: dict[str, tuple[Callable[[], bytes], bool]] = {
    "more values than any batch has": (lambda: changed(add_values(100_000)), False),
    "messages in messages": (lambda: nested(5_000), False),
    "a length past the end": (lambda: b"\x2a\xff\xff\xff\xff\x0f" + bytes(20), False),
    "a negative step": (lambda: changed(set_step(-5)), False),
    "the least of all steps": (lambda: changed(set_step(-(2**63))), False),
    "the greatest of all steps": (lambda: changed(set_step(2**63 - 1)), True),
    "an epoch of NaN": (lambda: changed(set_header(np.nan, 0)), False),
    "an epoch without end": (lambda: changed(set_header(np.inf, 0)), False),
    "a size of 1e300": (lambda: changed(set_header(1e300, 2)), False),
    "a negative index": (lambda: changed(set_header(-1.0, 1)), False),
    "a loss of 1e300": (lambda: changed(set_header(1e300, 3)), True),
    "a loss without end": (lambda: changed(set_header(-np.inf, 3)), True),
    "a shape that says more": (lambda: changed(set_shape("predictions", 2, 5)), False),
    "a shape that says all there is": (lambda: changed(set_shape("predictions", 2**62, 2)), False),
    "a shape of nothing times everything": (lambda: changed(set_shape("predictions", 0, 2**62)), False),
    "no dimension": (lambda: changed(set_array("predictions", np.array(1.5, np.float32))), False),
    "no samples": (lambda: changed(set_array("predictions", np.zeros((0, 4), np.float32))), False),
    "no classes": (lambda: changed(set_array("predictions", np.zeros((2, 0), np.float32))), True),
    "32 dimensions": (lambda: changed(set_array("predictions", np.zeros((2,) + (1,) * 31, np.float32))), True),
    "33 dimensions": (lambda: changed(set_shape("predictions", 2, 4, *[1] * 31)), False),
    "texts for predictions": (lambda: changed(text), True),
    "class numbers out of range": (lambda: changed(set_array("target", np.array([99, -(2**31)], np.int32))), True),
    "class numbers past 32 bits": (lambda: changed(set_array("predicted", np.array([2**40, -(2**40)]))), True),
    "booleans for classes": (lambda: changed(set_array("target", np.ones(2, np.bool_))), False),
    "a matrix of confidences": (lambda: changed(set_array("confidence", np.ones((2, 2), np.float32))), False),
    "JSON in JSON": (lambda: changed(set_raw(b"[" * 200_000)), False),
    "objects in objects": (lambda: changed(set_raw(b'{"a":' * 100_000 + b"1" + b"}" * 100_000)), False),
    "a number of many digits": (lambda: changed(set_raw(b'{"version":' + b"9" * 100_000 + b"}")), False),
    "a class for everybody": (
        lambda: changed(set_content(outputs={"scores": {"task": "multiclass", "classes": 2**31 - 1}})),
        True,
    ),
    "more classes than numbers": (
        lambda: changed(set_content(outputs={"scores": {"task": "multiclass", "classes": 2**31}})),
        False,
    ),
    "names without classes": (
        lambda: changed(
            set_content(outputs={"scores": {"task": "multiclass", "classes": 4, "class_names": ["a"] * 300_000}})
        ),
        False,
    ),
    "a key that is there twice": (
        lambda: changed(set_raw(HEADER[:-1] + b',"kind":"header","kind":"target"}')),
        False,
    ),
    "more fields than any header": (
        lambda: changed(set_content(fields=[str(number) for number in range(metadata.MAX_FIELDS + 1)])),
        False,
    ),
    "more outputs than any model": (
        lambda: changed(set_content(outputs={str(number): {"task": "regression"} for number in range(2000)})),
        False,
    ),
    "metadata of 17 MB": (lambda: changed(set_raw(b" " * (17 << 20))), False),
    "a name of 10 kB": (lambda: changed(rename("n" * 10_000)), True),
    "a name of 70 kB": (lambda: changed(rename("n" * 70_000)), False),
    "a name that turns around": (lambda: changed(rename("\u202e\u0000\n\u2066/../<script>\ud7ff\ufeff")), True),
    "half a pair": (lambda: changed(rename("\ue000\U0010ffff")), True),
    "inputs that are no pictures": (lambda: changed(add_inputs(b"<script>", b"\x89PNG")), True),
    "inputs of numbers": (lambda: changed(add_inputs(b"", b"", dtype="DT_UINT8")), False),
    "inputs of two dimensions": (lambda: changed(add_inputs(b"a", b"b", sizes=(2, 1))), False),
    "inputs of no dimension": (lambda: changed(add_inputs(b"a", sizes=())), False),
    "inputs of fewer than all samples": (lambda: changed(add_inputs(b"a")), False),
    "inputs of more than there are": (lambda: changed(add_inputs(b"abcd", sizes=(2,))), True),
    "inputs of a row each, and none there": (lambda: changed(add_inputs(sizes=(2,))), False),
    "inputs of everybody": (lambda: changed(add_inputs(b"a", b"b", sizes=(2**40,))), False),
    "a status of numbers": (lambda: status_of(np.arange(2, dtype=np.int32), 2), False),
    "a status of two dimensions": (lambda: status_of(None, 1, 1, texts=1), False),
    "a status of no text": (lambda: status_of(None, 0), False),
    "a status of many texts": (lambda: status_of(None, 2, texts=2), False),
    "a status too long": (lambda: status_of(None, 1, texts=10_000), False),
}


@pytest.mark.parametrize("name", RECORDS)
def test_a_hostile_record_costs_itself_and_little_else(tmp_path: Path, name: str) -> None:
    make, is_batch = RECORDS[name]
    hostile = make()
    first, *rest = sound(0, 1, 2, *range(20, 40))
    content = b"".join(map(tfrecord.frame, [encode.encode_file_version(TIME), first, *rest[:2], hostile, *rest[2:]]))
    # Routes, `load`, both ways of taking in: tests/fuzz.py says what it promises.
    fuzz.check_file(content)

    event_file(tmp_path).write_bytes(content)
    run = load(tmp_path)["."]
    others = {0, 1, 2, *range(20, 40)}
    kept = {batch.step for batch in run.batches("train")}
    assert len(kept - others) == is_batch
    assert others <= kept
    assert run.health.corrupt_records == (not is_batch)


def test_classes_out_of_range_are_counted_nowhere(tmp_path: Path) -> None:
    hostile = changed(set_array("target", np.array([99, -(2**31)], np.int32)))
    event_file(tmp_path).write_bytes(b"".join(map(tfrecord.frame, [hostile])))

    run = load(tmp_path)["."]

    assert run.batches("train")[0].target.tolist() == [99, -(2**31)]
    assert run.confusion("train").shape == (CLASSES, CLASSES)
    assert run.confusion("train").sum() == 0


def test_a_compressed_file_is_one_lost_stretch(tmp_path: Path) -> None:
    path = write(tmp_path, [make_record(step) for step in range(30)])
    path.write_bytes(gzip.compress(path.read_bytes()))

    run = load(tmp_path)["."]

    assert (run.phases, run.health.corrupt_records) == ((), 1)


@pytest.mark.parametrize("kind", ["pipe", "directory", "loop", "link to nothing", "socket"])
def test_what_is_named_like_a_file_and_is_none_stops_nobody(tmp_path: Path, kind: str) -> None:
    path = event_file(tmp_path, 5)
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "directory":
        path.mkdir()
    elif kind == "socket":
        os.mknod(path, 0o600 | 0o140000)
    else:
        path.symlink_to(path if kind == "loop" else tmp_path / "nothing")
    write(tmp_path, [make_record(3)])

    def go_on() -> None:
        with BatchWriter(tmp_path, run={"architecture": "a"}) as writer:
            writer.add_batch(loss=0.5)

    # In a thread: what waits for the other end of a pipe waits for ever.
    writing = threading.Thread(target=go_on, daemon=True)
    writing.start()
    writing.join(30)
    assert not writing.is_alive()
    assert [batch.step for batch in load(tmp_path)["."].batches("train")] == [3, 4]


def test_a_pipe_in_the_place_of_a_file_is_not_waited_for(tmp_path: Path) -> None:
    path = write(tmp_path, [make_record(step) for step in range(3)])
    log = load(tmp_path)
    batch = log["."].batches("train")[0]
    path.unlink()
    os.mkfifo(path)

    with pytest.raises(Exception, match="must still hold the batch"):
        _ = batch.predictions
    with pytest.raises(OSError, match="seek"):
        os.pread(tfrecord.open_file(path), 1, 0)


@pytest.mark.parametrize("step", [2**62, 2**63 - 1])
def test_training_goes_on_beside_an_absurd_step(tmp_path: Path, step: int) -> None:
    write(tmp_path, [make_record(7), make_record(step)])

    with BatchWriter(tmp_path) as writer:
        writer.add_batch(loss=0.5)
        assert writer.dropped == 0

    assert [batch.step for batch in load(tmp_path)["."].batches("train")] == [7, 8, step]


def test_a_file_that_shrinks_while_it_is_read_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tfrecord, "LONG_BYTES", 0)
    path = write(tmp_path, [make_record(step) for step in range(3)])
    pread, shrunk = os.pread, []

    def shrinking(fd: int, count: int, position: int) -> bytes:
        content = pread(fd, count, position)
        if position and not shrunk:
            shrunk.append(True)
            os.truncate(path, position + 10)
        return content

    monkeypatch.setattr(os, "pread", shrinking)
    log = load(tmp_path)
    monkeypatch.undo()
    log.refresh()
    path.write_bytes(b"".join(frames([make_record(step) for step in range(5)])))
    log.refresh()

    assert shrunk
    assert [batch.step for batch in log["."].batches("train")] == [0, 1, 2, 3, 4]
    assert log["."].health.corrupt_records == 0


def test_metadata_said_anew_in_every_record_takes_time_and_memory_in_proportion(tmp_path: Path) -> None:
    encoder = encode.EventEncoder({})
    records = [
        encoder.encode(make_record(step, outputs={}, layers={f"layer{step}": make_summary(step)}), {})
        for step in range(4_000)
    ]
    event_file(tmp_path).write_bytes(b"".join(map(tfrecord.frame, records)))
    script = (
        "import resource, sys, tb_batchview\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "run = tb_batchview.load(sys.argv[1])['.']\n"
        "print(len(run.batches('train')), len(run.layers), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    batches, layers, kilobytes = map(int, run_python(script, tmp_path).split())
    assert (batches, layers) == (4_000, 4_000)
    # A copy of all that was said before, for each record, would be half a gigabyte.
    assert kilobytes < 150_000


def run_python(script: str, *arguments: Path) -> str:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
    command = [sys.executable, "-c", script, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def write_long(path: Path, nbytes: int) -> None:
    """Append a batch whose predictions are a hole of the file."""
    event = event_pb2.Event.FromString(sound(5)[0])
    bulk = event.summary.value.pop()
    assert bulk.tag.endswith("/predictions")
    shape = {"dim": [{"size": 2}, {"size": nbytes // 2}]}
    tensor = tensor_pb2.TensorProto(dtype="DT_UINT8", tensor_shape=shape).SerializeToString()
    tensor += b"\x22" + encode._varint(nbytes)
    value = summary_pb2.Summary.Value(tag=bulk.tag, metadata=bulk.metadata).SerializeToString()
    value += b"\x42" + encode._varint(len(tensor) + nbytes) + tensor
    summary = event.summary.SerializeToString() + b"\x0a" + encode._varint(len(value) + nbytes) + value
    front = b"\x09" + np.float64(TIME).tobytes() + b"\x10\x05\x2a" + encode._varint(len(summary) + nbytes) + summary
    crc = crc32c.crc32c(front)
    left = nbytes
    while left:
        crc = crc32c.crc32c(bytes(min(left, 1 << 24)), crc)
        left -= min(left, 1 << 24)
    length = (len(front) + nbytes).to_bytes(8, "little")
    header = length + tfrecord.mask(crc32c.crc32c(length)).to_bytes(4, "little")
    with path.open("ab") as file:
        file.write(header + front)
        file.truncate(file.tell() + nbytes)
        file.seek(0, os.SEEK_END)
        file.write(tfrecord.mask(crc).to_bytes(4, "little"))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="ru_maxrss is in other units, and holes are Linux'")
def test_a_long_record_is_taken_in_without_its_bulk(tmp_path: Path) -> None:
    path = event_file(tmp_path)
    path.write_bytes(tfrecord.frame(encode.encode_file_version(TIME)))
    write_long(path, 2_000_000_000)
    append(path, b"".join(map(tfrecord.frame, sound(6, 7))))
    script = (
        "import resource, sys, tb_batchview\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "run = tb_batchview.load(sys.argv[1])['.']\n"
        "batch = run.batches('train')[0]\n"
        "print([batch.step for batch in run.batches('train')], batch.predictions.shape, batch.predictions[1, -1])\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )

    shown, kilobytes = run_python(script, tmp_path).splitlines()

    assert shown == "[5, 6, 7] (2, 1000000000) 0"
    assert int(kilobytes) < 60_000


def test_long_records_are_walked_as_short_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    records = [make_record(step, layers={"dense": make_summary(step)} if step % 2 else {}) for step in range(9)]
    write(tmp_path, records)
    expected = load(tmp_path)["."]
    monkeypatch.setattr(tfrecord, "LONG_BYTES", 0)
    monkeypatch.setattr(tfrecord, "_LONG_READ_BYTES", 16)

    found = load(tmp_path)["."]

    for batch, other in zip(expected.batches("train"), found.batches("train"), strict=True):
        assert (batch.step, batch.loss, batch.metrics) == (other.step, other.loss, other.metrics)
        assert batch.predictions.tobytes() == other.predictions.tobytes()
        assert list(batch.layers) == list(other.layers)


def test_a_long_record_of_endless_fields_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tfrecord, "_LONG_LOOKS", 1 << 16)
    path = event_file(tmp_path)
    path.write_bytes(tfrecord.frame(b"\x2a" + encode._varint(2 << 20) + b"\x10\x01" * (1 << 20)))
    append(path, b"".join(map(tfrecord.frame, sound(1))))

    run = load(tmp_path)["."]

    assert [batch.step for batch in run.batches("train")] == [1]
    assert run.health.corrupt_records == 1


def test_statuses_beyond_count_are_told_as_one(tmp_path: Path) -> None:
    statuses = [metadata.Status("write", f"Problem {number}.", 1, {}) for number in range(3_000)]
    write(tmp_path, [make_record(0)], statuses=statuses)

    warnings = load(tmp_path)["."].health.warnings

    assert len(warnings) <= 1001
    assert sum(count for _, _, count in warnings) == 3_000


@pytest.mark.parametrize("target", fuzz.TARGETS)
def test_seeds_of_the_fuzzer_keep_its_promises(target: str) -> None:
    for content in fuzz.seeds(target):
        fuzz.TARGETS[target](content)


@pytest.mark.parametrize("path", sorted(fuzz.FOUND.glob("*/*")), ids=lambda path: f"{path.parent.name}-{path.name}")
def test_what_the_fuzzer_found_stays_fixed(path: Path) -> None:
    fuzz.TARGETS[path.parent.name](path.read_bytes())


def test_every_route_is_asked() -> None:
    run = {"name": "a", "phases": [{"name": "train", "last_step": 1}], "outputs": [{"name": "b"}], "layers": ["c"]}
    routes = BatchViewPlugin(base_plugin.TBContext(logdir="nowhere")).get_plugin_apps()
    assert {route for route, _ in fuzz.requests_of(run)} == routes.keys() - {"/static/*"}


def test_mutations_keep_the_form() -> None:
    content = fuzz.seeds("events")[1]
    changed_ones = {
        fuzz.mutate_records(content, fuzz.MOST_BYTES, seed, lambda piece, size: piece[::-1]) for seed in range(60)
    }
    assert len(changed_ones) > 50
    sizes = {sum(len(payload) + 2 for payload in fuzz.unpack(one)) for one in changed_ones}
    assert sizes == {len(one) for one in changed_ones}
