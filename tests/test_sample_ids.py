"""Ids of samples: from the arrays they came with, through Keras, to the record.

The truth is the class of each sample, which is a number of its own: wherever
a sample goes, its target says which id belongs to it. And always: training
is the same to the bit as without ids and without the callback.
"""

from __future__ import annotations

import gc
import sys
import warnings
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

from tb_batchview import BatchViewCallback, handoff, ids, load, record_predictions, with_ids, without_ids, writer
from tb_batchview.capture import keras_names
from tb_batchview.capture.tf_ids import encode_tensor
from tb_batchview.errors import ArgumentError, BatchViewWarning
from tests.fits import feed, messages, state_of
from tests.models import BATCH, LAYERS

SAMPLES = 40
SIZES = [16, 16, 8]
X = np.random.default_rng(0).normal(size=(SAMPLES, 8)).astype("float32")
Y = np.arange(SAMPLES)
NAMES = np.array([f"train/ähre {number:02}.png" for number in Y])
NUMBERS = 10**12 - 7 * Y
LONG = np.array([f"{'a folder/' * 20}{number:02}.png" for number in Y])


@pytest.fixture(autouse=True)
def _rest_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handoff, "REST_SECONDS", 0.3)
    monkeypatch.setattr(writer, "FLUSH_SECONDS", 0.05)


@pytest.fixture(autouse=True)
def _forget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ids, "_remembered", {})
    monkeypatch.setattr(ids, "_warned_of_duplicates", False)


def make(mode: dict[str, Any], kind: type[keras.Model] = keras.Model, parts: str = "") -> Any:
    """Return a compiled model of one input, or of a dict or tuple of two."""
    one, other = keras.Input((8,), name="one"), keras.Input((8,), name="other")
    inputs: Any = {"dict": {"one": one, "other": other}, "tuple": (one, other)}.get(parts, one)
    merged = LAYERS.Add()([one, other]) if parts else one
    model = kind(inputs, LAYERS.Dense(SAMPLES, activation="softmax", name="scores")(LAYERS.Dropout(0.2)(merged)))
    model.compile("sgd", "sparse_categorical_crossentropy", **mode)
    return model


def assert_each_has_its_id(log_dir: Path, names: Any, counts: dict[str, list[list[int]]]) -> None:
    """Compare the ids of every batch with those of its targets.

    Args:
        log_dir: Of the run.
        names: The id of each target.
        counts: By phase, the targets of each epoch: which samples it had.
    """
    run = load(log_dir)["."]
    for phase, epochs in counts.items():
        batches = run.batches(phase)
        seen: list[list[int]] = [[] for _ in epochs]
        for batch in batches:
            targets = np.ravel(batch.targets)
            assert batch.sample_ids.tolist() == [names[target] for target in targets]
            seen[batch.epoch] += targets.tolist()
        assert [sorted(targets) for targets in seen] == [sorted(targets) for targets in epochs]


def train_both(build: Callable[[], Any], plain: Any, carried: Any, log_dir: Path, **options: Any) -> None:
    """Train without ids and callback, and with both: the same to the bit."""
    found = []
    for fit, callbacks in ((plain, []), (carried, [BatchViewCallback(log_dir, histogram_freq=0, **options)])):
        keras.utils.set_random_seed(7)
        model = build()
        found.append((fit(model, callbacks), state_of(model)))
    assert found[0] == found[1]


class DataStep(keras.Model):
    """Reads x where a user would."""

    def train_step(self, data: Any) -> Any:
        x, y = data
        with tf.GradientTape() as tape:
            predictions = self(x, training=True)
            loss = self.compute_loss(x=x, y=y, y_pred=predictions)
        self.optimizer.apply_gradients(
            zip(tape.gradient(loss, self.trainable_variables), self.trainable_variables, strict=True)
        )
        return self.compute_metrics(x, y, predictions)


class GraphStep(DataStep):
    train_step = tf.function(DataStep.train_step)


MODES: dict[str, tuple[dict[str, Any], type[keras.Model]]] = {
    "graph": ({"jit_compile": False}, keras.Model),
    "xla": ({"jit_compile": True}, keras.Model),
    "eager": ({"run_eagerly": True}, keras.Model),
    "three steps": ({"steps_per_execution": 3}, keras.Model),
    "a step of one's own": ({}, DataStep),
    "a step that is a graph": ({}, GraphStep),
}


@pytest.mark.parametrize("mode", MODES)
def test_ids_of_arrays_follow_shuffling_and_splitting(mode: str, tmp_path: Path):
    compiled, kind = MODES[mode]
    cut = 32  # XLA compiles a batch of another size anew
    options: dict[str, Any] = {"shuffle": True}
    if mode in ("graph", "eager"):
        cut = 30
        options["validation_split"] = 0.25
        options["class_weight"] = {number: 1 + number % 3 for number in range(SAMPLES)}
    rows = slice(None if "validation_split" in options else cut)

    names = NUMBERS if mode == "three steps" else NAMES
    fit = feed(with_ids(X[rows], names[rows]), Y[rows], **options)
    train_both(lambda: make(compiled, kind), feed(X[rows], Y[rows], **options), fit, tmp_path)

    validation = {"validation": [list(Y[30:])] * 2} if "validation_split" in options else {}
    assert_each_has_its_id(tmp_path, names, {"train": [list(Y[:cut])] * 2} | validation)


@pytest.mark.parametrize("parts", ["dict", "tuple"])
def test_several_inputs_keep_their_structure(parts: str, tmp_path: Path):
    x = {"one": X, "other": X[::-1]} if parts == "dict" else (X, X[::-1])

    train_both(lambda: make({}, parts=parts), feed(x, Y), feed(with_ids(x, NAMES.tolist()), Y), tmp_path)

    assert_each_has_its_id(tmp_path, NAMES, {"train": [list(Y)] * 2})
    assert keras.tree.map_structure(id, without_ids(with_ids(x, NAMES))) == keras.tree.map_structure(id, x)


class Rows(keras.utils.PyDataset):
    """Batches of the samples in a new order each epoch."""

    def __init__(self, names: Any, **options: Any) -> None:
        super().__init__(**options)
        self.names, self.order = names, np.random.default_rng(3).permutation(SAMPLES)

    def __len__(self) -> int:
        return 3

    def __getitem__(self, number: int) -> Any:
        rows = self.order[number * BATCH : (number + 1) * BATCH]
        return X[rows] if self.names is None else with_ids(X[rows], self.names[rows]), Y[rows]

    def on_epoch_end(self) -> None:
        self.order = np.random.default_rng(self.order[0]).permutation(SAMPLES)


def pipeline(names: Any, *, late: bool) -> Any:
    """Return a tf.data pipeline whose map attaches the ids, before or after it shuffles."""
    data = tf.data.Dataset.from_tensor_slices((X, Y if names is None else names, Y))

    def attach(x: Any, name: Any, y: Any) -> Any:
        return (x if names is None else with_ids(x, name)), y

    if late:
        return data.shuffle(SAMPLES, seed=1).batch(BATCH).map(attach).prefetch(1)
    return data.map(attach).shuffle(SAMPLES, seed=1).batch(BATCH)


def generator(names: Any) -> Iterator[Any]:
    rows = Rows(names)
    while True:
        yield from (rows[number] for number in range(3))
        rows.on_epoch_end()


FEEDS: dict[str, Any] = {
    "map, then shuffle": lambda names: feed(pipeline(names, late=False)),
    "map after batch": lambda names: feed(pipeline(names, late=True)),
    "generator": lambda names: feed(generator(names), steps_per_epoch=3),
    "workers": lambda names: feed(Rows(names, workers=2)),
    "processes": lambda names: feed(Rows(names, workers=2, use_multiprocessing=True)),
}


@pytest.mark.parametrize("kind", FEEDS)
def test_ids_come_through_every_kind_of_data(kind: str, tmp_path: Path):
    names = NUMBERS if kind in ("map after batch", "workers") else NAMES
    train_both(lambda: make({}), FEEDS[kind](None), FEEDS[kind](names), tmp_path)

    assert_each_has_its_id(tmp_path, names, {"train": [list(Y)] * 2})
    assert [batch.size for batch in load(tmp_path)["."].batches("train")] == SIZES * 2


# --- phases ---


@pytest.mark.parametrize("mode", [{}, {"run_eagerly": True}, {"steps_per_execution": 2}], ids=str)
def test_evaluate_and_predict_record_ids_and_are_the_same(mode: dict[str, Any], tmp_path: Path):
    model = make(mode)
    x = with_ids(X, NAMES)
    callback = BatchViewCallback(tmp_path, record=("train", "validation", "predict"))
    functions = {}

    scores = model.predict(x, BATCH, verbose=0, callbacks=[callback])
    functions["predict"] = model.predict_function
    losses = model.evaluate(x, Y, BATCH, verbose=0, callbacks=[callback])

    np.testing.assert_array_equal(scores, model.predict(X, BATCH, verbose=0))
    assert losses == model.evaluate(X, Y, BATCH, verbose=0)
    assert functions["predict"] is model.predict_function
    run = load(tmp_path)["."]
    assert np.concatenate([batch.sample_ids for batch in run.batches("predict")]).tolist() == NAMES.tolist()
    assert np.concatenate([batch.sample_ids for batch in run.batches("validation")]).tolist() == NAMES.tolist()


@pytest.mark.parametrize("mode", [{}, {"run_eagerly": True}], ids=str)
def test_phases_that_are_not_recorded_run_without_ids_too(mode: dict[str, Any], tmp_path: Path):
    data = (with_ids(X, NAMES), Y)
    train_both(
        lambda: make(mode),
        feed(X, Y, validation_data=(X, Y)),
        feed(*data, validation_data=data),
        tmp_path / "train",
        record=("train",),
    )
    train_both(
        lambda: make(mode),
        feed(X, Y, validation_data=(X, Y)),
        feed(*data, validation_data=data),
        tmp_path / "validation",
        record=("validation",),
    )
    assert load(tmp_path / "train")["."].phases == ("train",)
    assert_each_has_its_id(tmp_path / "validation", NAMES, {"validation": [list(Y)] * 2})


def test_train_on_batch_with_callbacks_told_by_hand_records_ids(tmp_path: Path):
    model = make({})
    callbacks = keras.callbacks.CallbackList([BatchViewCallback(tmp_path)], model=model)
    callbacks.on_train_begin()
    for number in range(3):
        rows = slice(number * BATCH, (number + 1) * BATCH)
        callbacks.on_train_batch_begin(number)
        model.train_on_batch(with_ids(X[rows], NAMES[rows]), Y[rows])
        callbacks.on_train_batch_end(number)
    callbacks.on_train_end()

    assert_each_has_its_id(tmp_path, NAMES, {"train": [list(Y)]})


def test_a_fit_without_ids_after_one_with_them_is_a_plain_one(tmp_path: Path):
    callback = BatchViewCallback(tmp_path)
    found = []
    for first in (False, True):
        keras.utils.set_random_seed(7)
        model = make({})
        callbacks = [callback] if first else []
        feed(with_ids(X, NAMES) if first else X, Y)(model, callbacks)
        found.append((feed(X, Y)(model, []), state_of(model)))
    assert found[0] == found[1]


# --- ids that are there already ---


def test_ids_among_the_inputs_are_recorded_and_stay_there(tmp_path: Path):
    seen = []

    class Looks(DataStep):
        def train_step(self, data: Any) -> Any:
            seen.append(sorted(data[0]))
            x, y = data
            return super().train_step(({"one": x["one"], "other": x["other"]}, y))

    x = {"one": X, "other": X}
    plain = lambda name, value: feed(x | {name: value}, Y)  # noqa: E731
    for name, value in (("number", NUMBERS), ("number", NUMBERS[:, None])):
        log_dir = tmp_path / str(value.ndim)
        train_both(
            lambda eager=value.ndim == 2: make({"run_eagerly": eager}, Looks, "dict"),
            plain(name, value),
            plain(name, value),
            log_dir,
            sample_ids="number",
        )
        assert_each_has_its_id(log_dir, NUMBERS, {"train": [list(Y)] * 2})
    assert {tuple(names) for names in seen} == {("number", "one", "other")}

    texts = tf.data.Dataset.from_tensor_slices((x | {"path": NAMES}, Y)).batch(BATCH)
    train_both(lambda: make({}, Looks, "dict"), feed(texts), feed(texts), tmp_path / "texts", sample_ids="path")
    assert_each_has_its_id(tmp_path / "texts", NAMES, {"train": [list(Y)] * 2})


def test_ids_at_a_place_of_a_tuple_are_recorded_and_used_by_the_model(tmp_path: Path):
    def build() -> Any:
        number = keras.Input((), dtype="int64")
        features = keras.Input((8,))
        place = LAYERS.Embedding(SAMPLES, 8)(number)
        model = keras.Model((features, number), LAYERS.Dense(SAMPLES, activation="softmax")(features + place))
        model.compile("sgd", "sparse_categorical_crossentropy")
        return model

    fit = feed((X, Y), Y, shuffle=True)
    train_both(build, fit, fit, tmp_path, sample_ids=1)

    assert_each_has_its_id(tmp_path, Y, {"train": [list(Y)] * 2})


WRONG_PLACES: dict[str, tuple[Any, str]] = {
    "no such key": ("nmae", "sample_ids='nmae'. There is a dict of 'one', 'other'."),
    "a place in a dict": (1, "sample_ids=1. There is a dict of 'one', 'other'."),
    "no numbers": (
        "other",
        "sample_ids must name whole numbers or texts. Received: sample_ids='other', of dtype float32.",
    ),
}


@pytest.mark.parametrize("case", WRONG_PLACES)
def test_a_wrong_place_is_warned_of_once_and_counted(case: str, tmp_path: Path):
    place, said = WRONG_PLACES[case]
    with pytest.warns(BatchViewWarning) as caught:
        feed({"one": X, "other": X}, Y)(make({}, parts="dict"), [BatchViewCallback(tmp_path, sample_ids=place)])

    assert [message for message in messages(caught) if said in message] == messages(caught)
    assert len(messages(caught)) == 1
    run = load(tmp_path)["."]
    assert [batch.sample_ids for batch in run.batches("train")] == [None] * 6
    assert [said in message for _, message, _ in run.health.warnings] == [True]


@pytest.mark.parametrize("place", [True, 1.0, ("a",)])
def test_a_place_is_a_key_or_a_number(place: Any, tmp_path: Path):
    with pytest.raises(ArgumentError, match="sample_ids must be a key of x"):
        BatchViewCallback(tmp_path, sample_ids=place)


# --- what can be no ids ---

BAD: dict[str, tuple[Any, str]] = {
    "too few": (NAMES[:39], "ids must be one for each sample. Received: 39 ids for 40 samples."),
    "a table": (np.stack([NUMBERS, NUMBERS], 1), r"ids must be one for each sample. Received: shape=\(40, 2\)."),
    "one missing": ([*NAMES[:39], None], "none missing. Received: None."),
    "one empty": ([*NAMES[:39], ""], "none missing. Received: ''."),
    "not a number": (pd.Series([*NAMES[:39], np.nan]), "none missing. Received: nan."),
    "floats": (NUMBERS / 2, "must be texts .* or whole numbers. Received: dtype=float64."),
    "truths": ([True] * 40, "Received: True."),
    "mixed": ([*NAMES[:39].tolist(), 1], "ids must be all texts or all whole numbers. Received: both."),
    "too large": (np.full(40, 2**63, np.uint64), "must fit into 64 bits with a sign. Received: 9223372036854775808."),
    "too small": ([-(2**63) - 1, *range(39)], "must fit into 64 bits"),
    "no order": (set(NAMES.tolist()), "ids must be in the order of the samples. Received: a set."),
    "nothing": (None, "none missing. Received: None."),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_ids_are_an_error_before_training(case: str):
    given, said = BAD[case]
    with pytest.raises(ArgumentError, match=said):
        with_ids(X, given)


def test_bad_ids_of_a_pipeline_are_an_error_before_training():
    data = tf.data.Dataset.from_tensor_slices((X, NAMES))
    # AutoGraph makes another error of it, with the same words.
    with pytest.raises(Exception, match=r"ids must come with the samples inside dataset\.map"):
        data.map(lambda x, name: with_ids(x, NAMES))
    with pytest.raises(Exception, match="Received: a SymbolicTensor of dtype <dtype: 'float32'>"):
        data.map(lambda x, name: with_ids(x, x[0]))
    with pytest.raises(Exception, match=r"ids must be one for each sample. Received: shape=\(8, 8\)"):
        data.map(lambda x, name: with_ids(x, tf.ones((8, 8), tf.int32)))
    with pytest.raises(Exception, match="Received: 3 ids for 8 samples"):
        data.map(lambda x, name: with_ids(x, tf.range(3)))
    with pytest.raises(Exception, match="inputs that have some already"):
        data.map(lambda x, name: with_ids(with_ids(x, name), name))


@pytest.mark.parametrize(
    "feeds", [Rows(None), iter([X]), tf.data.Dataset.range(3)], ids=lambda feed: type(feed).__name__
)
def test_what_gives_batches_is_no_batch(feeds: Any):
    with pytest.raises(ArgumentError, match="with_ids must be given the inputs of samples"):
        with_ids(feeds, NAMES)


def test_without_ids_takes_them_from_inputs_batches_and_pipelines():
    model = make({})
    plain = model.predict(X, BATCH, verbose=0)
    data = pipeline(NAMES, late=False)
    order = np.concatenate([y for _, y in data.as_numpy_iterator()])

    np.testing.assert_array_equal(model.predict(without_ids(with_ids(X, NAMES)), BATCH, verbose=0), plain)
    taken = without_ids(data.map(lambda x, y: x))
    assert model.evaluate(without_ids(data), verbose=0) > 0
    np.testing.assert_array_equal(model.predict(taken, verbose=0).shape, plain.shape)
    assert sorted(order) == sorted(Y)
    inputs, targets = without_ids((with_ids(X, NAMES), Y))
    assert inputs is X
    assert targets is Y
    assert without_ids(X) is X
    batch = ((X, X), Y)
    assert without_ids(batch) is batch
    for feeds in (Rows(None), iter([X])):
        with pytest.raises(ArgumentError, match=r"without_ids must be given inputs, a batch or a tf\.data\.Dataset"):
            without_ids(feeds)


def test_ids_that_are_not_of_the_batch_are_warned_of_and_not_recorded(tmp_path: Path):
    """As after a map that leaves out samples and not their ids."""

    def lose(x: Any, y: Any) -> Any:
        return x | {ids.INPUTS: x[ids.INPUTS][1:]}, y[1:]

    with pytest.warns(BatchViewWarning) as caught:
        feed(pipeline(NAMES, late=False).map(lose))(make({}), [BatchViewCallback(tmp_path)])

    assert messages(caught) == ["The sample ids are not one per sample of the batch and are not recorded."]
    run = load(tmp_path)["."]
    assert [(batch.size, batch.sample_ids) for batch in run.batches("train")] == [(15, None), (15, None), (7, None)] * 2
    assert [count for _, _, count in run.health.warnings] == [6]


def test_ids_that_inputs_were_given_twice_are_not_recorded(tmp_path: Path):
    with pytest.warns(BatchViewWarning) as caught:
        feed((with_ids(X, NAMES), with_ids(X, NAMES)), Y)(make({}, parts="tuple"), [BatchViewCallback(tmp_path)])

    assert [message.startswith("Sample ids are not recorded: several inputs") for message in messages(caught)] == [True]
    assert load(tmp_path)["."].batches("train")[0].sample_ids is None


def test_an_empty_name_in_a_pipeline_is_warned_of_and_its_batch_has_no_ids(tmp_path: Path):
    names = NAMES.copy()
    names[20] = ""
    with pytest.warns(BatchViewWarning, match="none missing. Received: ''"):
        feed(pipeline(names, late=False), epochs=1)(make({}), [BatchViewCallback(tmp_path)])

    batches = load(tmp_path)["."].batches("train")
    assert [batch.sample_ids is None for batch in batches] == [20 in batch.targets for batch in batches]


def test_duplicates_are_one_sample_and_warned_of_once(tmp_path: Path):
    names = [f"{number // 2}.png" for number in Y]
    with pytest.warns(BatchViewWarning, match="was given 40 ids, of which 20 are there again"):
        with_ids(X, names)
    feed(with_ids(X, names), Y, epochs=3)(make({}), [BatchViewCallback(tmp_path)])

    run = load(tmp_path)["."]
    assert_each_has_its_id(tmp_path, names, {"train": [list(Y)] * 3})
    history = run.sample_history("train", "3.png")
    assert history.step.tolist() == [0, 0, 3, 3, 6, 6]
    assert history.target.tolist() == [6, 7] * 3


# --- long texts ---


@pytest.mark.parametrize("kind", ["arrays", "generator", "workers"])
def test_long_texts_are_whole_where_this_process_attached_them(kind: str, tmp_path: Path):
    fit = feed(with_ids(X, LONG), Y) if kind == "arrays" else FEEDS[kind](LONG)
    fit(make({}), [BatchViewCallback(tmp_path)])

    assert_each_has_its_id(tmp_path, LONG, {"train": [list(Y)] * 2})


def test_long_texts_of_a_pipeline_keep_their_end_and_differ(tmp_path: Path):
    """Also where their ends do not."""
    names = [f"{'ü' * (60 + number)}/{'ordner/' * 20}0.png" for number in Y]
    with pytest.warns(BatchViewWarning, match="Of sample ids over 128 bytes only the end is recorded") as caught:
        feed(pipeline(names, late=True))(make({}), [BatchViewCallback(tmp_path)])

    assert len(messages(caught)) == 1
    found: dict[int, set[str]] = {}
    for batch in load(tmp_path)["."].batches("train"):
        for target, name in zip(batch.targets.ravel().tolist(), batch.sample_ids.tolist(), strict=True):
            found.setdefault(target, set()).add(name)
    assert [len(found[number]) for number in Y] == [1] * SAMPLES
    texts = {text for (text,) in found.values()}
    assert len(texts) == SAMPLES
    end = names[0].encode()[-120:].decode(errors="ignore")
    assert {text.partition("~")[0] for text in texts} == {f"…{end}"}


LETTERS = ["a", "é", "漢", "🐚", "a" * 128, "a" * 129, "é" * 64, "a" + "é" * 64, "z\0", "日本/" * 60, " ", "\ud800"]


def test_texts_of_every_kind_are_the_same_in_numpy_and_in_a_graph():
    texts = [text.encode("utf-8", "backslashreplace") for text in LETTERS]
    codes = ids.encode_ids(LETTERS)

    for batch in (1, 5, len(texts)):
        data = tf.data.Dataset.from_tensor_slices(texts).batch(batch).map(encode_tensor)
        np.testing.assert_array_equal(np.concatenate(list(data.as_numpy_iterator())), codes)
    single = tf.data.Dataset.from_tensor_slices(texts).map(encode_tensor)
    np.testing.assert_array_equal(list(single.as_numpy_iterator()), codes)

    whole, cut = ids.decode_ids(codes)
    assert whole.tolist() == texts
    assert not cut
    ids._remembered.clear()
    ends, cut = ids.decode_ids(codes)
    assert cut
    assert len(set(ends.tolist())) == len(texts)
    assert [end for end, text in zip(ends, texts, strict=True) if len(text) <= 128] == [
        text for text in texts if len(text) <= 128
    ]


@pytest.mark.parametrize(
    "given",
    [[3, -1], (3, -1), np.array([3, -1], np.int16), pd.Series([3, -1]), tf.constant([3, -1]), np.array([[3], [-1]])],
    ids=lambda given: type(given).__name__,
)
def test_numbers_of_every_kind_come_back(given: Any):
    numbers, cut = ids.decode_ids(ids.encode_ids(given))
    assert (numbers.tolist(), cut) == ([3, -1], False)


@pytest.mark.parametrize(
    "given",
    [
        ["a", "b/c"],
        [Path("a"), Path("b/c")],
        [b"a", b"b/c"],
        np.array(["a", "b/c"]),
        np.array([b"a", b"b/c"]),
        pd.Series(["a", "b/c"], dtype="string"),
        pd.Series(["a", "b/c"], dtype=object),
        pd.Index(["a", "b/c"]),
        tf.constant(["a", "b/c"]),
    ],
    ids=lambda given: f"{type(given).__name__} {getattr(given, 'dtype', '')}",
)
def test_names_of_every_kind_come_back(given: Any):
    names, cut = ids.decode_ids(ids.encode_ids(given))
    assert (names.tolist(), cut) == ([b"a", b"b/c"], False)


def test_memory_of_long_texts_is_bounded(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(ids, "_MOST_REMEMBERED", 1000)
    monkeypatch.setattr(ids, "_remembered_bytes", 0)
    codes = ids.encode_ids(LONG)

    texts, cut = ids.decode_ids(codes)

    assert cut
    known = [text for text, name in zip(texts.tolist(), LONG, strict=True) if text == name.encode()]
    assert len(known) == 4  # of about 300 bytes, one beyond the bound
    assert len(set(texts.tolist())) == SAMPLES


def test_recording_ids_warns_of_nothing(tmp_path: Path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        feed(with_ids(X, NAMES), Y)(make({}), [BatchViewCallback(tmp_path, record=("train", "validation", "predict"))])


def test_one_pass_over_data_with_ids_records_them(tmp_path: Path):
    model = make({})
    model.compile(loss="sparse_categorical_crossentropy")

    for name, data in (("arrays", (with_ids(X, NAMES), Y)), ("pipeline", pipeline(NAMES, late=True))):
        record_predictions(model, data, tmp_path / name)
        assert_each_has_its_id(tmp_path / name, NAMES, {"predict": [list(Y)]})
    function = lambda x: np.asarray(model(x))  # noqa: E731
    record_predictions(function, (with_ids(X, LONG), Y), tmp_path / "function")
    assert_each_has_its_id(tmp_path / "function", LONG, {"predict": [list(Y)]})


# --- at the edges ---


def test_a_model_of_a_dict_finds_its_inputs_before_the_ids():
    """Keras hands a model without our callback the leaves by the order of their keys, with a warning."""
    one, other = keras.Input((2,), name="one"), keras.Input((2,), name="other")
    model = keras.Model({"one": one, "other": other}, LAYERS.Dense(SAMPLES)(LAYERS.Subtract()([one, other])))
    x = {"one": X[:, :2], "other": X[:, 2:4]}

    with pytest.warns(UserWarning, match="doesn't match the expected structure"):
        found = model.predict(with_ids(x, NUMBERS), verbose=0)
    np.testing.assert_array_equal(found, model.predict(x, verbose=0))


def test_masked_ids_are_missing_ones():
    masked = np.ma.masked_array(NUMBERS, np.arange(SAMPLES) == 3)
    with pytest.raises(ArgumentError, match=r"none missing\. Received: None"):
        with_ids(X, masked)
    assert with_ids(X, np.ma.masked_array(NUMBERS))[ids.KEY].shape == (SAMPLES, 2)


def test_sparse_inputs_outside_of_a_pipeline_take_ids_of_numpy(tmp_path: Path):
    x = tf.sparse.from_dense(X)
    plain, carried = feed(tf.sparse.from_dense(X), Y), feed(with_ids(x, NAMES), Y)

    train_both(lambda: make({}), plain, carried, tmp_path)

    assert_each_has_its_id(tmp_path, NAMES, {"train": [list(Y)] * 2})


@pytest.mark.parametrize("phase", ["train", "predict"])
def test_a_table_of_texts_is_no_ids_and_all_else_is_recorded(phase: str, tmp_path: Path):
    class Ignores(DataStep):
        def call(self, inputs: Any, training: Any = None) -> Any:
            return super().call(inputs["one"] if isinstance(inputs, dict) else inputs, training=training)

    data = tf.data.Dataset.from_tensor_slices(({"one": X, "path": np.stack([NAMES, NAMES], 1)}, Y)).batch(BATCH)
    callback = BatchViewCallback(tmp_path, sample_ids="path", record=[phase])
    predict = lambda model, callbacks: model.predict(data, verbose=0, callbacks=callbacks)  # noqa: E731
    model = make({}, Ignores)
    run = feed(data, epochs=1) if phase == "train" else predict
    with pytest.warns(BatchViewWarning) as caught:
        run(model, [callback])

    shape = "(None, 2)" if phase == "train" else "(16, 2)"
    assert messages(caught)[0].startswith(
        f"The sample ids of a batch are not recorded: ids must be one for each sample. Received: shape={shape}."
    )
    batches = load(tmp_path)["."].batches(phase)
    assert [(batch.size, batch.sample_ids, batch.predictions.shape) for batch in batches] == [
        (size, None, (size, SAMPLES)) for size in SIZES
    ]


def test_ids_of_two_kinds_in_one_call_do_not_stop_predict(tmp_path: Path):
    class Kinds(Rows):
        def __getitem__(self, number: int) -> Any:
            rows = slice(number * BATCH, (number + 1) * BATCH)
            return (with_ids(X[rows], (NAMES, NUMBERS, NAMES)[number][rows]),)

    model = make({"run_eagerly": True, "steps_per_execution": 2})
    callback = BatchViewCallback(tmp_path, record=["predict"])
    with pytest.warns(BatchViewWarning, match="The sample ids of a batch are not recorded"):
        scores = model.predict(Kinds(None), verbose=0, callbacks=[callback])

    assert scores.shape == (SAMPLES, SAMPLES)
    batches = load(tmp_path)["."].batches("predict")
    assert [None if batch.sample_ids is None else batch.sample_ids.tolist() for batch in batches] == [
        None,
        [*NAMES[32:]],
    ]


def test_keras_builds_models_as_before_once_no_callback_lives(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    # `capture.install` is the function.
    monkeypatch.setattr(sys.modules["tb_batchview.capture.install"], "_living", weakref.WeakSet())
    keras_names.build_as_before()
    own = keras.Model._symbolic_build
    callbacks = [BatchViewCallback(tmp_path / name) for name in "ab"]
    assert keras.Model._symbolic_build is not own

    del callbacks[0]
    gc.collect()
    assert keras.Model._symbolic_build is not own

    del callbacks[0]
    gc.collect()
    assert keras.Model._symbolic_build is own
