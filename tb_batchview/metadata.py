"""Names and constants of the format: plugin, version, tags, dtypes, metadata.

`encode` and `writer` use it to write, `decode` and the index to read; it
calls nothing of ours but the record types. docs/data-format.md in code.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from tensorboard.compat.proto import summary_pb2, types_pb2

from tb_batchview.errors import FormatError, VersionError
from tb_batchview.records import PHASES, TASKS, OutputSpec

PLUGIN_NAME = "batchview"
FORMAT_VERSION = 1

# Where the files of a run are: a directory that nobody else writes.
DIRECTORY = "batchview"
FILE_SUFFIX = ".batchview"

STATUS_TAG = "status"
STATUS_KINDS = ("capture", "write", "dropped", "closed")

# Values of one output, in the order in which they are written: one decision
# or figure per sample first, the bulk last.
FRONT_KINDS = (
    "target",
    "predicted",
    "confidence",
    "target_score",
    "error",
    "sample_loss",
    "sample_weight",
    "sample_ids",
)
BULK_KINDS = ("targets", "predictions", "top_scores", "top_classes")
LAYER_KINDS = ("layer_summary", "layer_histogram", "layer_unit_means", "layer_unit_zeros", "layer_unit_saturated")
GRADIENT_KINDS = ("gradient_summary", "gradient_histogram")
# Of the batch itself: what the samples were, and in which form.
INPUTS_KIND = "inputs"
INPUT_FORMS = ("image", "text")
# The values of `layer_summary` and `gradient_summary`, in order.
LAYER_FIGURES = ("count", "mean", "std", "min", "max", "zero_fraction", "nonfinite")
GRADIENT_FIGURES = (*LAYER_FIGURES, "norm")
# The first fields of every header; metrics and figures of outputs follow.
HEADER_FIELDS = ("epoch", "index", "size", "loss")
OUTPUT_FIGURES = ("error_rate", "confidence")

# The bytes of an event, or a view of them.
Payload = bytes | memoryview
# Of the arrays, by protobuf's numbers; strings are apart.
DTYPES: dict[int, np.dtype[Any]] = {
    types_pb2.DT_FLOAT: np.dtype("<f4"),
    types_pb2.DT_DOUBLE: np.dtype("<f8"),
    types_pb2.DT_HALF: np.dtype("<f2"),
    types_pb2.DT_INT8: np.dtype("i1"),
    types_pb2.DT_INT16: np.dtype("<i2"),
    types_pb2.DT_INT32: np.dtype("<i4"),
    types_pb2.DT_INT64: np.dtype("<i8"),
    types_pb2.DT_UINT8: np.dtype("u1"),
    types_pb2.DT_UINT16: np.dtype("<u2"),
    types_pb2.DT_UINT32: np.dtype("<u4"),
    types_pb2.DT_UINT64: np.dtype("<u8"),
    types_pb2.DT_BOOL: np.dtype("?"),
}

# A thousand classes with long names are 100 kB; more than this is no metadata.
MAX_CONTENT_BYTES = 16 << 20
# Each field of a header is a column; no model has so many metrics or outputs.
MAX_FIELDS = 1 << 14
MAX_OUTPUTS = 1 << 10
# More processes than this train nothing together.
MAX_WORKERS = 1 << 20

_FILE_NAME = re.compile(r"events\.out\.tfevents\.(\d+)\..*\.(\d+)\.(\d+)" + re.escape(FILE_SUFFIX))
_WORKER = re.compile(r".*\.worker(\d+)\.\d+\.\d+" + re.escape(FILE_SUFFIX))


@dataclasses.dataclass(frozen=True)
class Content:
    """What `plugin_data.content` says of one tag.

    Attributes:
        version: Of the format.
        kind: "header", "status", or what the value is; kinds that this
            version does not know are for the reader to skip.
        phase: Of the batch; "" for a status.
        output: Name of the output, or "".
        layer: Name of the layer, or "".
        form: Of inputs: "image" or "text", else "".
        fields: Names of the header's numbers, in order.
        outputs: What is constant about each output (header only).
        run: What is constant about the run (header only).
        worker: Number of the process that wrote the file (header and status).
        workers: How many processes train together.
    """

    version: int
    kind: str
    phase: str = ""
    output: str = ""
    layer: str = ""
    fields: tuple[str, ...] = ()
    outputs: Mapping[str, OutputSpec] = dataclasses.field(default_factory=dict)
    run: Mapping[str, str] = dataclasses.field(default_factory=dict)
    worker: int = 0
    workers: int = 1
    form: str = ""


@dataclasses.dataclass(frozen=True)
class Status:
    """What a writer reports besides batches.

    Attributes:
        kind: One of `STATUS_KINDS`, or a later version's.
        message: One sentence for the user.
        count: How often, in total so far, with this kind and message.
        seen: Batches the training had so far, by phase.
        last: The last step of each phase, in this file and those before it;
            told at the end of a segment.
    """

    kind: str
    message: str
    count: int = 1
    seen: Mapping[str, int] = dataclasses.field(default_factory=dict)
    last: Mapping[str, int] = dataclasses.field(default_factory=dict)


def header_tag(phase: str) -> str:
    """Return the tag of the numbers of a batch."""
    return f"{phase}/header"


def output_tag(phase: str, output: str, kind: str) -> str:
    """Return the tag of one array of an output."""
    return f"{phase}/outputs/{output}/{kind}"


def layer_tag(phase: str, layer: str, kind: str) -> str:
    """Return the tag of one figure of a layer; `kind` is of `LAYER_KINDS`."""
    return f"{phase}/layers/{layer}/{kind.removeprefix('layer_')}"


def gradient_tag(phase: str, layer: str, kind: str) -> str:
    """Return the tag of a figure of a gradient, of `GRADIENT_KINDS`."""
    return f"{phase}/gradients/{layer}/{kind.removeprefix('gradient_')}"


def inputs_tag(phase: str) -> str:
    """Return the tag of what the samples of a batch were."""
    return f"{phase}/{INPUTS_KIND}"


def metric_field(name: str) -> str:
    """Return the header's field of a metric."""
    return f"metrics/{name}"


def output_field(output: str, figure: str) -> str:
    """Return the header's field of a figure of an output."""
    return f"outputs/{output}/{figure}"


def file_name(seconds: int, host: str, pid: int, number: int, worker: int | None = None) -> str:
    """Return the name of an event file; its order is that of writing.

    With several workers it tells whose it is, so that none takes the name of
    another's: hosts and process numbers may be the same in all containers.
    """
    host = re.sub(r"[^A-Za-z0-9_.-]", "_", host) or "localhost"
    if worker is not None:
        host += f".worker{worker}"
    return f"events.out.tfevents.{seconds:010d}.{host}.{pid}.{number:04d}{FILE_SUFFIX}"


def is_event_file(name: str) -> bool:
    """Tell whether a file of this name is one of ours."""
    return _FILE_NAME.fullmatch(name) is not None


def file_seconds(name: str) -> int:
    """Return when a file was opened, by its name; 0 for a foreign name."""
    match = _FILE_NAME.fullmatch(name)
    return int(match[1]) if match else 0


def file_worker(name: str) -> int | None:
    """Return which of several workers wrote a file, by its name."""
    match = _WORKER.fullmatch(name)
    return int(match[1][:10]) if match else None


def header_content(
    phase: str,
    fields: tuple[str, ...],
    outputs: Mapping[str, OutputSpec],
    run: Mapping[str, str],
    worker: int = 0,
    workers: int = 1,
) -> bytes:
    """Return the content of a header's metadata."""
    return _content(
        kind="header",
        phase=phase,
        fields=fields,
        outputs={name: dataclasses.asdict(spec) for name, spec in outputs.items()},
        run=dict(run),
        **_whose(worker, workers),
    )


def output_content(phase: str, output: str, kind: str) -> bytes:
    """Return the content of the metadata of an output's array."""
    return _content(kind=kind, phase=phase, output=output)


def layer_content(phase: str, layer: str, kind: str) -> bytes:
    """Return the content of the metadata of a layer's figure."""
    return _content(kind=kind, phase=phase, layer=layer)


def inputs_content(phase: str, form: str) -> bytes:
    """Return the content of the metadata of inputs, of `INPUT_FORMS`."""
    return _content(kind=INPUTS_KIND, phase=phase, form=form)


def status_content(worker: int = 0, workers: int = 1) -> bytes:
    """Return the content of a status's metadata."""
    return _content(kind="status", **_whose(worker, workers))


def _whose(worker: int, workers: int) -> dict[str, int]:
    """Return what tells the worker; nothing where there is only one."""
    return {"worker": worker, "workers": workers} if workers > 1 else {}


def _content(**content: Any) -> bytes:
    return json.dumps(
        {"version": FORMAT_VERSION, **content}, ensure_ascii=False, separators=(",", ":"), allow_nan=False
    ).encode("utf-8", "replace")


def summary_metadata(content: bytes) -> summary_pb2.SummaryMetadata:
    """Return the metadata that a value carries."""
    return summary_pb2.SummaryMetadata(
        plugin_data=summary_pb2.SummaryMetadata.PluginData(plugin_name=PLUGIN_NAME, content=content),
        data_class=summary_pb2.DATA_CLASS_TENSOR,
    )


def parse_content(content: bytes) -> Content:
    """Read the content of a value's metadata.

    Args:
        content: Bytes from a file: anything at all.

    Raises:
        VersionError: The format is newer than `FORMAT_VERSION`.
        FormatError: This is not such a content.
    """
    parsed = _parse_object(content, "Metadata")
    version = _get(parsed, "version", int)
    if version > FORMAT_VERSION:
        raise VersionError(
            f"Format version must be at most {FORMAT_VERSION}, the newest that this tb_batchview reads. "
            f"Received: version={version}. Upgrade tb_batchview."
        )
    if version < 1:
        raise FormatError(f"Format version must be at least 1. Received: version={version}.")
    phase = _get(parsed, "phase", str, "")
    kind = _get(parsed, "kind", str)
    if phase and phase not in PHASES:
        raise FormatError(f"Phase in metadata must be one of {', '.join(PHASES)}. Received: phase={_short(phase)}.")
    fields, outputs = _get(parsed, "fields", list, []), _get(parsed, "outputs", dict, {})
    if len(fields) > MAX_FIELDS or len(outputs) > MAX_OUTPUTS:
        raise FormatError(
            f"A header must have at most {MAX_FIELDS} fields and {MAX_OUTPUTS} outputs. "
            f"Received: {len(fields)} fields and {len(outputs)} outputs."
        )
    worker, workers = _get(parsed, "worker", int, 0), _get(parsed, "workers", int, 1)
    if not 0 <= worker < workers <= MAX_WORKERS:
        raise FormatError(
            f"Worker in metadata must be from 0 to below workers, these at most {MAX_WORKERS}. "
            f"Received: worker={worker}, workers={workers}."
        )
    return Content(
        version=version,
        kind=kind,
        phase=phase,
        output=_get(parsed, "output", str, ""),
        layer=_get(parsed, "layer", str, ""),
        fields=_strings(fields, "fields"),
        outputs={name: _parse_spec(name, spec) for name, spec in outputs.items()},
        run={name: value for name, value in _get(parsed, "run", dict, {}).items() if isinstance(value, str)},
        worker=worker,
        workers=workers,
        form=_get(parsed, "form", str, ""),
    )


def status_text(status: Status) -> bytes:
    """Return the JSON of a status."""
    content = dataclasses.asdict(status)
    if not status.last:
        del content["last"]
    return json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


def parse_status(text: bytes | str) -> Status:
    """Read the JSON of a status.

    Raises:
        FormatError: This is not a status.
    """
    parsed = _parse_object(text, "Status")
    seen, last = _get(parsed, "seen", dict, {}), _get(parsed, "last", dict, {})
    return Status(
        kind=_get(parsed, "kind", str),
        message=_get(parsed, "message", str, ""),
        count=_get(parsed, "count", int, 1),
        seen={phase: _get(seen, phase, int) for phase in seen if phase in PHASES},
        last={phase: _get(last, phase, int) for phase in last if phase in PHASES},
    )


def _parse_object(text: bytes | str, thing: str) -> dict[str, Any]:
    """Return a JSON object from bytes that may be anything."""
    if isinstance(text, str):
        text = text.encode("utf-8", "replace")
    if len(text) > MAX_CONTENT_BYTES:
        raise FormatError(f"{thing} must have at most {MAX_CONTENT_BYTES} bytes. Received: {len(text)} bytes.")
    try:
        parsed = json.loads(text)
        if b"\\u" in text:
            # Half a surrogate pair can be escaped in JSON, and then no page
            # could be sent that shows it.
            parsed = json.loads(json.dumps(parsed, ensure_ascii=False).encode("utf-8", "replace"))
    # RecursionError: absurd nesting. ValueError: bad JSON, bad UTF-8, or a
    # number of more digits than Python turns into an int.
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{thing} must be UTF-8 JSON. Received: {_short(text)}.") from error
    if not isinstance(parsed, dict):
        raise FormatError(f"{thing} must be a JSON object. Received: {_short(parsed)}.")
    return parsed


_REQUIRED: Any = object()


def _get(parsed: Mapping[str, Any], name: str, kind: type, default: Any = _REQUIRED) -> Any:
    """Return a field of the right type; null stands for left out."""
    value = parsed.get(name)
    if value is None and default is not _REQUIRED:
        return default
    # JSON's true is an int to Python.
    if not isinstance(value, kind) or isinstance(value, bool):
        raise FormatError(f"{name!r} in metadata must be of type {kind.__name__}. Received: {name}={_short(value)}.")
    if isinstance(value, int) and abs(value) >= 2**63:
        raise FormatError(f"{name!r} in metadata must be below 2**63. Received: {name}={_short(value)}.")
    return value


def _strings(values: list[Any], name: str) -> tuple[str, ...]:
    if not all(isinstance(value, str) for value in values):
        raise FormatError(f"{name!r} in metadata must be a list of strings. Received: {name}={_short(values)}.")
    return tuple(values)


def _parse_spec(name: str, spec: Any) -> OutputSpec:
    """Return what is constant about an output, checked."""
    if not isinstance(spec, dict):
        raise FormatError(f"Output {_short(name)} in metadata must be a JSON object. Received: {_short(spec)}.")
    task = _get(spec, "task", str)
    classes = _get(spec, "classes", int, 0)
    activation = _get(spec, "activation", str, None)
    names = _get(spec, "class_names", list, None)
    class_names = None if names is None else _strings(names, "class_names")
    if task not in TASKS or activation not in (None, "softmax", "sigmoid") or not 0 <= classes < 2**31:
        raise FormatError(f"Output {_short(name)} in metadata must have a known task. Received: {_short(spec)}.")
    if class_names is not None and len(class_names) != classes:
        raise FormatError(
            f"Output {_short(name)} in metadata must have one name per class. "
            f"Received: {len(class_names)} names and {classes} classes."
        )
    return OutputSpec(task=task, classes=classes, activation=activation, class_names=class_names)


def _short(value: Any) -> str:
    """Return a value for a message, cut: it came from an untrusted file."""
    if isinstance(value, (str, bytes)):
        return repr(value[:60])
    if isinstance(value, int) and abs(value) >= 2**64:
        # repr() of an absurdly long int raises.
        return "a number past 2**64"
    try:
        return repr(value)[:80]
    except (ValueError, RecursionError):
        return f"a value of type {type(value).__name__}"
