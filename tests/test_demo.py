"""The demo's runs: complete, and the same for TensorFlow's reader as for ours."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import sklearn.datasets

from tb_batchview import load

RUNS = ["clean", "swapped-labels"]
EPOCHS = 2  # as tests/conftest.py trains
TRAIN_PER_EPOCH, VALIDATION_PER_EPOCH = 45, 12
LAYERS = {"conv_1", "conv_2", "flatten", "dense", "probabilities"}

Array = npt.NDArray[Any]


def read_with_tensorflow(run: Path) -> dict[tuple[str, int], dict[str, Array]]:
    """Read a run without any of our code: {(phase, step): {tag: array}}."""
    import tensorflow as tf

    batches: dict[tuple[str, int], dict[str, Array]] = {}
    files = sorted(str(path) for path in (run / "batchview").iterdir())
    for record in tf.data.TFRecordDataset(files).as_numpy_iterator():
        event = tf.compat.v1.Event.FromString(record)
        for value in event.summary.value:
            phase, _, rest = value.tag.partition("/")
            if rest:
                batches.setdefault((phase, event.step), {})[rest] = tf.make_ndarray(value.tensor)
    return batches


def read_header_fields(run: Path) -> dict[str, list[str]]:
    """Return the names of the header's numbers, by phase."""
    import tensorflow as tf

    fields: dict[str, list[str]] = {}
    files = sorted(str(path) for path in (run / "batchview").iterdir())
    for record in tf.data.TFRecordDataset(files).as_numpy_iterator():
        for value in tf.compat.v1.Event.FromString(record).summary.value:
            if value.tag.endswith("/header") and value.metadata.plugin_data.content:
                assert value.metadata.plugin_data.plugin_name == "batchview"
                content = json.loads(value.metadata.plugin_data.content)
                fields[content["phase"]] = content["fields"]
    return fields


def test_every_batch_of_every_phase_is_there(demo_logdir: Path) -> None:
    log = load(demo_logdir)

    counts = {(name, phase): len(log[name].batches(phase)) for name in log for phase in log[name].phases}

    expected = {"train": EPOCHS * TRAIN_PER_EPOCH, "validation": EPOCHS * VALIDATION_PER_EPOCH}
    assert counts == {(name, phase): count for name in RUNS for phase, count in expected.items()}
    steps = [batch.step for batch in log["clean"].batches("train")]
    assert steps == list(range(EPOCHS * TRAIN_PER_EPOCH))


def test_sizes_epochs_and_names(demo_logdir: Path) -> None:
    run = load(demo_logdir)["clean"]

    train = [(batch.epoch, batch.index, batch.size) for batch in run.batches("train")]

    last = 1437 - 44 * 32
    assert train == [
        (epoch, index, 32 if index < 44 else last) for epoch in range(EPOCHS) for index in range(TRAIN_PER_EPOCH)
    ]
    assert list(run.outputs) == ["probabilities"]
    assert run.class_names[:3] == ("zero", "one", "two")
    assert run.outputs["probabilities"].task == "multiclass"
    assert run.outputs["probabilities"].classes == 10


def test_pictures_are_the_digits_that_the_network_saw(demo_logdir: Path) -> None:
    import tensorflow as tf

    digits = sklearn.datasets.load_digits()
    known = {
        (image * 255 / 16).round().astype(np.uint8).tobytes(): label
        for image, label in zip(digits.images, digits.target, strict=True)
    }
    batches = read_with_tensorflow(demo_logdir / "clean")
    # Of each name once: in the second epoch they are found by it.
    later = load(demo_logdir)["clean"].batches("train")[60]
    for step, inputs in ((0, batches["train", 0]["inputs"]), (44, batches["train", 44]["inputs"]), (60, later.inputs)):
        batch = batches["train", step]
        pixels = [tf.io.decode_image(content).numpy() for content in inputs]
        assert {image.shape for image in pixels} == {(8, 8, 1)}
        assert [known[image.tobytes()] for image in pixels] == batch["outputs/probabilities/targets"].ravel().tolist()


def test_layers_are_summarised_every_tenth_batch(demo_logdir: Path) -> None:
    run = load(demo_logdir)["clean"]

    steps = {name: run.layer(name).steps.tolist() for name in run.layers}

    assert set(steps) <= LAYERS
    assert {"conv_1", "conv_2", "dense"} <= set(steps)
    assert set(map(tuple, steps.values())) == {tuple(range(0, EPOCHS * TRAIN_PER_EPOCH, 10))}


@pytest.mark.parametrize("name", RUNS)
def test_tensorflow_reads_the_same_arrays(demo_logdir: Path, name: str) -> None:
    run = load(demo_logdir)[name]
    theirs = read_with_tensorflow(demo_logdir / name)
    fields = read_header_fields(demo_logdir / name)
    prefix = "outputs/probabilities/"

    compared = 0
    for phase in run.phases:
        for batch in run.batches(phase):
            values = theirs.pop((phase, batch.step))
            header = dict(zip(fields[phase], values["header"], strict=True))
            assert header["loss"] == batch.loss
            assert header["metrics/accuracy"] == batch.metrics["accuracy"]
            assert (header["epoch"], header["index"], header["size"]) == (batch.epoch, batch.index, batch.size)
            for kind in ("predictions", "targets", "target", "predicted", "sample_loss"):
                mine: Array = getattr(batch, kind)
                assert mine.dtype == values[prefix + kind].dtype
                np.testing.assert_array_equal(mine, values[prefix + kind], strict=True)
                compared += 1

    assert theirs == {}
    assert compared == 5 * EPOCHS * (TRAIN_PER_EPOCH + VALIDATION_PER_EPOCH)


def test_figures_agree_with_a_count_of_their_own(demo_logdir: Path) -> None:
    run = load(demo_logdir)["swapped-labels"]
    batches = list(run.batches("train"))

    expected = np.zeros((10, 10), np.int64)
    for batch in batches:
        np.add.at(expected, (batch.targets.reshape(-1), batch.predictions.argmax(-1)), 1)
    accuracy = [float((b.targets.reshape(-1) == b.predictions.argmax(-1)).mean()) for b in batches]
    chosen = np.concatenate([b.predictions[np.arange(b.size), b.targets.reshape(-1)] for b in batches])
    losses = np.concatenate([b.sample_loss for b in batches])

    np.testing.assert_array_equal(run.confusion("train"), expected)
    np.testing.assert_allclose([b.metrics["accuracy"] for b in batches], accuracy, rtol=1e-6)
    np.testing.assert_allclose(losses, -np.log(chosen), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose([b.loss for b in batches], [b.sample_loss.mean() for b in batches], rtol=1e-5)


def test_swapped_labels_are_those_promised(demo_logdir: Path) -> None:
    clean, swapped = (load(demo_logdir)[name].batches("train") for name in RUNS)
    counts = [
        np.bincount(np.concatenate([b.targets.reshape(-1) for b in batches[:TRAIN_PER_EPOCH]]), minlength=10)
        for batches in (clean, swapped)
    ]

    assert (counts[1] - counts[0]).tolist() == [0, 0, 0, -72, 0, 72, 0, 0, 0, 0]


def test_damaged_batch_is_the_worst_of_its_epoch(demo_logdir: Path) -> None:
    for name in RUNS:
        second_epoch = load(demo_logdir)[name].batches("train")[TRAIN_PER_EPOCH:]

        worst = max(second_epoch, key=lambda batch: batch.loss)

        assert worst.step == 50


def test_each_sample_has_its_name_in_every_epoch(demo_logdir: Path) -> None:
    """The truth: the labels of the digits, in the order of their numbers."""
    digits = sklearn.datasets.load_digits().target
    for phase, count in (("train", 1437), ("validation", 360)):
        batches = load(demo_logdir)["clean"].batches(phase)
        for epoch in range(EPOCHS):
            names = [name for batch in batches if batch.epoch == epoch for name in batch.sample_ids]
            targets = np.concatenate([batch.targets.ravel() for batch in batches if batch.epoch == epoch])
            numbers = [int(name.removeprefix("digit-")) for name in names]

            assert len(set(numbers)) == len(numbers) == count
            np.testing.assert_array_equal(digits[numbers], targets)


def test_wrong_labels_are_harder_to_learn_than_others(demo_logdir: Path) -> None:
    """What the data map of the run is there to show."""
    digits = sklearn.datasets.load_digits().target
    run = load(demo_logdir)["swapped-labels"]
    points = run.data_map("train")
    swapped = [
        int(run.sample_history("train", name).target[0]) != digits[int(name.removeprefix("digit-"))]
        for name in points.ids
    ]

    assert sum(swapped) == 72
    assert points.mean_target_score[swapped].mean() < points.mean_target_score[~np.array(swapped)].mean()
