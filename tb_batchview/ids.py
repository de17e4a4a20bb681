"""Ids that travel with the inputs of a model, batch by batch.

`with_ids` adds them as one more leaf of integers, which Keras shuffles,
batches and sends to devices like any other; `capture` takes it out again
(`split_ids`) before the model's step sees the batch. Nothing here needs Keras
or TensorFlow; tensors inside a `dataset.map` are `capture.tf_ids`'.

An id is a row of int32: of a whole number its two halves, of a text the
number of its bytes and the bytes themselves. Tensors of strings would not
survive XLA, a GPU or the way to several replicas.
"""

from __future__ import annotations

import copy
import os
import sys
import threading
import warnings
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from tb_batchview.errors import ArgumentError, BatchViewWarning
from tb_batchview.records import Array

# The leaf with the ids; where the inputs are no dict, they are the other one.
# Behind all names of inputs: where nobody took the ids out, Keras gives a model
# of a dict its leaves by their order, and would take the first for an input.
KEY = "~batchview_ids"
INPUTS = "__batchview_x__"

# Bytes of a text that travel. Of a longer one the last, after a digest of all.
MOST_BYTES = 128
DIGEST_BYTES = 8
TAIL_BYTES = MOST_BYTES - DIGEST_BYTES
NUMBER_WIDTH = 2
TEXT_WIDTH = 1 + MOST_BYTES // 4
# The digest is that of a polynomial, since `dataset.map` must compute the same.
DIGEST_FACTOR = 0x5851F42D4C957F2D
# Of the long texts that this process has seen whole.
_MOST_REMEMBERED = 256 << 20

_remembered: dict[bytes, bytes] = {}
_remembered_bytes = 0
_lock = threading.Lock()
_warned_of_duplicates = False


def with_ids(x: Any, ids: Any) -> Any:
    """Attach ids to samples, for `BatchViewCallback` to record.

    They travel with the inputs through shuffling and batching. The callback
    takes them out again before the training step, so that the model, the
    loss and the metrics see what they see without ids, and the results are
    the same to the bit. Without the callback use `without_ids`.

    Use it on all inputs (`model.fit(with_ids(x, ids), y)`), in
    `dataset.map(lambda x, name, y: (with_ids(x, name), y))` before or after
    `batch`, and on the inputs of each batch in a generator or in
    `PyDataset.__getitem__`, in all batches.

    Example:
    ```python
    callback = BatchViewCallback("logs/first")
    model.fit(with_ids(images, file_names), labels, callbacks=[callback])
    ```

    Args:
        x: Inputs of the model: an array or tensor of shape (samples, ...), or
            a dict, tuple or list of them; or of one sample, with one id.
        ids: One for each sample, shape (samples,): texts such as file names
            (str, bytes or os.PathLike) or whole numbers below 2**63, as a
            list, array, Series or tensor. Samples with one id count as the
            same sample, seen again. Of a text over 128 bytes of UTF-8 the end
            is kept, with a mark that tells it from others, where the whole is
            not known to the training process: from `dataset.map` and from
            other processes.

    Returns:
        A dict: `x`, or its entries where it is a dict, and the ids.

    Raises:
        ArgumentError: (a `ValueError`) The ids are not one for each sample,
            some are missing, are of another kind, or there are ids already;
            or `x` is no inputs but a dataset or generator of them.
    """
    if _is_feed(x):
        raise ArgumentError(
            f"with_ids must be given the inputs of samples. Received: a {type(x).__name__}. Call it where the samples "
            "are made: in dataset.map, in the generator, or in __getitem__."
        )
    if any(True for _ in _find(x)):
        raise ArgumentError("with_ids must be given inputs without ids. Received: inputs that have some already.")
    if _is_symbolic(x) or _is_symbolic(ids):
        if not _is_symbolic(ids):
            raise ArgumentError(
                f"ids must come with the samples inside dataset.map. Received: {type(ids).__name__} from outside of "
                "it, which would be the same for every sample. Put them into the dataset: "
                "from_tensor_slices((x, ids, y))."
            )
        from tb_batchview.capture.tf_ids import encode_tensor

        codes = encode_tensor(ids)
    else:
        codes = encode_ids(ids)
    _check_lengths(x, codes)
    if isinstance(x, Mapping) and all(isinstance(key, str) for key in x):
        joined: Any = copy.copy(x)
        joined[KEY] = codes
        return joined
    return {INPUTS: x, KEY: codes}


def without_ids(x: Any) -> Any:
    """Take the ids away again that `with_ids` attached.

    For `evaluate`, `predict` and calls of the model without the callback.

    Args:
        x: What `with_ids` returned, a batch that begins with it, such as
            (x, y), or a `tf.data.Dataset` of either. What has no ids is
            returned as it is.

    Raises:
        ArgumentError: (a `ValueError`) It is a generator or a `PyDataset`.
    """
    if _is_dataset(x):
        # A tuple, also of one, comes as so many arguments.
        if isinstance(x.element_spec, tuple):
            return x.map(lambda *batch: split_ids(batch)[0])
        return x.map(lambda batch: split_ids(batch)[0])
    if _is_feed(x):
        raise ArgumentError(
            f"without_ids must be given inputs, a batch or a tf.data.Dataset. Received: a {type(x).__name__}. Call it "
            "on the batches that it gives."
        )
    return split_ids(x)[0]


# AutoGraph need not rewrite what `dataset.map` calls here.
for _function in (with_ids, without_ids):
    vars(_function)["autograph_info__"] = {}


def split_ids(batch: Any) -> tuple[Any, list[Any]]:
    """Take the ids out of a batch.

    Args:
        batch: x, or a tuple or list that begins with x.

    Returns:
        The batch as it was before `with_ids`, and the codes found: none, one,
        or more where several inputs were given ids.
    """
    found = list(_find(batch))
    return (_strip(batch), found) if found else (batch, found)


def carries_ids(batch: Any) -> bool:
    """Tell whether a batch, or what describes it, has ids."""
    return any(True for _ in _find(batch))


def _find(structure: Any) -> Iterator[Any]:
    if isinstance(structure, Mapping):
        if KEY in structure:
            yield structure[KEY]
        for key, inner in structure.items():
            if key != KEY:
                yield from _find(inner)
    elif isinstance(structure, (tuple, list)):
        for inner in structure:
            # A list of numbers has no place for ids, however long it is.
            if isinstance(inner, (Mapping, tuple, list)):
                yield from _find(inner)


def _strip(structure: Any) -> Any:
    if isinstance(structure, Mapping):
        if KEY in structure and INPUTS in structure:
            return _strip(structure[INPUTS])
        if not carries_ids(structure):
            return structure
        kept: Any = copy.copy(structure)
        kept.pop(KEY, None)
        for key, inner in list(kept.items()):
            kept[key] = _strip(inner)
        return kept
    if isinstance(structure, (tuple, list)) and carries_ids(structure):
        parts = [_strip(inner) for inner in structure]
        return type(structure)(*parts) if hasattr(structure, "_fields") else type(structure)(parts)
    return structure


def encode_ids(ids: Any) -> Array:
    """Return ids as rows of integers.

    Args:
        ids: As `with_ids` takes them, no tensors of a graph; also a single one.

    Returns:
        int32, shape (samples, `NUMBER_WIDTH` or `TEXT_WIDTH`); of a single id
        without the first axis.

    Raises:
        ArgumentError: They are of another kind, or some are missing.
    """
    items = _as_array(ids)
    single = items.ndim == 0
    if items.ndim == 2 and items.shape[1] == 1:
        items = items[:, 0]
    if items.ndim > 1:
        raise ArgumentError(f"ids must be one for each sample. Received: shape={items.shape}.")
    items = items.reshape(-1)
    if items.dtype.kind == "O":
        texts = [_bytes_of(item) for item in items.tolist()]
        codes = _encode_texts(texts)
        distinct = len(set(texts))
    else:
        codes = items.astype("<i8").view("<i4").reshape(-1, NUMBER_WIDTH)
        distinct = len(np.unique(items))
    if distinct < len(items):
        _warn_of_duplicates(len(items), distinct)
    codes = codes.astype(np.int32, copy=False)
    return codes[0] if single else codes


def decode_ids(codes: Array) -> tuple[Array, bool]:
    """Return the ids that rows of integers stand for.

    Args:
        codes: As `encode_ids` made them, shape (samples, width).

    Returns:
        int64 or objects (bytes of UTF-8), shape (samples,); and whether one is
        only the end of a text.

    Raises:
        ArgumentError: The integers are none that `with_ids` made.
    """
    codes = np.ascontiguousarray(codes, "<i4")
    if codes.ndim != 2 or codes.shape[1] not in (NUMBER_WIDTH, TEXT_WIDTH):
        raise ArgumentError(f"The ids of a batch must be those of with_ids. Received: shape={codes.shape}.")
    if codes.shape[1] == NUMBER_WIDTH:
        return codes.view("<i8")[:, 0], False
    ids = np.empty(len(codes), object)
    cut = False
    for place, (length, row) in enumerate(zip(codes[:, 0].tolist(), codes, strict=True)):
        text = row[1:].tobytes()
        if length <= 0:
            raise ArgumentError(f"ids must be texts (file names) or whole numbers, none missing. Received: {''!r}.")
        if length <= MOST_BYTES:
            ids[place] = text[:length]
            continue
        whole = _remembered.get(row.tobytes())
        cut = cut or whole is None
        ids[place] = _cut(text) if whole is None else whole
    return ids, cut


def _as_array(ids: Any) -> Array:
    """Return ids as an array of integers or of texts (objects)."""
    if isinstance(ids, (set, frozenset, Mapping, Iterator)):
        raise ArgumentError(
            f"ids must be in the order of the samples. Received: a {type(ids).__name__}. Give a list or an array."
        )
    if np.ma.is_masked(ids):
        ids = ids.tolist()  # Has None in their places.
    try:
        # As objects, since NumPy would make texts of 1 and "a" alike.
        array = np.asarray(ids, object if isinstance(ids, (list, tuple, os.PathLike)) else None)
    except Exception as error:
        raise ArgumentError(f"ids must be an array, or what numpy.asarray takes. Received: {error}.") from error
    if array.dtype.kind in "USTO":
        items = array.astype(object).ravel().tolist()
        kinds = {_kind_of(item) for item in items}
        if None in kinds:
            strange = next(item for item in items if _kind_of(item) is None)
            raise ArgumentError(
                f"ids must be texts (file names) or whole numbers, none missing. Received: {strange!r}."
            )
        if len(kinds) > 1:
            raise ArgumentError("ids must be all texts or all whole numbers. Received: both.")
        if kinds != {int}:
            return array.astype(object)
        if all(-(2**63) <= item < 2**63 for item in items):
            array = array.astype(np.int64)
    elif array.dtype.kind not in "iu" and array.size:
        raise ArgumentError(f"ids must be texts (file names) or whole numbers. Received: dtype={array.dtype}.")
    if array.dtype.kind == "O" or (array.dtype == np.uint64 and array.size and int(array.max()) >= 2**63):
        raise ArgumentError(f"ids that are numbers must fit into 64 bits with a sign. Received: {array.max()}.")
    return array.astype(np.int64)


def _kind_of(item: Any) -> type | None:
    if isinstance(item, (str, bytes)):
        return str if item else None  # An empty name is a missing one.
    if isinstance(item, os.PathLike):
        return str
    return int if isinstance(item, (int, np.integer)) and not isinstance(item, bool) else None


def _bytes_of(item: Any) -> bytes:
    text = os.fspath(item) if isinstance(item, os.PathLike) else item
    # Not every file name is Unicode: as `encode` writes them.
    return text.encode("utf-8", "backslashreplace") if isinstance(text, str) else bytes(text)


def _encode_texts(texts: list[bytes]) -> Array:
    lengths = np.fromiter(map(len, texts), np.int64, len(texts))
    short = [text if len(text) <= MOST_BYTES else _end_of(text) for text in texts]
    codes = np.empty((len(texts), TEXT_WIDTH), "<i4")
    codes[:, 0] = np.minimum(lengths, 2**31 - 1)
    # The zeros at the end, which NumPy fills up with, the length tells apart.
    codes[:, 1:] = np.array(short, f"S{MOST_BYTES}").view("<i4").reshape(-1, TEXT_WIDTH - 1)
    for place in np.flatnonzero(lengths > MOST_BYTES).tolist():
        _remember(codes[place].tobytes(), texts[place])
    return codes


def _end_of(text: bytes) -> bytes:
    return digest(text).to_bytes(DIGEST_BYTES, "little") + text[-TAIL_BYTES:]


def digest(text: bytes) -> int:
    """Return 64 bits that tell long texts with the same end apart."""
    powers = np.cumprod(np.full(len(text), DIGEST_FACTOR, np.uint64), dtype=np.uint64)
    return int((np.frombuffer(text, np.uint8) * powers).sum(dtype=np.uint64))


def _cut(code: bytes) -> bytes:
    """Say what is known of a long text: "…its end~0123456789abcdef"."""
    mark = int.from_bytes(code[:DIGEST_BYTES], "little")
    tail = code[DIGEST_BYTES:]
    # Not in the middle of a letter.
    while tail and tail[0] & 0xC0 == 0x80:
        tail = tail[1:]
    return "…".encode() + tail + f"~{mark:016x}".encode()


def _remember(code: bytes, text: bytes) -> None:
    global _remembered_bytes
    with _lock:
        if code not in _remembered and _remembered_bytes < _MOST_REMEMBERED:
            _remembered[code] = text
            _remembered_bytes += len(code) + len(text)


def _warn_of_duplicates(count: int, distinct: int) -> None:
    global _warned_of_duplicates
    if not _warned_of_duplicates:
        _warned_of_duplicates = True
        warnings.warn(
            f"tb_batchview: with_ids was given {count} ids, of which {count - distinct} are there again. Samples with "
            "one id count as the same sample, seen again. Where they are not, give the whole path, not the name alone.",
            BatchViewWarning,
            stacklevel=4,
        )


def _check_lengths(x: Any, codes: Any) -> None:
    """Raise where the ids are not one for each sample, as far as is known."""
    if len(codes.shape) == 1:
        return  # One sample.
    for shape in _shapes(x):
        size = shape[0] if shape else 0
        if None not in (size, codes.shape[0]) and size != codes.shape[0]:
            raise ArgumentError(f"ids must be one for each sample. Received: {codes.shape[0]} ids for {size} samples.")


def _shapes(x: Any) -> Iterable[tuple[int | None, ...]]:
    if isinstance(x, (Mapping, tuple, list)):
        for inner in x.values() if isinstance(x, Mapping) else x:
            yield from _shapes(inner)
    elif getattr(getattr(x, "shape", None), "rank", 0) is not None and hasattr(x, "shape"):
        yield tuple(x.shape)


def _tensorflow() -> Any:
    # Whoever has a tensor of it has imported it.
    return sys.modules.get("tensorflow")


def _is_symbolic(value: Any) -> bool:
    """Tell whether a value has a tensor of a graph, as in `dataset.map`."""
    tensorflow = _tensorflow()
    if tensorflow is None:
        return False
    if isinstance(value, (Mapping, tuple, list)):
        return any(_is_symbolic(inner) for inner in (value.values() if isinstance(value, Mapping) else value))
    if not tensorflow.is_tensor(value):
        return False
    # A sparse tensor has no `numpy` anywhere, a ragged one has it in a graph too.
    return any(not hasattr(part, "numpy") for part in tensorflow.nest.flatten(value, expand_composites=True))


def _is_dataset(value: Any) -> bool:
    tensorflow = _tensorflow()
    return tensorflow is not None and isinstance(value, tensorflow.data.Dataset)


def _is_feed(value: Any) -> bool:
    """Tell whether a value gives batches rather than being one."""
    keras = sys.modules.get("keras")
    is_keras = keras is not None and isinstance(value, keras.utils.PyDataset)
    return is_keras or _is_dataset(value) or isinstance(value, Iterator)
