"""What the samples of `fit` and `evaluate` were, in every way to train, against the arrays given."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tb_batchview import BatchViewCallback, load
from tb_batchview.capture.inputs import shrink
from tb_batchview.errors import ArgumentError, BatchViewWarning
from tests.fits import feed, messages, train_twice
from tests.models import BATCH, LAYERS

rng = np.random.default_rng(3)
SHAPE = (9, 7, 3)
UINT8 = rng.integers(0, 256, (40, *SHAPE)).astype(np.uint8)
Y = np.arange(40) % 4


def model(
    shape: tuple[int | None, ...] = SHAPE, dtype: str = "float32", *, conv: bool = False, **options: Any
) -> Callable[[], Any]:
    """Return what makes a model of pictures; convolutions take long to compile."""

    def make() -> Any:
        inputs = keras.Input(shape, dtype=dtype)
        hidden = LAYERS.Rescaling(1 / 255)(inputs) if dtype == "uint8" else inputs
        hidden = LAYERS.Conv2D(4, 3, activation="relu")(hidden) if conv else hidden
        hidden = LAYERS.GlobalAveragePooling2D()(hidden)
        made = keras.Model(inputs, LAYERS.Dense(4, activation="softmax")(hidden))
        made.compile("adam", "sparse_categorical_crossentropy", **options)
        return made

    return make


def decode(content: Any) -> np.ndarray:
    assert isinstance(content, bytes)
    return np.asarray(Image.open(io.BytesIO(content)))


def assert_shown(run: Any, expected: np.ndarray, phase: str = "train", atol: float = 0) -> None:
    """Compare what is shown of each sample, in the order of the data."""
    seen = 0
    for batch in run.batches(phase):
        assert len(batch.inputs) == batch.size
        for row, content in enumerate(batch.inputs):
            pixels = decode(content)
            np.testing.assert_allclose(pixels, expected[batch.index * BATCH + row].reshape(pixels.shape), atol=atol)
            seen += 1
    assert seen


# The model, what it is given, and what each picture must be. XLA takes long to compile: one for all.
WAYS: dict[str, tuple[Callable[[], Any], Any, Any]] = {
    "graph": (model(conv=True), UINT8 / np.float32(255), UINT8),
    "XLA, steps in one call": (model(dtype="uint8", jit_compile=True, steps_per_execution=2), UINT8, UINT8),
    "eager": (model(run_eagerly=True), UINT8.astype(np.float32), UINT8),
    "steps in one call": (model(steps_per_execution=2), UINT8 / np.float32(127.5) - 1, UINT8),
}


@pytest.mark.parametrize("way", WAYS)
def test_pictures_are_those_of_the_batch_and_training_is_the_same(way: str, tmp_path: Path) -> None:
    make, x, expected = WAYS[way]

    validation = (x[:20], Y[:20]) if way == "graph" else None
    run = train_twice(make, feed(x, Y, validation_data=validation), tmp_path, inputs="thumbnails")

    assert len(run.batches("train")) == 6
    for phase in ("train", "validation")[: 1 + (way == "graph")]:
        assert_shown(run, expected, phase)
    assert run.health.warnings == ()


@pytest.mark.filterwarnings("ignore:Your input ran out of data")
def test_pictures_of_a_dataset_whose_sizes_are_not_known(tmp_path: Path) -> None:
    def generate() -> Any:
        yield from zip(UINT8, Y, strict=True)

    signature = tf.TensorSpec((None, None, 3), tf.uint8), tf.TensorSpec((), tf.int64)

    def fit(model: Any, callbacks: Any) -> Any:
        data = tf.data.Dataset.from_generator(generate, output_signature=signature).batch(BATCH)
        return model.fit(data, verbose=0, shuffle=False, callbacks=callbacks).history

    run = train_twice(model((None, None, 3), "uint8"), fit, tmp_path, inputs="thumbnails")

    assert_shown(run, UINT8)


def test_channels_may_come_first(tmp_path: Path) -> None:
    first = UINT8.transpose(0, 3, 1, 2) / np.float32(255)

    def make() -> Any:
        made = keras.Sequential([keras.Input((3, 9, 7)), LAYERS.Flatten(), LAYERS.Dense(4, activation="softmax")])
        made.compile("adam", "sparse_categorical_crossentropy")
        return made

    assert_shown(train_twice(make, feed(first, Y), tmp_path, inputs="thumbnails"), UINT8)


@pytest.mark.parametrize(
    ("shape", "first", "small"),
    [
        ((2, 200, 130, 3), False, (2, 66, 43, 3)),
        ((2, 3, 130, 200), True, (2, 43, 66, 3)),
        ((2, 300, 128), False, (2, 75, 32)),
        ((2, 4, 640, 1), False, (2, 1, 64, 1)),
        ((2, 127, 100, 3), False, (2, 127, 100, 3)),
    ],
)
@pytest.mark.parametrize("dtype", ["float32", "uint8", "float16"])
def test_large_pictures_are_the_means_of_blocks(
    shape: tuple[int, ...], first: bool, small: tuple[int, ...], dtype: str
) -> None:
    values = rng.integers(0, 256, shape).astype(dtype)

    found = np.asarray(shrink(tf.constant(values)))

    last = values.transpose(0, 2, 3, 1) if first else values
    by = max(last.shape[1:3]) // 64 or 1
    rows, columns = small[1:3]
    down, across = min(by, last.shape[1]), min(by, last.shape[2])
    cut = last[:, : rows * down, : columns * across].astype(np.float64)
    means = sum(cut[:, i::down, j::across] for i in range(down) for j in range(across)) / (down * across)
    assert found.shape == small
    assert (found.dtype == np.uint8) == (dtype == "uint8")
    np.testing.assert_allclose(found, means, atol=0.51 if dtype == "uint8" else 1e-3)


def test_large_pictures_of_fit_are_made_small(tmp_path: Path) -> None:
    y, x = np.mgrid[0:200, 0:130] / 200
    picture = np.stack([y, x, 0.5 + 0.5 * np.sin(3 * x + 2 * y)], -1).astype(np.float32)

    run = train_twice(model((200, 130, 3)), feed(np.stack([picture] * 16), Y[:16]), tmp_path, inputs="thumbnails")

    pixels = decode(run.batches("train")[1].inputs[3])
    assert pixels.shape == (64, 42, 3)
    centres = picture[((np.arange(64) + 0.5) * 200 / 64).astype(int)][:, ((np.arange(42) + 0.5) * 130 / 42).astype(int)]
    assert np.abs(centres * 255 - pixels).mean() < 4


def test_texts_are_kept_as_texts(tmp_path: Path) -> None:
    texts = [f"sentence {number} ü" for number in range(39)] + ["x" * 3000]

    def make() -> Any:
        inputs = keras.Input((), dtype="string")
        numbers = LAYERS.Hashing(50)(inputs)
        made = keras.Model(inputs, LAYERS.Dense(4, activation="softmax")(LAYERS.Embedding(50, 6)(numbers)))
        made.compile("adam", "sparse_categorical_crossentropy")
        return made

    data = tf.data.Dataset.from_tensor_slices((texts, Y)).batch(BATCH)
    run = train_twice(
        make,
        lambda model, calls: model.fit(data, verbose=0, shuffle=False, callbacks=calls).history,
        tmp_path,
        inputs="thumbnails",
    )

    shown = [text for batch in run.batches("train") for text in batch.inputs]
    assert shown == [*texts[:-1], "x" * 1000]


# --- a function of x ---


def make_two_inputs(**options: Any) -> Callable[[], Any]:
    def make() -> Any:
        inputs = {"numbers": keras.Input((4,), name="numbers"), "picture": keras.Input((9, 7, 3), name="picture")}
        joined = LAYERS.Concatenate()([inputs["numbers"], LAYERS.Flatten()(inputs["picture"])])
        made = keras.Model(inputs, LAYERS.Dense(4, activation="softmax")(joined))
        made.compile("adam", "sparse_categorical_crossentropy", **options)
        return made

    return make


NUMBERS = rng.normal(size=(40, 4)).astype(np.float32)
BOTH = {"numbers": NUMBERS, "picture": UINT8 / np.float32(255)}


def test_of_several_inputs_the_picture_is_kept(tmp_path: Path) -> None:
    assert_shown(train_twice(make_two_inputs(), feed(BOTH, Y), tmp_path, inputs="thumbnails"), UINT8)


@pytest.mark.parametrize("options", [{}, {"run_eagerly": True}, {"steps_per_execution": 2}], ids=str)
def test_a_function_is_given_x_as_the_model_is(options: dict[str, Any], tmp_path: Path) -> None:
    given: list[Any] = []

    def describe(x: Any) -> list[str]:
        given.append(x)
        return [
            f"{numbers[0]:.6f} {picture.mean():.4f}"
            for numbers, picture in zip(x["numbers"], x["picture"], strict=True)
        ]

    run = train_twice(make_two_inputs(**options), feed(BOTH, Y), tmp_path, inputs=describe)

    assert [list(x) for x in given] == [["numbers", "picture"]] * 6
    for batch, x in zip(run.batches("train"), given[:6], strict=True):
        rows = slice(batch.index * BATCH, batch.index * BATCH + batch.size)
        np.testing.assert_array_equal(x["numbers"], NUMBERS[rows])
        np.testing.assert_array_equal(x["picture"], BOTH["picture"][rows])
        assert list(batch.inputs) == describe({name: values[rows] for name, values in BOTH.items()})


def test_a_function_makes_pictures_of_what_is_none(tmp_path: Path) -> None:
    flat = UINT8.reshape(40, -1) / np.float32(255)

    def make() -> Any:
        made = keras.Sequential([keras.Input((189,)), LAYERS.Dense(4, activation="softmax")])
        made.compile("adam", "sparse_categorical_crossentropy")
        return made

    run = train_twice(
        make, feed(flat, Y), tmp_path, inputs=lambda x: np.rint(x * 255).astype(np.uint8).reshape(-1, 9, 7, 3)
    )

    assert_shown(run, UINT8)


WRONG: dict[str, tuple[Callable[[Any], Any], str]] = {
    "raises": (lambda x: {}[x["numbers"][0, 0]], "KeyError"),  # another message each time
    "too few": (lambda x: x["picture"][:-1], "inputs must be one per sample"),
    "no pictures": (lambda x: x["numbers"], "inputs must be pictures"),
    "nothing": (lambda x: None, "inputs must be pictures"),
    "complex": (lambda x: x["picture"] * 1j, "inputs must be pictures"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_a_function_that_fails_costs_one_warning(kind: str, tmp_path: Path) -> None:
    function, message = WRONG[kind]
    made = make_two_inputs(run_eagerly=kind != "raises")()
    with pytest.warns(BatchViewWarning) as caught:
        made.fit(BOTH, Y, batch_size=20, epochs=2, verbose=0, callbacks=[BatchViewCallback(tmp_path, inputs=function)])

    run = load(tmp_path)["."]
    ((_, text, count),) = run.health.warnings
    assert (len(messages(caught)), count) == (1, 4)
    assert "The inputs of a batch could not be recorded" in text
    assert message in text
    assert [batch.predictions.shape for batch in run.batches("train")] == [(20, 4)] * 4
    assert run.batches("train")[0].inputs is None


def test_inputs_that_look_like_nothing_are_warned_of_once(tmp_path: Path) -> None:
    made = keras.Sequential([keras.Input((4,)), LAYERS.Dense(4, activation="softmax")])
    made.compile("adam", "sparse_categorical_crossentropy")
    with pytest.warns(BatchViewWarning) as caught:
        made.fit(NUMBERS, Y, epochs=2, verbose=0, callbacks=[BatchViewCallback(tmp_path, inputs="thumbnails")])

    assert len(messages(caught)) == 1
    assert "looks like a picture or a text" in messages(caught)[0]
    assert len(load(tmp_path)["."].batches("train")) == 4


def test_two_callbacks_keep_each_its_own(tmp_path: Path) -> None:
    callbacks = [
        BatchViewCallback(tmp_path / "pictures", inputs="thumbnails"),
        BatchViewCallback(tmp_path / "texts", inputs=lambda x: ["text"] * len(x["numbers"])),
        BatchViewCallback(tmp_path / "neither"),
    ]
    make_two_inputs()().fit(BOTH, Y, batch_size=BATCH, shuffle=False, verbose=0, callbacks=callbacks)

    log = load(tmp_path)
    assert_shown(log["pictures"], UINT8)
    assert list(log["texts"].batches("train")[2].inputs) == ["text"] * 8
    assert log["neither"].batches("train")[0].inputs is None


@pytest.mark.parametrize("wrong", ["pictures", True, 5, ["thumbnails"]])
def test_inputs_must_be_known(wrong: Any, tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="inputs must be None, 'thumbnails' or a function of x"):
        BatchViewCallback(tmp_path, inputs=wrong)


def test_inputs_of_predict_alone_would_be_none(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="inputs need the phase 'train' or 'validation'"):
        BatchViewCallback(tmp_path, inputs="thumbnails", record=["predict"])


@pytest.mark.parametrize(("setting", "small"), [("channels_last", (2, 3, 9, 4)), ("channels_first", (2, 9, 4, 3))])
def test_where_both_ends_could_be_channels_the_setting_of_keras_decides(setting: str, small: tuple[int, ...]) -> None:
    before = keras.config.image_data_format()
    keras.config.set_image_data_format(setting)
    try:
        assert tuple(shrink(tf.zeros((2, 3, 9, 4))).shape) == small
    finally:
        keras.config.set_image_data_format(before)
