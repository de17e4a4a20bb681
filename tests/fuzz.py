"""Feed the reading arm with bytes that nobody wrote: `make fuzz`.

Three targets, each a function of bytes that raises where a promise is broken:

- `events`: records, each framed with right checksums, through the index, the
  store, every route, `load` and what a writer asks of earlier files;
- `content`: the JSON of metadata and of a status;
- `file`: a whole file, checksums and all, through the same as `events`.

The promises: nothing but a `BatchViewError` is raised (routes: TensorBoard's
public errors), every answer is JSON, arrays or a picture, records taken in
many at a time are those taken in one by one, and what is kept, skipped, joined
and foreign adds up to the records of the file. libFuzzer adds a limit of time
and memory for each input. tests/test_fuzz.py runs seeds and findings without it.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import os
import random
import resource
import shutil
import struct
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

if __name__ == "__main__" and "--child" in sys.argv:
    import atheris

    # Before all the rest imports them.
    with atheris.instrument_imports(include=["tb_batchview"]):
        import tb_batchview.earlier
        import tb_batchview.plugin

import numpy as np
from recorded import frames, make_record, make_summary
from tensorboard import errors as public
from tensorboard.compat.proto import event_pb2
from tensorboard.plugins import base_plugin
from test_blocks import KINDS, describe, encode_kind, taking
from werkzeug.test import Client

import tb_batchview
from tb_batchview import earlier, encode, index, metadata, refresher, tfrecord
from tb_batchview.blocks import Block
from tb_batchview.errors import BatchViewError
from tb_batchview.http import unpack_arrays
from tb_batchview.inputs import MOST_BYTES as MOST_INPUT_BYTES
from tb_batchview.inputs import find_mime
from tb_batchview.plugin import BatchViewPlugin
from tb_batchview.store import RunStore

HERE = Path(__file__).parent
FOUND = HERE / "golden" / "fuzz"
GOLDEN = HERE / "golden" / "v1.batchview-events"
INPUTS = HERE / "golden" / "v1-inputs.batchview-events"
# Of an input: a file that is longer teaches no more, and takes its time.
MOST_BYTES = 1 << 14
# libFuzzer ends an input that takes longer, or more memory.
SECONDS, MEGABYTES = 20, 1500
_LENGTH = struct.Struct("<H")
# One grey pixel.
PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010800000000"
    "3a7e9b550000000a49444154789c636800000082008177cd72b60000000049454e44ae426082"
)


# --- inputs: records in a row, each after its length ---


def pack(payloads: Sequence[bytes]) -> bytes:
    """Put records into one input of `events`."""
    return b"".join(_LENGTH.pack(len(payload)) + payload for payload in payloads)


def unpack(content: bytes) -> list[bytes]:
    """Take the records out of an input; the last may be cut."""
    payloads, at = [], 0
    while at + _LENGTH.size <= len(content):
        (length,) = _LENGTH.unpack_from(content, at)
        at += _LENGTH.size
        payloads.append(content[at : at + length])
        at += length
    return payloads


def payloads_of(content: bytes) -> list[bytes]:
    """Return the sound records of a file's bytes."""
    with tempfile.TemporaryFile() as file:
        file.write(content)
        file.flush()
        found = tfrecord.scan(file.fileno(), 0, len(content))
        return [content[frame.payload_position :][: frame.length] for frame in found if frame.status == "ok"]


def seeds(target: str) -> list[bytes]:
    """Return inputs to begin with: what tests and golden files hold."""
    files = [GOLDEN.read_bytes(), INPUTS.read_bytes()]
    files.append(b"".join(frames([make_record(step, samples=3) for step in range(12)])))
    # Small ones are quick.
    for kind in ("plain", "texts", "layer", "foreign"):
        encoder = encode.EventEncoder({})
        files.append(b"".join(tfrecord.frame(encode_kind(encoder, kind, step, step)) for step in range(2)))
    layers = [make_record(step, samples=2, layers={"dense": make_summary(step)}) for step in range(4)]
    pictures = np.array([PNG, b""], object)
    for inputs in (pictures, np.array(["a cat", "../a"], object)):
        files.append(b"".join(frames([make_record(step, samples=2, inputs=inputs) for step in range(3)])))
    files.append(b"".join(frames(layers, top_k=2, statuses=[metadata.Status("dropped", "Slow.", 3, {"train": 7})])))
    for worker in (0, 1):
        encoder = encode.EventEncoder({"architecture": "a"}, worker, 2)
        events = [encode_kind(encoder, kind, step, step) for step, kind in enumerate(KINDS)]
        files.append(b"".join(map(tfrecord.frame, events)))
    if target == "file":
        return files
    records = [payloads_of(content) for content in files]
    if target == "events":
        return [pack(payloads) for payloads in records]
    events = [event_pb2.Event.FromString(payload) for payloads in records for payload in payloads]
    values = [value for event in events for value in event.summary.value]
    texts = {text for value in values for text in (value.metadata.plugin_data.content, *value.tensor.string_val)}
    return sorted(filter(None, texts))


# --- promises ---


@functools.cache
def scratch() -> Path:
    """Return a directory of this process, in memory if there is such."""
    shared = "/dev/shm" if os.path.isdir("/dev/shm") else None
    directory = tempfile.TemporaryDirectory(prefix="tb_batchview_fuzz", dir=shared)
    # Kept alive, and removed, with the process.
    scratch.directory = directory  # type: ignore[attr-defined]
    (Path(directory.name) / "run" / metadata.DIRECTORY).mkdir(parents=True)
    return Path(directory.name)


def put(content: bytes) -> Path:
    """Write the one event file of the one run, another file each time."""
    path = scratch() / "run" / metadata.DIRECTORY / metadata.file_name(1, "host", 1, 1)
    path.unlink(missing_ok=True)
    path.write_bytes(content)
    return path


class Counted(index.EventFile):
    """Counts the records of a file that hold nothing of ours, too."""

    foreign = 0

    def _read_frame(self, fd: int, frame: tfrecord.Frame) -> Any:
        before = self.corrupt
        found = super()._read_frame(fd, frame)
        self.foreign += found is None and self.corrupt == before and frame.status == "ok"
        return found


def check_counts(path: Path) -> int:
    """Count what becomes of each record; return the batches."""
    with path.open("rb") as file:
        stretches = list(tfrecord.scan(file.fileno(), 0, path.stat().st_size))
    # Lost stretches that follow each other count as one.
    records = sum(frame.status != "lost" for frame in stretches)
    lost = sum(
        frame.status == "lost" and (not number or stretches[number - 1].status != "lost")
        for number, frame in enumerate(stretches)
    )
    followed = Counted(path, 0)
    batches = others = 0
    for entry in followed.read(lambda: False):
        if isinstance(entry, index.StatusEntry):
            others += 1
        else:
            batches += len(entry) if isinstance(entry, Block) else 1
    if not followed.refused:
        assert batches + others + followed.foreign + followed.corrupt == records + lost
        assert followed.position == (stretches[-1].end if stretches else 0)
    return batches


def check_views(path: Path, batches: int) -> None:
    """Compare both ways of taking records in; see that no batch is lost."""
    with taking(many=True):
        many = RunStore(path.parent).refresh()
    with taking(many=False):
        single = RunStore(path.parent).refresh()
    assert describe(many) == describe(single)
    health = many.health
    joined = sum(count for kind, message, count in health.warnings if kind == "read" and "recorded twice" in message)
    kept = sum(len(phase) for phase in many.phases.values())
    corrupt = sum(file.corrupt for file in many._files)
    assert kept + joined + health.corrupt_records - corrupt == batches


def requests_of(run: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield what a browser would ask about a run."""
    name = {"run": run["name"]}
    yield "/runs", name
    yield "/doctor", name
    for phase in [phase["name"] for phase in run["phases"]][:3]:
        of_phase = {**name, "phase": phase}
        last = next(item["last_step"] for item in run["phases"] if item["name"] == phase)
        yield "/layers", of_phase
        for layer in run["layers"][:2]:
            against = {f"against_{key}": value for key, value in of_phase.items()}
            yield "/layer", {**of_phase, "layer": layer, "points": 3, "stop": last // 2, **against}
            for route in ("/layer", "/units"):
                yield route, {**of_phase, "layer": layer, "points": 3}
            yield "/dead_units", {**of_phase, "layer": layer, "last": 2}
            yield "/gradient", {**of_phase, "layer": layer, "points": 3}
        yield "/gradients", {**of_phase, "points": 3}
        for output in [output["name"] for output in run["outputs"]][:2]:
            asked = {**of_phase, "output": output}
            yield "/batches", {**asked, "points": 5}
            yield "/batches", {**asked, "sort": "loss", "descending": 1, "limit": 3}
            yield "/batch", {**asked, "step": last}
            yield "/batch", {**asked, "step": last, "outcome": "wrong", "sort": "confidence"}
            yield "/sample", {**asked, "step": last, "sample": 0}
            for sample in range(3):
                yield "/thumbnail", {**asked, "step": last, "sample": sample}
            yield "/samples", {**asked, "outcome": "confidently_wrong", "limit": 5}
            yield "/samples", {**asked, "sort": "loss", "descending": 1, "limit": 5, "stop": last}
            yield "/samples", {**asked, "each": "last", "id_part": "1", "confidence_min": 0.1, "limit": 5}
            yield "/samples", {**asked, "learning": "forgotten", "sort": "margin", "variability_max": 0.4, "limit": 5}
            yield "/data_map", {**asked, "limit": 5}
            yield "/classes", {**asked, "sort": "f1", "limit": 5}
            yield "/confusion", {**asked, "limit": 20}
            against = {f"against_{key}": value for key, value in {**asked, "start": last // 2}.items()}
            yield "/batches", {**asked, "sort": "loss_change", "limit": 3, **against}
            yield "/classes", {**asked, "sort": "recall_change", "limit": 5, **against}
            yield "/confusion", {**asked, "limit": 20, "stop": last // 2, **against}
            yield "/joined", {**asked, "sort": "loss_change", "limit": 3, **against}
            yield "/class_trend", {**asked, "points": 3, "limit": 5}
            yield "/calibration", asked
            yield "/thresholds", asked
            yield "/residuals", {**asked, "points": 3}
            yield "/label_errors", {**asked, "limit": 5}
            yield "/export", asked
            yield "/export", {**asked, "table": "batches", "start": last // 2}


def check_routes(path: Path) -> None:
    """Ask every route, as a browser would."""
    logdir = str(path.parent.parent.parent)
    flags = argparse.Namespace(batchview_images_dir=logdir)  # ids name what is in it, or try to leave it
    plugin = BatchViewPlugin(base_plugin.TBContext(logdir=logdir, flags=flags), refresh_seconds=3600, patience=60)
    apps = plugin.get_plugin_apps()

    def ask(route: str, parameters: dict[str, Any]) -> Any:
        try:
            # Names of bytes that are no text come back as they are in JSON.
            response = Client(apps[route]).get(f"{route}?{urlencode(parameters, errors='surrogatepass')}")
        except (public.NotFoundError, public.InvalidArgumentError):
            return None
        assert response.status_code == 200
        try:
            block = response.get_data()
        except BatchViewError:  # in the middle of a table: the connection is cut
            return None
        if response.content_type.startswith("image/"):
            assert find_mime(block) == response.content_type
            return None
        if response.mimetype == "text/csv":
            assert block.endswith(b"\n")
            return None
        return unpack_arrays(block) if block[:4] == b"BVA1" else json.loads(block, parse_constant=pytest_fail)

    for run in ask("/runs", {})["runs"]:
        for route, parameters in requests_of(run):
            ask(route, parameters)


def pytest_fail(constant: str) -> None:
    raise AssertionError(f"No JSON: {constant}")


def check_log(path: Path) -> None:
    """Use everything that `load` offers."""
    log = tb_batchview.load(path.parent.parent.parent)
    for run in log.values():
        repr((run, run.class_names, run.metrics, run.health))
        for phase in run.phases:
            for batch in [*run.batches(phase)[:3], *run.batches(phase)[-3:]]:
                repr((batch, batch.metrics, batch.error_rate, batch.confidence))
                for kind in (*metadata.FRONT_KINDS, *metadata.BULK_KINDS):
                    with contextlib.suppress(BatchViewError):
                        getattr(batch, kind if kind not in ("confidence", "error", "target_score") else "wall_time")
                with contextlib.suppress(BatchViewError):
                    repr((batch.layers, batch.gradients))
                with contextlib.suppress(BatchViewError):
                    check_inputs(run, batch)
            for layer in run.batches(phase)._columns.layers:
                with contextlib.suppress(BatchViewError):
                    repr((run.layer(layer, phase).average(), run.layer(layer, phase).edges))
                    repr((run.layer(layer, phase).dead, run.layer(layer, phase).saturated_units(last=3)))
            for layer in run.batches(phase)._columns.gradients:
                with contextlib.suppress(BatchViewError):
                    repr((run.gradients(layer, phase).norm, run.gradients(layer, phase).edges))
            for output in run.outputs:
                for count in (run.confusion, run.class_report):
                    with contextlib.suppress(BatchViewError):
                        if run.outputs[output].classes <= 1000:
                            count(phase, output=output)
            with contextlib.suppress(BatchViewError):
                run.to_pandas(phase)


def check_inputs(run: Any, batch: Any) -> None:
    """Look at what samples were: pictures of known kinds, or texts."""
    for row in range(min(5, len(batch.inputs or ()))):
        found = run.input_of(batch.phase, batch.step, row)
        if isinstance(found, tuple):
            assert found[0] == find_mime(found[1])
            assert len(found[1]) <= MOST_INPUT_BYTES
        else:
            assert found is None or found.encode()


def check_file(content: bytes) -> None:
    """Check the promises for the bytes of a file."""
    path = put(content)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_views(path, check_counts(path))
        check_routes(path)
        check_log(path)
        for step in earlier.last_steps(str(path)).values():
            assert -(2**63) <= step < 2**63
        earlier.Earlier(str(path.parent.parent), 0, 1).choose("digest")


def check_events(content: bytes) -> None:
    """Check the promises for records whose checksums are right."""
    payloads = unpack(content)
    if len(payloads) <= 200:
        check_file(b"".join(map(tfrecord.frame, payloads)))


def check_content(content: bytes) -> None:
    """Check the promises for the JSON of metadata and statuses."""
    with contextlib.suppress(BatchViewError):
        parsed = metadata.parse_content(content)
        assert 0 <= parsed.worker < parsed.workers <= metadata.MAX_WORKERS
        json.dumps(parsed.run, ensure_ascii=False).encode()
    with contextlib.suppress(BatchViewError):
        json.dumps(dict(metadata.parse_status(content).seen))


TARGETS: dict[str, Callable[[bytes], None]] = {
    "events": check_events,
    "content": check_content,
    "file": check_file,
}


# --- mutations that keep the form ---

_SIZES = (0, 1, 2, 3, 7, 2**31 - 1, 2**31, 2**56, 2**62, 2**63 - 1, -1)
_NUMBERS = (0.0, -0.0, -1.0, 0.5, 1e300, -1e300, 2.0**53, 2.0**63, float("inf"), float("-inf"), float("nan"), 5e-324)


def mutate_event(payload: bytes, chance: random.Random, mutate: Callable[[bytes, int], bytes]) -> bytes:
    """Change an event where it stays one; other bytes anyhow."""
    event = event_pb2.Event()
    try:
        event.ParseFromString(payload)
    except Exception:
        return mutate(payload, len(payload) + 64)
    values = event.summary.value
    for _ in range(chance.randint(1, 3)):
        value = chance.choice(values) if values else values.add(tag="train/header")
        what = chance.randrange(12)
        if what == 0:
            event.step = chance.choice([0, 1, 5, -1, 2**31, 2**63 - 1, -(2**63), min(event.step, 2**62) + 1])
        elif what == 1:
            event.wall_time = chance.choice(_NUMBERS)
        elif what == 2:
            value.tensor.dtype = chance.choice([0, 1, 2, 3, 4, 5, 6, 7, 9, 10, 14, 17, 19, 22, 23])
        elif what == 3 and value.tensor.tensor_shape.dim:
            chance.choice(value.tensor.tensor_shape.dim).size = chance.choice(_SIZES)
        elif what == 4:
            value.tensor.tensor_shape.dim.add(size=chance.choice([0, 1, 1, 2, 2**40]))
        elif what == 5 and value.tensor.tensor_content:
            content = bytearray(value.tensor.tensor_content)
            code = "<d" if value.tensor.dtype == 2 else "<f" if value.tensor.dtype == 1 else "<i"
            number = chance.choice(_NUMBERS if code != "<i" else (0, -1, 1, 2**31 - 1, -(2**31)))
            with contextlib.suppress(struct.error, OverflowError):
                size = struct.calcsize(code)
                struct.pack_into(code, content, chance.randrange(max(1, len(content) // size)) * size, number)
            value.tensor.tensor_content = bytes(content)
        elif what == 6 and value.metadata.plugin_data.content:
            value.metadata.plugin_data.content = mutate_json(value.metadata.plugin_data.content, chance, mutate)
        elif what == 7 and len(values) > 1:
            del values[chance.randrange(len(values))]
        elif what == 8:
            values.add().CopyFrom(value)
        elif what == 9 and len(values) > 1:
            value.metadata.CopyFrom(chance.choice(values).metadata)
        elif what == 10 and value.tensor.string_val:
            at = chance.randrange(len(value.tensor.string_val))
            value.tensor.string_val[at] = mutate(value.tensor.string_val[at] or b"x", 64)
        elif what == 11:
            # Empty in every dimension, or as it says.
            rows = chance.choice([0, 1, 2, 3])
            dims = [rows, *(dim.size for dim in value.tensor.tensor_shape.dim[1:])]
            width = {1: 4, 2: 8, 3: 4, 9: 8, 19: 2, 10: 1}.get(value.tensor.dtype, 1)
            count = int(np.prod([min(max(dim, 0), 50) for dim in dims]))
            if count < 2000 and dims == [min(max(dim, 0), 50) for dim in dims]:
                del value.tensor.tensor_shape.dim[:]
                for dim in dims:
                    value.tensor.tensor_shape.dim.add(size=dim)
                value.tensor.tensor_content = (value.tensor.tensor_content * (count * width + 1))[: count * width]
    return event.SerializeToString()


def mutate_json(content: bytes, chance: random.Random, mutate: Callable[[bytes, int], bytes]) -> bytes:
    """Change a value of a JSON object, or its bytes."""
    try:
        parsed = json.loads(content)
        name = chance.choice(list(parsed))
    except Exception:
        return mutate(content, len(content) + 64)
    if chance.random() < 0.2:
        return mutate(content, len(content) + 64)
    odd = [None, True, 0, -1, 1, 2, 2**31 - 1, 2**40, 2**63, 1e999, "", "x" * 2000, "train", "\ud800", "\u202e", [], {}]
    odd += [{"scores": {"task": "binary", "classes": 2}}, ["epoch", "index", "size", "loss"], ["epoch"] * 4]
    odd += [*metadata.FRONT_KINDS, *metadata.BULK_KINDS, *metadata.LAYER_KINDS, "header", "status"]
    odd += [metadata.INPUTS_KIND, *metadata.INPUT_FORMS]
    inner = parsed[name]
    if isinstance(inner, dict) and inner and chance.random() < 0.7:
        key = chance.choice(list(inner))
        if isinstance(inner[key], dict) and inner[key]:
            inner[key][chance.choice(list(inner[key]))] = chance.choice([*odd, "multilabel", "regression", "sigmoid"])
        else:
            inner[key] = chance.choice(odd)
    elif isinstance(inner, list) and inner:
        inner[chance.randrange(len(inner))] = chance.choice([*odd, *inner])
    else:
        parsed[name] = chance.choice(odd)
    return json.dumps(parsed).encode()


def mutate_records(content: bytes, most: int, seed: int, mutate: Callable[[bytes, int], bytes]) -> bytes:
    """Change one record of an input, or which there are."""
    chance = random.Random(seed)
    payloads = unpack(content)
    if not payloads:
        return mutate(content or b"\0", most)
    at = chance.randrange(len(payloads))
    what = chance.random()
    if what < 0.6:
        payloads[at] = mutate_event(payloads[at], chance, mutate)
    elif what < 0.75:
        payloads[at] = mutate(payloads[at] or b"\0", len(payloads[at]) + 64)
    elif what < 0.85:
        # A stretch of one form is what blocks take in.
        payloads[at:at] = [payloads[at]] * chance.randint(1, 6)
    elif what < 0.93 and len(payloads) > 1:
        del payloads[at]
    else:
        payloads.insert(at, chance.choice(payloads))
    packed = pack([payload[:0xFFFF] for payload in payloads])
    return packed if len(packed) <= most else content[:most]


# --- libFuzzer ---


def main() -> None:
    """Fuzz one target after the other, each in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=60, help="of all targets together (default: 60)")
    parser.add_argument("--targets", nargs="+", choices=TARGETS, default=list(TARGETS))
    parser.add_argument("--corpus", type=Path, help="directory to keep inputs in; else it is thrown away")
    parser.add_argument("--child", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        fuzz(options.child[0], options.child[1:])
        return
    share = {"events": 0.7, "content": 0.1, "file": 0.2}
    whole = sum(share[target] for target in options.targets)
    kept = options.corpus or Path(tempfile.mkdtemp())
    failed = []
    for target in options.targets:
        corpus = kept / target
        corpus.mkdir(parents=True, exist_ok=True)
        for number, seed in enumerate(seeds(target)):
            (corpus / f"seed{number}").write_bytes(seed)
        for path in sorted((FOUND / target).glob("*")):
            shutil.copy(path, corpus / f"found-{path.name}")
        seconds = max(1, round(options.seconds * share[target] / whole))
        print(f"== {target}, {seconds} s", flush=True)
        arguments = [f"-max_total_time={seconds}", f"-timeout={SECONDS}", f"-rss_limit_mb={MEGABYTES}"]
        arguments += [f"-max_len={MOST_BYTES}", "-print_final_stats=1", f"-artifact_prefix={target}-", str(corpus)]
        command = [sys.executable, __file__, "--child", target, *arguments]
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(HERE.parent), os.environ.get("PYTHONPATH", "")]),
        }
        failed += [target] * bool(subprocess.run(command, check=False, env=environment).returncode)
    if not options.corpus:
        shutil.rmtree(kept)
    if failed:
        place = FOUND / "<target>" / "….batchview-events"
        sys.exit(f"Broken promises in {', '.join(failed)}: put the input into {place}, then fix it.")


def fuzz(target: str, arguments: list[str]) -> None:
    """Run libFuzzer on a target."""
    import atheris

    def custom(content: bytes, most: int, seed: int) -> bytes:
        return mutate_records(bytes(content), most, seed, lambda piece, size: bytes(atheris.Mutate(piece, size)))

    # Past what libFuzzer looks at only now and then.
    resource.setrlimit(resource.RLIMIT_AS, (4 * MEGABYTES << 20, resource.RLIM_INFINITY))
    # Each input has a plugin of its own, whose thread would stay for a minute: soon there were too many.
    refresher._IDLE_SECONDS = 0.0
    more = {"custom_mutator": custom} if target == "events" else {}
    atheris.Setup([sys.argv[0], *arguments], TARGETS[target], **more)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
