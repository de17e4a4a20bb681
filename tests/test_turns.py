"""Turns: few threads work at once, the others in the order in which they came."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from tb_batchview.turns import Turns

LONG = 60.0


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait for something that another thread does."""
    end = time.monotonic() + LONG
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.001)


def test_at_most_so_many_work_at_once() -> None:
    turns = Turns(3, LONG)
    lock, working, most = threading.Lock(), 0, 0

    def work(_: int) -> None:
        nonlocal working, most
        with turns.turn():
            with lock:
                working += 1
                most = max(most, working)
            time.sleep(0.002)
            with lock:
                working -= 1

    with ThreadPoolExecutor(12) as threads:
        list(threads.map(work, range(60)))
    assert most == 3


def test_who_comes_as_another_ends_does_not_go_before_those_that_wait() -> None:
    turns, order = Turns(1, LONG), []

    def work(number: int) -> None:
        with turns.turn():
            order.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(5)]
    with turns.turn():
        for number, thread in enumerate(threads):
            thread.start()
            wait_until(lambda number=number: len(turns._waiting) == number + 1)  # type: ignore[misc]
    # As this one ends it comes again at once, which a semaphore would let pass.
    work(5)
    for thread in threads:
        thread.join()
    assert order == [0, 1, 2, 3, 4, 5]


def test_one_that_takes_long_holds_nobody_up_for_long() -> None:
    turns = Turns(1, 0.01)
    with turns.turn(), ThreadPoolExecutor(4) as threads:

        def work(number: int) -> int:
            with turns.turn():
                return number

        assert list(threads.map(work, range(8))) == list(range(8))
    assert not turns._waiting


def test_no_turn_is_lost() -> None:
    # About as long as each works: many give up just as they are given a turn.
    turns = Turns(2, 0.001)

    def work(number: int) -> None:
        with turns.turn():
            time.sleep(0.0005 * (number % 4))
            if number % 7 == 0:
                raise ValueError(number)

    with ThreadPoolExecutor(10) as threads:
        for done in [threads.submit(work, number) for number in range(400)]:
            done.exception()
    assert turns._free == 2
    assert not turns._waiting
