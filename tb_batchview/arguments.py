"""What a caller gave `BatchWriter`, checked at once and copied.

`writer` calls it on the caller's thread; every function raises
`ArgumentError`, naming what came and what was expected.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

import numpy as np

from tb_batchview import encode, metadata, thumbnails
from tb_batchview.address import is_remote
from tb_batchview.errors import ArgumentError, in_brief
from tb_batchview.records import TASKS, Array, GradientSummary, LayerSummary, OutputRecord, check_count, check_name

# The name of the output when arrays are given without one.
DEFAULT_OUTPUT = "output"
# How PNG, JPEG and GIF begin.
_FILES = (b"\x89PNG\r\n", b"\xff\xd8\xff", b"GIF8")


def check_log_dir(log_dir: str | os.PathLike[str]) -> str:
    """Return the directory as an absolute path, or as a remote address.

    Raises:
        ArgumentError: It is neither.
    """
    if not isinstance(log_dir, (str, os.PathLike)) or not isinstance(os.fspath(log_dir), str):
        raise ArgumentError(f"log_dir must be a str or os.PathLike. Received: log_dir={in_brief(log_dir)}.")
    path = os.fspath(log_dir)
    if isinstance(log_dir, os.PathLike) and re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/[^/]", path):
        # pathlib makes one slash of two.
        raise ArgumentError(f"log_dir must be a str where it has a protocol. Received: log_dir={log_dir!r}.")
    if path.startswith("file://"):
        path = url2pathname(urlsplit(path).path)
    if not path or "\0" in path:
        raise ArgumentError(f"log_dir must name a directory. Received: log_dir={path!r}.")
    if not is_remote(path):
        return os.path.abspath(os.path.expanduser(path))
    protocol, _, rest = path.partition("://")
    if not rest.strip("/"):
        raise ArgumentError(f"log_dir must name a directory. Received: log_dir={path!r}.")
    return f"{protocol}://{rest.rstrip('/')}"


def output_records(**given: Any) -> dict[str, OutputRecord]:
    """Return the arrays of each output, copied and checked.

    Args:
        **given: Arrays, dicts of them by output name, or None.
    """
    given = {argument: value for argument, value in given.items() if value is not None}
    named = {argument: value for argument, value in given.items() if isinstance(value, Mapping)}
    names = list(dict.fromkeys(name for value in named.values() for name in value))
    if not names:
        names = [DEFAULT_OUTPUT] if given else []
    for name in names:
        check_name("output", name)
    arrays: dict[str, dict[str, Array]] = {name: {} for name in names}
    for argument, value in given.items():
        if argument not in named:
            if len(names) > 1 and argument not in ("sample_ids", "sample_weight"):
                raise ArgumentError(
                    f"{argument} must be a dict by output name, since there are outputs {', '.join(names)}. "
                    f"Received: a value of type {type(value).__name__}."
                )
            value = dict.fromkeys(names, value)
        for name, array in value.items():
            arrays[name][argument] = copy_array(argument, array)
    return {name: OutputRecord(**fields) for name, fields in arrays.items()}


def copy_array(name: str, value: Any) -> Array:
    """Return a copy of an array as the format holds it."""
    array = _convert(np.array, name, value)
    return encode.sample_ids(array) if name == "sample_ids" else encode.storable(array, name)


def _convert(convert: Callable[[Any], Array], name: str, value: Any) -> Array:
    """Return a value as an array: of `numpy.array` a copy."""
    try:
        return convert(value)
    except Exception as error:  # Whatever a foreign tensor's __array__ raises.
        raise ArgumentError(
            f"{name} must be an array, or what numpy.asarray takes. Received: {type(value).__name__} ({error})."
        ) from error


def layer_values(name: str, values: Any) -> Array | LayerSummary:
    """Return a copy of a layer's values, or its summary as it is."""
    check_name("layer", name)
    return values if isinstance(values, LayerSummary) else copy_array(f"histograms[{name!r}]", values)


def input_values(inputs: Any) -> Array | list[Array]:
    """Return a copy of pictures or texts, one of each sample.

    Of large pictures every n-th pixel is copied: of what becomes 64 pixels
    at last 128 are enough.
    """
    if isinstance(inputs, np.ndarray) and inputs.dtype == object and inputs.ndim == 1:
        inputs = inputs.tolist()
    if isinstance(inputs, (list, tuple)) and all(isinstance(item, (str, bytes)) for item in inputs):
        inputs = np.array(inputs, object)
    if isinstance(inputs, (list, tuple)) and len({np.shape(item) for item in inputs}) > 1:
        return [_copy_picture(item, batched=False) for item in inputs]
    return _copy_picture(inputs, batched=True)


def _copy_picture(given: Any, *, batched: bool) -> Array:
    array = _convert(np.asarray, "inputs", given)
    if batched and array.dtype.kind in "USTO" and array.shape[1:] in ((), (1,)):
        array = array.reshape(-1)
        if any(isinstance(item, bytes) and item.startswith(_FILES) for item in array):
            raise ArgumentError(
                "inputs must be pixels or texts. Received: the bytes of a picture file. Give the pixels: "
                "numpy.asarray(PIL.Image.open(io.BytesIO(content)))."
            )
        # Cut now: they may have to wait.
        most = thumbnails.MOST_CHARACTERS
        texts = [
            item[: 4 * most].decode("utf-8", "replace") if isinstance(item, bytes) else item for item in array.tolist()
        ]
        if all(isinstance(text, str) for text in texts):
            return np.array([text[:most] for text in texts], object)
    pictures = thumbnails.channels_last(array, batched=batched)
    step = max(1, max(pictures.shape[-3:-1]) // (2 * thumbnails.MOST_PIXELS))
    return encode.storable(np.array(pictures[..., ::step, ::step, :]), "inputs")


def gradient_values(name: str, values: Any) -> Array | GradientSummary:
    """Return a copy of a layer's gradient in one row, or its summary."""
    check_name("layer", name)
    if isinstance(values, GradientSummary):
        return values
    # Weights of other shapes are no array together.
    weights = values if isinstance(values, (list, tuple)) and all(map(np.shape, values)) else [values]
    flat = [copy_array(f"gradients[{name!r}]", weight).reshape(-1) for weight in weights]
    return np.concatenate(flat) if flat else np.zeros(0, np.float32)


def number(name: str, value: Any) -> float:
    """Return a float, from a tensor of one value too."""
    try:
        return float(value)
    except Exception as error:  # Whatever a foreign tensor raises.
        raise ArgumentError(f"{name} must be a number. Received: {name}={value!r}.") from error


def check_workers(worker: Any, workers: Any) -> tuple[int, int]:
    """Return the number of this process and how many there are."""
    worker, workers = check_count("worker", worker, least=0), check_count("workers", workers)
    if workers > metadata.MAX_WORKERS:
        raise ArgumentError(f"workers must be at most {metadata.MAX_WORKERS}. Received: workers={workers}.")
    if worker >= workers:
        raise ArgumentError(
            f"worker must be below workers. Received: worker={worker}, workers={workers}. Number the processes from 0."
        )
    return worker, workers


def check_run(run: Mapping[str, str] | None) -> Mapping[str, str]:
    """Return a copy of the constants of the run."""
    if run is None:
        return {}
    if not isinstance(run, Mapping) or not all(isinstance(text, str) for pair in run.items() for text in pair):
        raise ArgumentError(f"run must be a dict of str to str. Received: run={run!r}.")
    return dict(run)


def check_task(task: Any) -> str | Mapping[str, str]:
    """Return the task, or a copy of the dict by output."""
    for value in task.values() if isinstance(task, Mapping) else (task,):
        if value not in ("auto", *TASKS):
            raise ArgumentError(
                f"task must be 'auto' or one of {', '.join(TASKS)}, or a dict of them by output. "
                f"Received: task={task!r}."
            )
    return dict(task) if isinstance(task, Mapping) else task


def check_class_names(names: Any) -> tuple[str, ...] | Mapping[str, tuple[str, ...]] | None:
    """Return the names, or a dict of them by output."""
    if names is None:
        return None
    by_output = names if isinstance(names, Mapping) else {DEFAULT_OUTPUT: names}
    listed = {output: _list_names(of_output) for output, of_output in by_output.items()}
    if not all(listed.values()):
        # Generators of Keras have class_indices, other libraries {0: "cat"}.
        remedy = " Of a dict of numbers and names give the names alone, in the order of their numbers."
        raise ArgumentError(
            "class_names must be a sequence of str, or a dict of them by output. "
            f"Received: class_names={in_brief(names)}.{remedy if isinstance(names, Mapping) else ''}"
        )
    return listed if isinstance(names, Mapping) else listed[DEFAULT_OUTPUT]


def _list_names(names: Any) -> tuple[str, ...]:
    """Return the class names of one output, none of what is no list."""
    listed = tuple(names) if isinstance(names, Iterable) and not isinstance(names, (str, bytes, Mapping)) else ()
    return listed if all(isinstance(name, str) for name in listed) else ()
