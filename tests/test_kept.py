"""What is kept: the latest used, in bounded memory."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tb_batchview.kept import Kept


def test_what_was_not_used_for_longest_goes_first() -> None:
    kept = Kept(30)
    for key in "abc":
        kept.put(key, key.upper(), 10)

    assert kept.get("a") == "A"
    kept.put("d", "D", 10)

    assert [kept.get(key) for key in "abcd"] == ["A", None, "C", "D"]
    assert (kept.bytes, len(kept)) == (30, 3)


def test_what_only_served_to_make_another_goes_before_that() -> None:
    kept = Kept(30)
    kept.put("made", 1, 10)
    for part in range(5):
        kept.put(part, part, 10, passing=True)

    assert kept.get("made") == 1
    assert kept.get(4) == 4
    assert kept.bytes <= 30


def test_what_is_larger_than_all_there_may_be_is_not_kept() -> None:
    kept = Kept(30)
    kept.put("a", 1, 20)
    kept.put("a", 2, 31)

    assert (kept.get("a"), kept.bytes, len(kept)) == (None, 0, 0)


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 40), st.booleans())), st.integers(0, 60))
def test_the_bound_holds(puts: list[tuple[int, int, bool]], limit: int) -> None:
    kept = Kept(limit)
    sizes: dict[int, int] = {}

    for key, size, passing in puts:
        kept.put(key, size, size, passing=passing)
        sizes[key] = size
        assert kept.bytes <= limit
        assert kept.get(key) in ((size,) if size <= limit else (None,))

    assert kept.bytes == sum(sizes[key] for key in range(10) if kept.get(key) is not None)


def test_one_makes_what_several_ask_for_at_once() -> None:
    kept, made = Kept(100), []

    def find(key: str) -> None:
        with kept.making(key):
            if kept.get(key) is None:
                made.append(key)
                time.sleep(0.005)
                kept.put(key, key, 1)

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(find, ["a", "b", "c"] * 16))
    assert sorted(made) == ["a", "b", "c"]
    assert not kept._making


def test_no_other_key_waits_for_what_is_being_made() -> None:
    kept = Kept(100)
    done = [threading.Event() for _ in range(200)]

    def make(number: int) -> None:
        with kept.making(number):
            done[number].set()

    with kept.making("slow"):
        threads = [threading.Thread(target=make, args=(number,)) for number in range(len(done))]
        for thread in threads:
            thread.start()
        assert all(event.wait(60) for event in done)
    for thread in threads:
        thread.join()


def test_what_could_not_be_made_can_be_tried_again() -> None:
    kept = Kept(100)
    for _ in range(2):
        with pytest.raises(ValueError, match="no"), kept.making("a"):
            raise ValueError("no")
    assert not kept._making
