"""Ids of samples: the same codes as a plain dict gives, growing and joined."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from recorded import append, event_file, frames, make_record, make_scores, write

from tb_batchview import identity, layouts
from tb_batchview.errors import ArgumentError, NotFoundError
from tb_batchview.identity import Identity
from tb_batchview.log import load
from tb_batchview.records import OutputRecord
from tb_batchview.run import Run

Batch = list[int | str | None] | None
IDS = st.integers(-3, 3) | st.sampled_from(["", "a", "b", "3", "\U0001f600", "x" * 300])


def number_plainly(batches: list[Batch]) -> tuple[list[int], list[Any]]:
    table: dict[Any, int] = {}
    codes = []
    for batch in batches:
        codes += [-1 if item is None else table.setdefault(item, len(table)) for item in batch or []]
    return codes, list(table)


def as_array(batch: Batch) -> np.ndarray | None:
    array = np.empty(len(batch or []), object)
    array[:] = batch or []
    return None if batch is None else array


def starts_of(batches: list[Batch]) -> np.ndarray:
    return np.concatenate([[0], np.cumsum([len(batch or []) for batch in batches])]).astype(np.int64)


@settings(deadline=None)
@given(st.lists(st.none() | st.lists(st.none() | IDS, max_size=6), min_size=1, max_size=12), st.data())
def test_codes_are_those_of_a_dict_however_the_run_grows(batches: list[Batch], data: st.DataObject) -> None:
    found = Identity()
    read: list[int] = []

    def read_batch(row: int) -> np.ndarray | None:
        read.append(row)
        return as_array(batches[row])

    for stop in sorted(data.draw(st.lists(st.integers(1, len(batches)), min_size=1, max_size=4))):
        ids = found.follow(starts_of(batches[:stop]), read_batch)
        codes, names = number_plainly(batches[:stop])
        assert (ids.codes.tolist(), list(ids.names()), ids.count) == (codes, names, len(names))
        for name in names:
            assert names.index(name) in ids.find(name)
    assert len(read) == len(set(read)), "a batch was read twice"


def test_an_older_snapshot_sees_what_it_had() -> None:
    found = Identity()
    batches: list[Batch] = [["a", "b"], ["b", "c"]]
    old = found.follow(starts_of(batches[:1]), lambda row: as_array(batches[row]))
    found.follow(starts_of(batches), lambda row: as_array(batches[row]))
    again = found.follow(starts_of(batches[:1]), lambda row: as_array(batches[row]))

    assert (old.codes.tolist(), list(old.names()), old.find("c")) == ([0, 1], ["a", "b"], [])
    assert again.codes.tolist() == [0, 1]


def test_batches_that_did_not_change_are_not_read_again() -> None:
    batches: list[Batch] = [["a", "b"], ["c", 3], ["b", "d"]]
    found = Identity()
    found.follow(starts_of(batches), lambda row: as_array(batches[row]))
    read: list[int] = []
    later: list[Batch] = [*batches[:1], ["d"], ["c", None, "a"]]

    def read_later(row: int) -> np.ndarray | None:
        read.append(row)
        return as_array(later[row])

    ids = found.before(2).before(1).before(3).follow(starts_of(later), read_later)

    assert (ids.codes.tolist(), list(ids.names()), read) == ([0, 1, 2, 3, -1, 0], ["a", "b", "d", "c"], [1, 2])
    assert found.follow(starts_of(batches), read_later).codes.tolist() == [0, 1, 2, 3, 1, 4]


def test_a_text_finds_the_number_that_it_is() -> None:
    batch: Batch = [7, "7", "07", -7]
    ids = Identity().follow(starts_of([batch]), lambda _: as_array(batch))

    assert [ids.find(wanted) for wanted in (7, "7", "07", "-7", "+7", "٧", "x")] == [[0], [1, 0], [2], [3], [], [], []]
    assert ids.search("7").tolist() == [True] * 4
    assert ids.search("0").tolist() == [False, False, True, False]


def test_a_part_is_found_in_any_case() -> None:
    batch: Batch = ["IMG_1.png", "img_2.PNG", "other"]
    ids = Identity().follow(starts_of([batch]), lambda _: as_array(batch))

    assert ids.search("Img").tolist() == [True, True, False]


def test_too_many_are_refused_and_the_sentence_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    batches: list[Batch] = [["a"], ["b"], ["c" * 5000]]
    monkeypatch.setattr(identity, "MOST_BYTES", 2000)
    found = Identity()
    assert found.follow(starts_of(batches[:2]), lambda row: as_array(batches[row])).count == 2
    for _ in range(2):
        with pytest.raises(ArgumentError, match="Received: 3 samples, with 2 ids and more"):
            found.follow(starts_of(batches), lambda row: as_array(batches[row]))

    monkeypatch.setattr(identity, "MOST_SAMPLES", 1)
    with pytest.raises(ArgumentError, match="up to 1 samples"):
        Identity().follow(starts_of(batches), lambda row: as_array(batches[row]))


def test_many_threads_follow_the_same_run() -> None:
    batches: list[Batch] = [[f"{row % 7}-{place}" for place in range(5)] for row in range(400)]
    expected = number_plainly(batches)
    found, problems = Identity(), []

    def ask(thread: int) -> None:
        for stop in range(thread + 1, len(batches) + 1, 8):
            ids = found.follow(starts_of(batches[:stop]), lambda row: as_array(batches[row]))
            if ids.codes.tolist() != expected[0][: 5 * stop]:
                problems.append(stop)

    threads = [threading.Thread(target=ask, args=(thread,)) for thread in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert problems == []


# --- from files ---


def make_batch(step: int, ids: Any, **changes: Any) -> Any:
    """Return a record with ids; None for none."""
    samples = 8 if ids is None else len(ids)
    predictions, targets = make_scores(step, samples)
    array = None if ids is None else np.array(ids, object if isinstance(ids[0], str) else np.int64)
    loss = -np.log(predictions[np.arange(samples), targets])
    outputs = {"scores": OutputRecord(predictions, targets, loss, sample_ids=array)}
    return make_record(step, samples=samples, outputs=outputs, **changes)


def list_seen(run: Run, wanted: Any) -> list[tuple[int, int]]:
    """Return where an id is, batch by batch."""
    seen = []
    for batch in run.batches("train"):
        ids = [] if batch.sample_ids is None else batch.sample_ids.tolist()
        seen += [(batch.step, place) for place, item in enumerate(ids) if item == wanted]
    return seen


@pytest.mark.parametrize("kind", [int, lambda number: f"file {'x' * number}.png"])
def test_history_is_where_the_id_is_in_the_files(tmp_path: Path, kind: Any) -> None:
    generator = np.random.default_rng(3)
    # Some twice in a batch, some once in all, some batches without any, one with other samples.
    ids = [None if step in (4, 9) else [kind(number) for number in generator.integers(0, 30, 12)] for step in range(20)]
    ids[7] = [kind(77)]
    write(tmp_path, [make_batch(step, batch) for step, batch in enumerate(ids)])
    run = load(tmp_path)["."]

    for number in [*range(30), 77]:
        expected = list_seen(run, kind(number))
        if not expected:
            continue
        history = run.sample_history("train", kind(number))
        assert list(zip(history.step.tolist(), history.sample.tolist(), strict=True)) == expected
        for place, (step, sample) in enumerate(expected):
            batch = run.batches("train").at_step(step)
            assert history.epoch[place] == batch.epoch
            for name in ("target", "predicted"):
                assert getattr(history, name)[place] == getattr(batch, name)[sample]
            assert history.loss[place] == batch.sample_loss[sample]
            assert history.confidence[place] == batch.predictions[sample].max()
            assert history.error[place] == (batch.target[sample] != batch.predicted[sample])


def test_history_grows_with_the_run(tmp_path: Path) -> None:
    records = [make_batch(step, [step % 3, 100 + step]) for step in range(12)]
    pieces = frames(records)
    path = event_file(tmp_path)
    path.write_bytes(b"".join(pieces[:6]))
    log = load(tmp_path)
    before = log["."].sample_history("train", 1).step.tolist()
    append(path, b"".join(pieces[6:]))
    log.refresh()

    assert before == [1, 4]
    assert log["."].sample_history("train", 1).step.tolist() == [1, 4, 7, 10]
    assert log["."].sample_history("train", np.int64(110)).step.tolist() == [10]


def test_ids_of_several_workers_are_joined(tmp_path: Path) -> None:
    ids = {0: [["a", "b"], ["c", "a"], ["d"]], 1: [["c", "e"], None, ["a", "a"]]}
    for worker, batches in ids.items():
        records = [make_batch(step, batch) for step, batch in enumerate(batches)]
        write(tmp_path, records, number=worker, worker=worker, workers=2)
    run = load(tmp_path)["."]

    for name in "abcde":
        history = run.sample_history("train", name)
        assert list(zip(history.step.tolist(), history.sample.tolist(), strict=True)) == list_seen(run, name)
    assert run.data_map("train").ids.tolist() == ["a", "b", "c", "e", "d"]


def test_a_late_share_of_a_worker_is_taken_in(tmp_path: Path) -> None:
    write(tmp_path, [make_batch(step, [step]) for step in range(4)], worker=0, workers=2)
    pieces = frames([make_batch(step, [3 - step]) for step in range(4)], worker=1, workers=2)
    path = event_file(tmp_path, 1)
    path.write_bytes(b"".join(pieces[:2]))
    log = load(tmp_path)
    before = log["."].sample_history("train", 3)
    append(path, b"".join(pieces[2:]))
    log.refresh()
    after = log["."].sample_history("train", 3)

    assert list(zip(before.step.tolist(), before.sample.tolist(), strict=True)) == [(0, 1), (3, 0)]
    assert log["."].sample_history("train", 2).step.tolist() == [1, 2]
    assert after.step.tolist() == [0, 3]


def test_without_ids_a_sentence_says_what_to_add(tmp_path: Path) -> None:
    write(tmp_path / "a", [make_record(step) for step in range(3)])
    write(tmp_path / "b", [make_batch(0, ["x"])])
    log = load(tmp_path)

    with pytest.raises(NotFoundError, match=r"phase 'train' has none\. Record them: add_batch\(…, sample_ids=ids\)"):
        log["a"].data_map("train")
    with pytest.raises(NotFoundError, match=r"sample_id must be one of the 1 recorded\. Received: sample_id='y'"):
        log["b"].sample_history("train", "y")
    assert not log["a"].view.has_ids(log["a"].view.phases["train"], "scores")
    assert log["b"].view.has_ids(log["b"].view.phases["train"], "scores")


def test_batches_recorded_twice_are_followed_once(tmp_path: Path) -> None:
    write(tmp_path, [make_batch(step, ["old", f"{step}"]) for step in range(6)])
    log = load(tmp_path)
    assert log["."].sample_history("train", "old").step.tolist() == list(range(6))
    write(tmp_path, [make_batch(step, ["new", f"{step}"]) for step in range(3, 6)], number=1)
    log.refresh()

    assert log["."].sample_history("train", "old").step.tolist() == [0, 1, 2]
    assert log["."].sample_history("train", "new").step.tolist() == [3, 4, 5]


def test_ids_are_known_also_where_no_form_is_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layouts, "MAX_LAYOUTS", 1)
    write(tmp_path, [make_record(0), *(make_batch(step, ["x" * step, "y"]) for step in range(1, 5))])
    run = load(tmp_path)["."]
    phase = run.view.phases["train"]

    assert (phase._layout < 0).any(), "else this tests nothing"
    assert run.view.has_ids(phase, "scores")
    assert run.sample_history("train", "y").step.tolist() == [1, 2, 3, 4]
    next((tmp_path / "batchview").iterdir()).unlink()
    assert not run.view.has_ids(phase, "scores")
