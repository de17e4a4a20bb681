"""A column in a temporary file is what it is in memory, whatever fails meanwhile."""

from __future__ import annotations

import contextlib
import errno
import gc
import mmap
import os
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import strategies  # noqa: F401 (settles how hypothesis draws)
from hypothesis import given
from hypothesis import strategies as st
from recorded import append, event_file, frames, make_record

from tb_batchview import growing, metadata
from tb_batchview.growing import Column
from tb_batchview.store import RunStore

pytestmark = pytest.mark.skipif(not hasattr(os, "pwrite"), reason="columns stay in memory here")

DTYPES = (np.int32, np.int64, np.float32, np.float64)
DESCRIPTORS = Path("/proc/self/fd")
write = getattr(os, "pwrite", None)  # the real one


@pytest.fixture(autouse=True)
def all_free() -> Iterator[None]:
    """Begin with every descriptor free, whatever runs of earlier tests are still open."""
    with mock.patch.object(growing, "_free", deque([None] * growing.MOST_DESCRIPTORS)):
        yield


def count_descriptors(*, collect: bool = True) -> int:
    """Count those of files without a name; others may be closed meanwhile."""
    if collect:
        gc.collect()
    found = 0
    for path in DESCRIPTORS.iterdir():
        with contextlib.suppress(OSError):
            found += str(path.readlink()).endswith("(deleted)")
    return found


@contextlib.contextmanager
def threshold(size: int) -> Iterator[None]:
    with mock.patch.object(growing, "LARGEST_IN_MEMORY", size):
        yield


def refuse(*_: Any, **__: Any) -> Any:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def write_little(fd: int, content: Any, position: int) -> int:
    """Write a few bytes, as a system may, and then none."""
    if len(content) < 24:
        refuse()
    return write(fd, content[:5], position)


FAILURES: dict[str, Callable[[], Any]] = {
    "none": contextlib.nullcontext,
    "full": lambda: mock.patch.object(os, "pwrite", refuse),
    "full after some bytes": lambda: mock.patch.object(os, "pwrite", write_little),
    "no hole": lambda: mock.patch.object(os, "ftruncate", refuse),
    "no map": lambda: mock.patch.object(mmap, "mmap", refuse),
    "no file": lambda: mock.patch.object(tempfile, "TemporaryFile", refuse),
    "no descriptor": lambda: mock.patch.object(growing, "_free", deque()),
    "one descriptor": lambda: mock.patch.object(growing, "_free", deque([None])),
    "another process": lambda: mock.patch.object(os, "getpid", return_value=-1),
}

steps = st.lists(
    st.tuples(
        st.sampled_from(["append", "extend", "pad", "pad with", "replace", "view"]),
        st.integers(0, 40),
        st.sampled_from([*FAILURES, *["none"] * 8]),
    ),
    max_size=30,
)


@given(
    steps=steps,
    dtype=st.sampled_from(DTYPES),
    width=st.sampled_from([0, 1, 7]),
    size=st.sampled_from([0, 64, 1000]),
    seed=st.integers(0, 2**32 - 1),
)
def test_a_column_in_a_file_equals_an_array(
    steps: list[tuple[str, int, str]], dtype: Any, width: int, size: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    shape = (width,) if width else ()
    column, expected = Column(dtype, -1, width), np.empty((0, *shape), dtype)
    views = []

    def draw(count: int) -> np.ndarray:
        return np.asfortranarray(rng.integers(-(2**31), 2**31, (count, *shape)).astype(dtype))

    with threshold(size):
        for kind, count, failure in steps:
            with FAILURES[failure]():
                if kind == "append":
                    added = draw(count)
                    for row in added:
                        column.append(row)
                elif kind == "extend":
                    added = draw(count)
                    column.extend(added)
                elif kind.startswith("pad"):
                    fill = 3 if kind == "pad with" else None
                    column.pad(len(expected) + count, fill)
                    added = np.full((count, *shape), -1 if fill is None else fill, dtype)
                else:
                    added = expected[:0]
                    if kind == "replace":
                        expected = draw(count) if count % 2 else expected[::-2]
                        column.replace(expected)
                expected = np.concatenate([expected, added])
                if kind in ("view", "replace"):
                    views.append((column.view(), expected.copy()))
        views.append((column.view(), expected))

    del column
    for view, before in views:
        assert (view.dtype, view.shape) == (before.dtype, before.shape)
        assert np.array_equal(view, before)
        assert not view.flags.writeable


@given(st.lists(st.floats(width=64), min_size=20, max_size=60), st.sampled_from([0, 1 << 20]))
def test_numbers_that_a_column_cannot_hold_are_infinite_in_both(values: list[float], size: int) -> None:
    column = Column(np.float32, np.nan)
    with threshold(size):
        column.extend(np.array(values))
        view = column.view()

    with np.errstate(all="ignore"):
        assert np.array_equal(view, np.array(values).astype(np.float32), equal_nan=True)


def test_a_long_column_is_in_a_file_and_growing_copies_nothing() -> None:
    column = Column(np.float32, np.nan)
    rows = np.arange(1 << 16, dtype=np.float32)
    per_file = growing.LARGEST_IN_MEMORY // rows.nbytes
    for _ in range(per_file):
        column.extend(rows)
    in_memory = column.view()
    column.extend(rows)
    written = []

    def note(fd: int, content: Any, position: int) -> int:
        written.append(len(content))
        return write(fd, content, position)

    with mock.patch.object(os, "pwrite", note):
        for _ in range(10 * per_file):
            column.extend(rows)
            column.view()

    assert in_memory.base is not None
    assert not isinstance(find_base(in_memory), mmap.mmap)
    assert isinstance(find_base(column.view()), mmap.mmap)
    # What was added, once; the map has been renewed three times.
    assert written == [rows.nbytes] * (10 * per_file)
    assert np.array_equal(column.view().reshape(-1, len(rows)), np.broadcast_to(rows, (11 * per_file + 1, len(rows))))


def find_base(array: Any) -> Any:
    """Return what holds the values of an array in the end."""
    while isinstance(array, (np.ndarray, memoryview)):
        base = array.base if isinstance(array, np.ndarray) else array.obj
        if base is None:
            return array
        array = base
    return array


def test_replacing_frees_what_no_view_needs() -> None:
    with threshold(64):
        column = Column(np.int64, 0)
        column.extend(np.arange(1000))
        before = column.view()
        free = len(growing._free)
        column.replace(np.arange(500))
        kept = len(growing._free)
        assert before.tolist() == list(range(1000))
        del before

        # The old view holds its map, no longer its file; the new rows have both.
        assert (kept - free, len(growing._free) - free) == (-1, 0)
        assert column.view().tolist() == list(range(500))
        column.replace(np.arange(3))
        assert (len(growing._free) - free, column.view().tolist()) == (2, [0, 1, 2])


@pytest.mark.skipif(not DESCRIPTORS.exists(), reason="needs /proc")
def test_no_descriptor_outlives_its_column() -> None:
    before, free = count_descriptors(), len(growing._free)
    with threshold(64):
        columns = [Column(np.int64, 0) for _ in range(20)]
        for column in columns:
            column.extend(np.arange(1000))
        views = [column.view() for column in columns]
        assert (count_descriptors() - before, free - len(growing._free)) == (40, 40)
        for column in columns:
            column.extend(np.arange(2000))
        later = [column.view() for column in columns]
        # Of each the file, the map now and the one before.
        assert (count_descriptors() - before, free - len(growing._free)) == (60, 60)
        del columns, column
        assert [view.sum() for view in (*views, *later)] == [499500] * 20 + [499500 + 1999000] * 20
        del views, later

    assert (count_descriptors(), len(growing._free)) == (before, free)


@pytest.mark.skipif(not DESCRIPTORS.exists(), reason="needs /proc")
@pytest.mark.parametrize("failure", [name for name in FAILURES if name != "none"])
def test_no_descriptor_is_lost_where_something_fails(failure: str) -> None:
    before, free = count_descriptors(), len(growing._free)
    with threshold(64):
        for begin in (8, 1000):
            column = Column(np.int64, 0)
            column.extend(np.arange(begin))
            column.view()
            with FAILURES[failure]():
                column.extend(np.arange(begin, 3000))
                assert np.array_equal(column.view(), np.arange(3000))
            del column

    assert (count_descriptors(), len(growing._free)) == (before, free)


def test_a_full_disk_costs_nothing_but_memory_and_only_until_there_is_room() -> None:
    with threshold(64):
        column = Column(np.int64, 0)
        column.extend(np.arange(100))
        first = column.view()
        with FAILURES["full after some bytes"]():
            column.extend(np.arange(100, 150))
            second = column.view()
        column.extend(np.arange(150, 1000))
        third = column.view()

    assert [isinstance(find_base(view), mmap.mmap) for view in (first, second, third)] == [True, False, True]
    assert [view.tolist() for view in (first, second, third)] == [list(range(count)) for count in (100, 150, 1000)]


@pytest.mark.skipif(not DESCRIPTORS.exists(), reason="needs /proc")
def test_files_and_maps_are_never_more_than_the_bound() -> None:
    before = count_descriptors()
    kept, columns = [], [Column(np.int32, 0) for _ in range(40)]
    with threshold(64), mock.patch.object(growing, "_free", deque([None] * 33)):
        for round_ in range(6):
            for column in columns:
                column.extend(np.full(100 << round_, round_))
                kept.append(column.view())
                assert count_descriptors(collect=False) - before <= 33
        in_files = sum(isinstance(find_base(column.view()), mmap.mmap) for column in columns)
        expected = np.repeat(np.arange(6), 100 << np.arange(6))
        assert all(np.array_equal(column.view(), expected) for column in columns)
        assert all(np.array_equal(view, expected[: len(view)]) for view in kept)
        del kept, columns, column
        assert (count_descriptors(), len(growing._free)) == (before, 33)

    assert in_files > 0


@pytest.mark.parametrize(("limit", "expected"), [(-1, 256), (100_000, 256), (256, 64), (2, 0)])
def test_the_bound_leaves_most_descriptors_to_the_rest(limit: int, expected: int) -> None:
    import resource

    limit = resource.RLIM_INFINITY if limit < 0 else limit
    with mock.patch.object(resource, "getrlimit", return_value=(limit, limit)):
        assert growing._count_descriptors() == expected


def test_without_the_means_columns_stay_in_memory() -> None:
    with mock.patch.dict(sys.modules, {"resource": None}):
        assert growing._count_descriptors() == 0


def test_a_forked_process_has_columns_of_its_own() -> None:
    """In a process of its own: one with threads must not fork."""
    code = """
import os, numpy as np
from tb_batchview import growing
growing.LARGEST_IN_MEMORY = 64
column = growing.Column(np.int64, 0)
column.extend(np.arange(100))
before = column.view()
child = os.fork()
column.extend(np.full(20, 7 if child else 8))
after = column.view().tolist()
column.extend(np.full(2000, 5 if child else 6))
if child:
    assert os.waitpid(child, 0)[1] == 0
mine = (7, 5) if child else (8, 6)
assert after == [*range(100), *[mine[0]] * 20], after
assert column.view().tolist() == [*range(100), *[mine[0]] * 20, *[mine[1]] * 2000]
assert before.tolist() == list(range(100))
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_column_may_grow_until_the_process_ends() -> None:
    code = """
import atexit, numpy as np
def end():
    column.extend(np.arange(100, 110))
    assert column.view().tolist() == list(range(110))
    assert column._file is not None
    print("grown")
atexit.register(end)  # runs after what is registered later
from tb_batchview import growing
growing.LARGEST_IN_MEMORY = 64
column = growing.Column(np.int64, 0)
column.extend(np.arange(100))
column.view()
"""
    done = subprocess.run([sys.executable, "-X", "dev", "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("grown\n", "")


def test_nothing_is_seen_in_the_directory_for_temporary_files(tmp_path: Path) -> None:
    with threshold(64), mock.patch.object(tempfile, "tempdir", str(tmp_path)):
        column = Column(np.int64, 0)
        column.extend(np.arange(1000))
        view = column.view()

    assert isinstance(find_base(view), mmap.mmap)
    assert list(tmp_path.iterdir()) == []


def test_a_directory_that_is_missing_or_read_only_is_no_error(tmp_path: Path) -> None:
    with threshold(64), mock.patch.object(tempfile, "tempdir", str(tmp_path / "none")):
        column = Column(np.int64, 0)
        column.extend(np.arange(1000))

        assert column.view().tolist() == list(range(1000))
        assert not isinstance(find_base(column.view()), mmap.mmap)


@pytest.mark.parametrize("failure", list(FAILURES))
def test_snapshots_of_a_run_outlive_it_and_any_failure(tmp_path: Path, failure: str) -> None:
    pieces = frames([make_record(step) for step in range(900)])
    path = event_file(tmp_path)
    path.write_bytes(b"".join(pieces[:301]))
    with threshold(64):
        run = RunStore(tmp_path / metadata.DIRECTORY)
        snapshots = [run.refresh()]
        append(path, b"".join(pieces[301:601]))
        with FAILURES[failure]():
            snapshots.append(run.refresh())
        append(path, b"".join(pieces[601:]))
        snapshots.append(run.refresh())
        # An older step that comes later: all columns are put in order, elsewhere.
        append(path, pieces[5])
        snapshots.append(run.refresh())
        del run
        gc.collect()

    targets = np.concatenate([make_record(step).outputs["scores"].targets for step in range(900)])
    for view, count in zip(snapshots, (300, 600, 900, 900), strict=True):
        phase = view.phases["train"]
        samples = phase.outputs["scores"]
        assert np.array_equal(phase.step, np.arange(count))
        assert np.array_equal(samples.starts, 8 * np.arange(count + 1))
        assert np.array_equal(samples.columns["target"], targets[: 8 * count])
