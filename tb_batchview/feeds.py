"""Data of any kind that Keras takes, one batch at a time.

`predictions` goes through it once: what `open_feed` returns takes a batch from
the data when it is asked for one, so that inputs and targets stay together and
one batch is in memory.
"""

from __future__ import annotations

import collections
import concurrent.futures
import dis
import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from typing import Any, NamedTuple

import keras
import numpy as np

from tb_batchview.errors import ArgumentError, in_brief

# As Keras cuts arrays when it is not told otherwise.
_BATCH_SIZE = 32


class Batch(NamedTuple):
    """One batch, as the data gave it.

    Attributes:
        x: Inputs.
        y: Targets.
        sample_weight: Or None.
        size: Number of samples.
    """

    x: Any
    y: Any
    sample_weight: Any
    size: int


class Feed(NamedTuple):
    """Batches to come.

    Attributes:
        batches: Each taken from the data when it is asked for.
        total: How many there are, None where nobody knows.
        samples: How many there are in all of them, likewise.
    """

    batches: Iterator[Batch]
    total: int | None
    samples: int | None = None


def open_feed(
    data: Any,
    *,
    y: Any = None,
    sample_weight: Any = None,
    batch_size: int | None = None,
    steps: int | None = None,
    arguments: Mapping[str, Any] | None = None,
) -> Feed:
    """Begin to go through data.

    Args:
        data: A `tf.data.Dataset`, a `keras.utils.PyDataset`, a generator or
            anything else that batches come from; a function that makes one;
            or arrays, with their targets in a tuple or as `y`.
        y: Targets of arrays.
        sample_weight: Weights of arrays.
        batch_size: Of arrays; None is 32.
        steps: How many batches at most; None is all.
        arguments: For the function.

    Raises:
        ArgumentError: The data are not what they must be; some of it comes
            with the batch that shows it.
    """
    if _makes_data(data):
        data = data(**(arguments or {}))
    elif arguments is not None:
        raise ArgumentError(
            "data_arguments are for a function that makes the data. Received: data of type "
            f"{type(data).__name__}. Give the function itself, uncalled."
        )
    if _are_arrays(data) or y is not None or sample_weight is not None:
        feed = _cut_arrays(data, y, sample_weight, batch_size)
    elif batch_size is not None:
        raise ArgumentError(
            f"batch_size is for arrays: data of type {type(data).__name__} come in batches. Received: "
            f"batch_size={batch_size}."
        )
    else:
        found, total = _find_batches(data)
        if steps is None and total == math.inf:
            raise ArgumentError(
                f"data of type {type(data).__name__} never end. Received: steps=None. Say how many batches to take: "
                "steps=100."
            )
        feed = Feed(map(_unpack, found), None if total is None or total == math.inf else int(total))
    if steps is None or (feed.total is not None and steps >= feed.total):
        return feed
    return Feed(itertools.islice(feed.batches, steps), steps)


def to_array(value: Any) -> Any:
    """Return a tensor of any library as NumPy's array."""
    if hasattr(value, "detach"):  # PyTorch's, which may be part of a gradient or on a device.
        value = value.detach().cpu()
    return np.asarray(value)


def _no_targets(found: str) -> str:
    return (
        "data must have targets: (x, y) or (x, y, sample_weight), in arrays or in every batch. Received: a "
        f"{found}. For predictions alone use model.predict with BatchViewCallback(log_dir, record=['predict'])."
    )


def structured(part: Any) -> Any:
    """Return a list of plain numbers as an array."""
    if isinstance(part, (list, tuple)) and not any(hasattr(leaf, "shape") for leaf in keras.tree.flatten(part)):
        return np.asarray(part)
    return part


def _makes_data(data: Any) -> bool:
    """Tell whether data are what makes them: a function, or a class."""
    holds = hasattr(data, "__iter__") or hasattr(data, "__getitem__")
    return isinstance(data, type) or (callable(data) and not holds)


def _are_arrays(data: Any) -> bool:
    """Tell whether data are arrays, rather than where batches come from."""
    if isinstance(data, list):
        return not any(isinstance(item, (list, tuple)) for item in data)
    return isinstance(data, (tuple, Mapping)) or hasattr(data, "shape")


def _cut_arrays(data: Any, y: Any, sample_weight: Any, batch_size: int | None) -> Feed:
    if isinstance(data, tuple):
        if y is not None or sample_weight is not None:
            raise ArgumentError(
                "Targets and weights must be given once. Received: data as a tuple, which has them, and y or "
                "sample_weight."
            )
    elif not _are_arrays(data) and not isinstance(data, list):
        raise ArgumentError(
            f"y and sample_weight are for arrays: data of type {type(data).__name__} have them in every batch. "
            "Received: y or sample_weight."
        )
    elif y is None:
        raise ArgumentError(_no_targets(f"{type(data).__name__} without y"))
    else:
        data = (data, y, sample_weight)
    whole = _unpack(data)
    size = _BATCH_SIZE if batch_size is None else batch_size
    if not whole.size:
        raise ArgumentError("data must have at least one sample. Received: arrays of length 0.")
    return Feed(
        (_cut(whole, start, min(start + size, whole.size)) for start in range(0, whole.size, size)),
        -(-whole.size // size),
        whole.size,
    )


def _cut(whole: Batch, start: int, stop: int) -> Batch:
    def cut(leaf: Any) -> Any:
        return None if leaf is None else leaf[start:stop]

    x, y, sample_weight = (keras.tree.map_structure(cut, part) for part in whole[:3])
    return Batch(x, y, sample_weight, stop - start)


def _find_batches(data: Any) -> tuple[Iterator[Any], float | None]:
    """Return where batches come from, and how many do if that is known."""
    kinds = {f"{kind.__module__.partition('.')[0]}.{kind.__name__}" for kind in type(data).__mro__}
    if "tensorflow.DatasetV2" in kinds:
        # -1 is an endless one, -2 one of unknown length.
        count = int(data.cardinality())
        return iter(data), math.inf if count == -1 else None if count < 0 else count
    if isinstance(data, keras.utils.PyDataset):
        count = data.num_batches
        return _walk(data, itertools.count() if count is None else range(count)), math.inf if count is None else count
    try:
        batches = iter(data)
    except TypeError:
        raise ArgumentError(
            "data must be arrays, a tf.data.Dataset, a PyDataset, a generator of batches or a function that makes "
            f"one of them. Received: data={in_brief(data)}."
        ) from None
    if isinstance(data, Sized):
        # The generators of Keras 2 begin anew after their last batch.
        return itertools.islice(batches, len(data)), len(data)
    return batches, math.inf if _never_ends(batches) else None


def _walk(data: Any, places: Iterable[int]) -> Iterator[Any]:
    """Yield the batches of a PyDataset, made ahead where it has workers."""
    data.on_epoch_begin()
    if data.workers > 1:
        coming: collections.deque[concurrent.futures.Future[Any]] = collections.deque()
        with concurrent.futures.ThreadPoolExecutor(data.workers) as pool:
            try:
                for place in places:
                    coming.append(pool.submit(data.__getitem__, place))
                    if len(coming) > max(data.max_queue_size, data.workers):
                        yield coming.popleft().result()
                while coming:
                    yield coming.popleft().result()
            finally:
                for future in coming:
                    future.cancel()
    else:
        for place in places:
            yield data[place]
    data.on_epoch_end()


def _never_ends(batches: Iterator[Any]) -> bool:
    """Tell whether it is certain that no batch is the last one.

    Every function has a `return` at its end, unless Python can see that the
    end is never reached: `while True` without a `break` (or `raise`, which
    ends it too).
    """
    if isinstance(batches, (itertools.cycle, itertools.count)):
        return True
    code = getattr(batches, "gi_code", None)
    return code is not None and not any(
        instruction.opname in ("RETURN_VALUE", "RETURN_CONST", "RAISE_VARARGS")
        for instruction in dis.get_instructions(code)
    )


def _unpack(batch: Any) -> Batch:
    """Take a tuple apart, as Keras does, which takes a list for one too."""
    if not isinstance(batch, (list, tuple)) or not 2 <= len(batch) <= 3 or batch[1] is None:
        several = isinstance(batch, (list, tuple))
        found = f"{type(batch).__name__} of {len(batch)}" if several else f"{type(batch).__name__} without y"
        raise ArgumentError(_no_targets(found))
    x, y, sample_weight = (keras.tree.map_structure(_array, structured(part)) for part in (*batch, None)[:3])
    return Batch(x, y, sample_weight, _check_sizes((x, y, sample_weight)))


def _array(leaf: Any) -> Any:
    """Return what can be cut by places; those of pandas are labels."""
    return leaf if leaf is None or (hasattr(leaf, "shape") and not hasattr(leaf, "iloc")) else np.asarray(leaf)


def _check_sizes(parts: Sequence[Any]) -> int:
    """Return the number of samples: the same in all parts."""
    sizes: dict[str, int] = {}
    for name, part in zip(("x", "y", "sample_weight"), parts, strict=True):
        for leaf in keras.tree.flatten(part):
            if leaf is None:
                continue
            if not len(leaf.shape):
                raise ArgumentError(
                    f"data must come in batches. Received: {name} as the single value {to_array(leaf)!r}. Make "
                    "batches of a tf.data.Dataset with data.batch(32)."
                )
            rows = int(leaf.shape[0])
            sizes.setdefault(name, rows)
            if rows != next(iter(sizes.values())):
                sizes[name] = rows
                raise ArgumentError(
                    "x, y and sample_weight must have the same number of samples. Received: "
                    + ", ".join(f"{part} of {size}" for part, size in sizes.items())
                    + "."
                )
    return next(iter(sizes.values()), 0)
