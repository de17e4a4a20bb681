"""What the samples were: kept as small pictures or texts, of each id once, and read again."""

from __future__ import annotations

import io
import shutil
import threading
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from recorded import SPECS, event_file, make_record
from tensorboard.compat.proto import event_pb2

from tb_batchview import BatchWriter, arguments, encode, inputs, load, tfrecord, thumbnails
from tb_batchview import writer as writing
from tb_batchview.errors import ArgumentError, BatchViewWarning, NotFoundError
from tb_batchview.eventfile import EventFile

rng = np.random.default_rng(0)
PIXELS = rng.integers(0, 256, (40, 9, 7, 3)).astype(np.uint8)
CLASSES = np.arange(40) % 4


def decode(content: Any) -> np.ndarray:
    """Return the pixels of a picture: Pillow's word."""
    assert isinstance(content, bytes)
    return np.asarray(Image.open(io.BytesIO(content)))


def add(writer: BatchWriter, shown: Any, ids: Any = None, **more: Any) -> None:
    size = len(shown)
    writer.add_batch(
        predictions=np.eye(4)[np.arange(size) % 4], targets=np.arange(size) % 4, sample_ids=ids, inputs=shown, **more
    )


def stored(log_dir: Path, phase: str = "train") -> list[int]:
    """Return how many pictures or texts the record of each batch holds."""
    counts = []
    for batch in load(log_dir)["."].batches(phase):
        slot = batch._place.layout.inputs
        counts.append(0 if slot is None else sum(bool(value) for value in batch._reader(batch._place, slot)))
    return counts


def smooth(height: int, width: int) -> np.ndarray:
    """Return a picture without edges, in [0, 1]."""
    y, x = np.mgrid[0:height, 0:width] / max(height, width)
    return np.stack([y, x, 0.5 + 0.5 * np.sin(3 * x + 2 * y)], -1)


# --- what is kept of arrays ---


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_small_pictures_are_kept_to_the_bit(data: st.DataObject) -> None:
    height, width = (data.draw(st.integers(1, thumbnails.LOSSLESS_PIXELS)) for _ in range(2))
    channels = data.draw(st.sampled_from([1, 3, 4]))
    pixels = np.random.default_rng(height).integers(0, 256, (height, width, channels)).astype(np.uint8)

    content = thumbnails.encode_picture(pixels)

    assert inputs.find_mime(content) == "image/png"
    np.testing.assert_array_equal(decode(content).reshape(pixels.shape), pixels)


@pytest.mark.parametrize(
    ("values", "low", "high"),
    [
        (rng.random((8, 9, 7, 3)), 0, 1),
        (rng.random((8, 9, 7, 3)).astype(np.float16), 0, 1),
        (rng.random((8, 9, 7)) * 2 - 1, -1, 1),
        (rng.random((8, 9, 7, 1)) * 255, 0, 255),
        (rng.integers(0, 256, (8, 9, 7)), 0, 255),
        (rng.random((8, 9, 7)) > 0.5, 0, 1),
    ],
    ids=["[0, 1]", "half", "[-1, 1]", "[0, 255]", "integers", "bool"],
)
def test_the_usual_ranges_are_found(values: np.ndarray, low: float, high: float, tmp_path: Path) -> None:
    with BatchWriter(tmp_path) as writer:
        add(writer, values)

    expected = np.rint((values.astype(np.float32) - low) * 255 / (high - low))
    for content, pixels in zip(load(tmp_path)["."].batches("train")[0].inputs, expected, strict=True):
        np.testing.assert_allclose(decode(content).reshape(pixels.shape), pixels, atol=1)


@pytest.mark.parametrize("scale", [(0.0, 1.0), (3.0, 40.0), (8.0, 3.0), (-30.0, 1.0)])
def test_other_values_go_from_their_lowest_to_their_highest(scale: tuple[float, float], tmp_path: Path) -> None:
    """Standardised data: whatever mean and deviation are, and a wild value among them."""
    values = rng.normal(size=(8, 20, 20, 3)) * scale[1] + scale[0]
    values[0, 0, 0, 0] = scale[0] + 1e6 * scale[1]
    values[1, 0, 0, 0] = np.nan
    with BatchWriter(tmp_path) as writer:
        add(writer, values)

    # Clipped where it is beyond the percentiles, and else proportional.
    middle = (np.abs(values - scale[0]) < 1.5 * scale[1]).reshape(8, -1)
    for row, content in enumerate(load(tmp_path)["."].batches("train")[0].inputs):
        pixels = decode(content).reshape(-1)[middle[row]]
        slope, _ = np.polyfit(values[row].reshape(-1)[middle[row]], pixels, 1)
        assert 40 < slope * scale[1] < 60  # 255 over 2 · 2.58 deviations
        assert np.corrcoef(values[row].reshape(-1)[middle[row]], pixels)[0, 1] > 0.999


def test_what_the_first_batches_taught_holds_for_later_ones(tmp_path: Path) -> None:
    bright, dark = np.full((2, 4, 4), 200.0), np.full((2, 4, 4), 1.0)
    with BatchWriter(tmp_path) as writer:
        add(writer, bright)
        add(writer, dark)

    last = load(tmp_path)["."].batches("train")[1]
    assert {int(decode(content).max()) for content in last.inputs} == {1}


@pytest.mark.parametrize(("height", "width"), [(200, 130), (40, 640), (64, 64), (33, 10)])
def test_large_pictures_are_made_small(height: int, width: int, tmp_path: Path) -> None:
    picture = smooth(height, width)
    with BatchWriter(tmp_path) as writer:
        add(writer, np.stack([picture] * 2))

    content = load(tmp_path)["."].batches("train")[0].inputs[1]

    longest = max(height, width)
    side = min(longest, thumbnails.MOST_PIXELS)
    pixels = decode(content)
    assert inputs.find_mime(content) == "image/jpeg"
    assert pixels.shape == (max(1, round(height * side / longest)), max(1, round(width * side / longest)), 3)
    # NumPy's own: the values at the centres of the pixels.
    rows = ((np.arange(pixels.shape[0]) + 0.5) * height / pixels.shape[0]).astype(int)
    columns = ((np.arange(pixels.shape[1]) + 0.5) * width / pixels.shape[1]).astype(int)
    assert np.abs(picture[rows][:, columns] * 255 - pixels).mean() < 4


@pytest.mark.parametrize("shape", [(5, 3, 9, 7), (5, 1, 9, 7), (5, 4, 9, 7)])
def test_channels_may_come_first(shape: tuple[int, ...], tmp_path: Path) -> None:
    pixels = rng.integers(0, 256, shape).astype(np.uint8)
    with BatchWriter(tmp_path) as writer:
        add(writer, pixels)

    for row, content in enumerate(load(tmp_path)["."].batches("train")[0].inputs):
        np.testing.assert_array_equal(decode(content).reshape(9, 7, -1), pixels[row].transpose(1, 2, 0))


def test_pictures_of_several_sizes_are_a_list(tmp_path: Path) -> None:
    pictures = [rng.integers(0, 256, (side, 5, 3)).astype(np.uint8) for side in (4, 9, 6)]
    with BatchWriter(tmp_path) as writer:
        add(writer, pictures)

    for content, pixels in zip(load(tmp_path)["."].batches("train")[0].inputs, pictures, strict=True):
        np.testing.assert_array_equal(decode(content), pixels)


@pytest.mark.parametrize("kind", ["sizes", "texts", "column of texts"])
def test_a_list_may_be_an_array_of_objects(kind: str, tmp_path: Path) -> None:
    shown = np.empty(3, object)
    shown[:] = [PIXELS[0], PIXELS[1][:4], PIXELS[2]] if kind == "sizes" else ["a", "b", "c"]
    with BatchWriter(tmp_path) as writer:
        add(writer, shown[:, None] if kind == "column of texts" else shown)

    found = load(tmp_path)["."].batches("train")[0].inputs
    for content, item in zip(found, shown, strict=True):
        np.testing.assert_array_equal(content if isinstance(content, str) else decode(content), item)


@pytest.mark.parametrize("nothing", [[], (), np.zeros(0, object), PIXELS[:0]])
def test_a_batch_of_no_samples_has_no_inputs(nothing: Any, tmp_path: Path) -> None:
    with BatchWriter(tmp_path) as writer:
        add(writer, nothing)
        add(writer, ["a text"])

    batches = load(tmp_path)["."].batches("train")
    assert [batch.size for batch in batches] == [0, 1]
    assert not batches[0].inputs
    assert list(batches[1].inputs) == ["a text"]


def test_texts_are_kept_as_texts(tmp_path: Path) -> None:
    texts = ["good film", "bad ü", "", "x" * 5000]
    with BatchWriter(tmp_path) as writer:
        add(writer, texts)
        add(writer, np.array([b"caf\xc3\xa9", b"b"]))

    run = load(tmp_path)["."]
    assert list(run.batches("train")[0].inputs) == ["good film", "bad ü", None, "x" * 1000]
    assert list(run.batches("train")[1].inputs) == ["café", "b"]
    assert run.input_of("train", 0, 1) == "bad ü"


def test_texts_that_wait_count_and_are_cut_before(tmp_path: Path) -> None:
    assert arguments.input_values(["ä" * 5000, ("ä" * 5000).encode()]).tolist() == ["ä" * 1000] * 2
    go_on = threading.Event()

    def wait() -> list[Any]:
        go_on.wait(30)
        return []

    def overfill() -> None:
        with BatchWriter(tmp_path, max_pending_mb=0.5, on_full="drop") as writer:
            writer.submit(wait, nbytes=1)
            for _ in range(100):
                add(writer, ["x" * 5000] * 10)  # 10 kB of each batch
            go_on.set()

    with pytest.warns(BatchViewWarning, match="dropped"):
        overfill()

    assert 40 <= len(load(tmp_path)["."].batches("train")) <= 60


@pytest.mark.parametrize(
    ("shown", "message"),
    [
        (np.zeros((2, 5)), "inputs must be pictures, of shape"),
        (np.zeros((2, 5, 5, 7)), "inputs must be pictures, of shape"),
        (np.zeros((2, 0, 5, 3)), "inputs must be pictures, of shape"),
        (np.zeros((2, 4, 4), complex), "inputs must be pictures, of shape"),
        ([{"a": 1}, None], "inputs must be pictures, of shape"),
        (np.zeros((3, 4, 4)), "inputs must be one per sample. Received: 3 of 2 samples"),
        ([thumbnails.encode_picture(PIXELS[0])] * 2, "inputs must be pixels or texts. Received: the bytes of a pic"),
    ],
)
def test_what_is_no_picture_is_refused_at_once(shown: Any, message: str, tmp_path: Path) -> None:
    with BatchWriter(tmp_path) as writer, pytest.raises(ArgumentError, match=message):
        writer.add_batch(predictions=np.eye(4)[:2], targets=[0, 1], inputs=shown)


def test_a_buffer_may_be_used_again(tmp_path: Path) -> None:
    buffer = PIXELS[:4].copy()
    with BatchWriter(tmp_path) as writer:
        add(writer, buffer)
        buffer[:] = 0

    np.testing.assert_array_equal(decode(load(tmp_path)["."].batches("train")[0].inputs[3]), PIXELS[3])


# --- of each id one ---


def add_epochs(log_dir: Path, name: Callable[[np.ndarray], Any], epochs: int = 3, phase: str = "train") -> None:
    with BatchWriter(log_dir) as writer:
        for epoch in range(epochs):
            order = np.random.default_rng(epoch).permutation(40)
            for start in range(0, 40, 8):
                rows = order[start : start + 8]
                add(writer, PIXELS[rows], name(rows), epoch=epoch, phase=phase)


def add_in_fours(log_dir: Path, starts: Iterable[int], **options: Any) -> None:
    with BatchWriter(log_dir, **options) as writer:
        for start in starts:
            add(writer, PIXELS[start : start + 4], range(start, start + 4))


def assert_all_shown(log_dir: Path, row_of: Callable[[Any], int], phase: str = "train") -> None:
    for batch in load(log_dir)["."].batches(phase):
        for identity, content in zip(batch.sample_ids, batch.inputs, strict=True):
            np.testing.assert_array_equal(decode(content), PIXELS[row_of(identity)])


@pytest.mark.parametrize("kind", ["numbers", "names"])
def test_of_each_id_one_picture_is_kept_and_found_from_every_batch(kind: str, tmp_path: Path) -> None:
    names = np.array([f"image-{row}.png" for row in range(40)])
    add_epochs(tmp_path, (lambda rows: rows) if kind == "numbers" else lambda rows: names[rows])

    assert stored(tmp_path) == [8] * 5 + [0] * 10
    assert_all_shown(tmp_path, int if kind == "numbers" else lambda name: names.tolist().index(name))


def test_a_resumed_run_and_another_phase_have_their_own(tmp_path: Path) -> None:
    add_epochs(tmp_path, lambda rows: rows, epochs=1)
    add_epochs(tmp_path, lambda rows: rows, epochs=2)
    add_epochs(tmp_path, lambda rows: 39 - rows, epochs=1, phase="validation")

    assert stored(tmp_path) == [8] * 10 + [0] * 5
    assert stored(tmp_path, "validation") == [8] * 5
    assert_all_shown(tmp_path, int)
    assert_all_shown(tmp_path, lambda identity: 39 - identity, "validation")


def test_pictures_that_are_gone_or_in_another_run_are_written_once_more(tmp_path: Path) -> None:
    writer = BatchWriter(tmp_path / "a", run={"architecture": "one"})
    add(writer, PIXELS[:4], range(4))
    writer.close()
    add(writer, PIXELS[:4], range(4))
    writer.close()
    assert stored(tmp_path / "a") == [4, 0]

    shutil.rmtree(tmp_path / "a")
    add(writer, PIXELS[:4], range(4))
    writer.close()
    assert stored(tmp_path / "a") == [4]

    writer.run = {"architecture": "another"}
    with pytest.warns(BatchViewWarning, match="another model"):
        add(writer, PIXELS[:4], range(4))
    writer.close()
    assert stored(tmp_path / "a-2") == [4]


def test_after_a_failure_of_the_disk_pictures_are_written_once_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "FLUSH_SECONDS", 1000)
    with BatchWriter(tmp_path) as writer:
        add(writer, PIXELS[:4], range(4))
        writer.flush()
        monkeypatch.setattr(EventFile, "append", raise_full)
        add(writer, PIXELS[:4], range(4))
        with pytest.warns(BatchViewWarning, match="No space"):
            writer.flush()
        monkeypatch.undo()
        add(writer, PIXELS[:4], range(4))

    assert stored(tmp_path) == [4, 4]


def raise_full(*_: Any) -> None:
    raise OSError(28, "No space left on device")


def test_the_same_ids_may_be_others_in_another_phase(tmp_path: Path) -> None:
    with BatchWriter(tmp_path) as writer:
        for _ in range(2):
            add(writer, PIXELS[:4], range(4))
            add(writer, PIXELS[4:8], range(4), phase="validation")

    assert stored(tmp_path) == stored(tmp_path, "validation") == [4, 0]
    assert_all_shown(tmp_path, int)
    assert_all_shown(tmp_path, lambda identity: identity + 4, "validation")


def test_an_id_that_is_twice_in_a_batch_has_its_picture_in_both(tmp_path: Path) -> None:
    with BatchWriter(tmp_path) as writer:
        add(writer, PIXELS[[3, 3, 4]], [3, 3, 4])
        add(writer, PIXELS[[5, 4, 3]], [5, 4, 3])

    assert stored(tmp_path) == [2, 1]
    assert_all_shown(tmp_path, int)


def test_without_ids_every_batch_has_its_pictures(tmp_path: Path) -> None:
    with BatchWriter(tmp_path) as writer:
        for _ in range(3):
            add(writer, PIXELS[:8])

    assert stored(tmp_path) == [8, 8, 8]


def test_a_picture_that_was_not_written_is_kept_the_next_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original, calls = encode.EventEncoder.encode_pieces, []

    def fail_once(*arguments: Any) -> Any:
        calls.append(arguments)
        if len(calls) == 1:
            raise ValueError("no")
        return original(*arguments)

    monkeypatch.setattr(encode.EventEncoder, "encode_pieces", fail_once)
    with pytest.warns(BatchViewWarning, match="could not be written"):
        add_in_fours(tmp_path, [0, 0])

    assert stored(tmp_path) == [4]
    assert_all_shown(tmp_path, int)


def test_batches_whose_arrays_are_not_kept_keep_no_pictures(tmp_path: Path) -> None:
    add_in_fours(tmp_path, range(0, 16, 4), update_freq=2)

    run = load(tmp_path)["."]
    assert stored(tmp_path) == [4, 0, 4, 0]
    assert len(run.batches("train")[1].inputs) == 0
    assert run.input_of("train", 1, 0) is None


def test_a_full_budget_ends_the_pictures_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(thumbnails, "BUDGET_BYTES", 5 * (thumbnails._ID_BYTES + 200))
    with pytest.warns(BatchViewWarning, match="Inputs are no longer recorded") as caught:
        add_in_fours(tmp_path, range(0, 40, 4))

    run = load(tmp_path)["."]
    counts = stored(tmp_path)
    assert len(caught) == 1
    assert 1 <= sum(map(bool, counts)) < 5
    assert counts == sorted(counts, reverse=True)
    assert len(run.batches("train")) == 10
    ((kind, _, count),) = run.health.warnings
    assert (kind, count) == ("capture", counts.count(0))
    assert run.batches("train")[9].inputs[0] is None
    assert run.batches("train")[0].inputs[0] is not None


def test_a_full_budget_is_no_matter_where_nothing_is_new(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(thumbnails, "BUDGET_BYTES", 5)
    add_in_fours(tmp_path, [0, 0, 0])

    assert stored(tmp_path) == [4, 0, 0]
    assert load(tmp_path)["."].health.warnings == ()


def test_shares_of_several_workers_show_each_its_own(tmp_path: Path) -> None:
    writers = [BatchWriter(tmp_path, worker=worker, workers=2) for worker in (0, 1)]
    for epoch in range(3):
        for worker, writer in enumerate(writers):
            rows = np.arange(6)[worker::2] if epoch != 1 else np.arange(6)[1 - worker :: 2]
            add(writer, PIXELS[rows], rows if epoch < 2 else None, step=epoch)
    for writer in writers:
        writer.close()

    log = load(tmp_path)
    for batch, rows in zip(log["."].batches("train"), ([0, 2, 4, 1, 3, 5], [1, 3, 5, 0, 2, 4]) * 2, strict=False):
        np.testing.assert_array_equal([decode(content) for content in batch.inputs], PIXELS[rows])
    assert log["."].input_of("train", 0, 6) is None
    log.refresh()
    assert log["."].health.warnings == ()


# --- reading what anybody wrote ---


def png(width: int, height: int) -> bytes:
    """Return a PNG that says its size, whatever its pixels are."""
    head = b"IHDR" + width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([8, 0, 0, 0, 0])
    chunks = [head, b"IDAT" + zlib.compress(bytes(100)), b"IEND"]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        (len(chunk) - 4).to_bytes(4, "big") + chunk + zlib.crc32(chunk).to_bytes(4, "big") for chunk in chunks
    )


JPEG = thumbnails.encode_picture((smooth(50, 60) * 255).astype(np.uint8))
SMALL = thumbnails.encode_picture(PIXELS[0])
WEBP = io.BytesIO()
Image.fromarray(PIXELS[0]).save(WEBP, "WEBP")
HOSTILE = {
    "text": b"<script>alert(1)</script>",
    "svg": b'<svg xmlns="http://www.w3.org/2000/svg"/>',
    "another format": WEBP.getvalue(),
    "a bomb": png(60_000, 60_000),
    "a wide bomb": png(60_000, 5),
    "a tall bomb": png(5, 60_000),
    "no pixels": png(0, 5),
    "too many bytes": SMALL[:-12] + bytes(inputs.MOST_BYTES) + SMALL[-12:],
    "cut": JPEG[:-10],
    "cut within the head": SMALL[:14],
    "more behind it": SMALL + b"<script>",
    "a head alone": b"\xff\xd8\xff\xd9",
    "a JPEG without a frame": b"\xff\xd8\xff\xe0\x00\x02" * 50 + b"\xff\xd9",
}


def write_inputs(log_dir: Path, values: list[Any], form: str = "image") -> None:
    """Write a batch whose inputs are what they are."""
    record = make_record(0, samples=len(values), inputs=np.array(values, object))
    event = event_pb2.Event.FromString(encode.EventEncoder({}).encode(record, SPECS))
    (data,) = (value.metadata.plugin_data for value in event.summary.value if value.tag == "train/inputs")
    data.content = data.content.replace(b'"image"', f'"{form}"'.encode())
    event_file(log_dir).write_bytes(tfrecord.frame(event.SerializeToString()))


@pytest.mark.parametrize("kind", HOSTILE)
def test_what_is_no_picture_is_not_passed_on_and_counts(kind: str, tmp_path: Path) -> None:
    write_inputs(tmp_path, [SMALL, HOSTILE[kind], JPEG])
    log = load(tmp_path)
    run = log["."]

    found = [run.input_of("train", 0, row) for row in range(3)]
    again = list(run.batches("train")[0].inputs)
    log.refresh()

    assert found == [("image/png", SMALL), None, ("image/jpeg", JPEG)]
    assert again == [SMALL, None, JPEG]
    assert [warning for warning in run.health.warnings if "PNG" in warning[1]] == [
        ("read", "Inputs that are neither PNG, JPEG nor text are not shown.", 1)
    ]


@pytest.mark.parametrize("form", ["pdf", "", "IMAGE"])
def test_a_form_that_is_not_known_is_not_shown(form: str, tmp_path: Path) -> None:
    write_inputs(tmp_path, [SMALL, SMALL], form)

    assert list(load(tmp_path)["."].batches("train")[0].inputs) == [None, None]


def test_bytes_that_are_no_text_are_escaped(tmp_path: Path) -> None:
    write_inputs(tmp_path, [b"caf\xe9 \xff", b"\xed\xa0\x80"], "text")

    assert list(load(tmp_path)["."].batches("train")[0].inputs) == ["caf\\xe9 \\xff", r"\xed\xa0\x80"]


def test_asking_for_what_is_not_there(tmp_path: Path) -> None:
    with BatchWriter(tmp_path) as writer:
        add(writer, PIXELS[:2])
        writer.add_batch(phase="validation", loss=0.5)
    run = load(tmp_path)["."]

    assert [run.input_of("train", 0, row) for row in (-1, 2, 10**9)] == [None] * 3
    assert (run.has_inputs("train"), run.has_inputs("validation")) == (True, False)
    assert run.batches("validation")[0].inputs is None
    with pytest.raises(NotFoundError, match="step must be a batch that was kept"):
        run.input_of("train", 5, 0)
    with pytest.raises(NotFoundError, match="phase must be one of those recorded"):
        run.has_inputs("predict")


def test_a_lookup_reads_a_few_times_whatever_the_run_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add_epochs(tmp_path, lambda rows: rows, epochs=10)
    run = load(tmp_path)["."]
    run.input_of("train", 49, 0)  # the ids of all batches are read once
    opened = []
    original = inputs.open_place
    monkeypatch.setattr(inputs, "open_place", lambda place: opened.append(place) or original(place))

    for row in range(8):
        assert run.input_of("train", 49, row) is not None

    assert len(opened) == 8


def test_a_long_list_of_inputs_is_walked_without_its_bulk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inputs, "_WHOLE_BYTES", 10)
    add_epochs(tmp_path, lambda rows: rows, epochs=2)

    assert_all_shown(tmp_path, int)
