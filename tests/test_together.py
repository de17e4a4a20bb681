"""Beside Keras' own callbacks in the same log_dir, and a training that ends and goes on.

The truth is always the same training without our callback.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from tensorboard.backend.event_processing.event_multiplexer import EventMultiplexer
from tensorboard.plugins import base_plugin
from tensorboard.util import tensor_util
from werkzeug.test import Client

from tb_batchview import BatchViewCallback, load
from tb_batchview.http import unpack_arrays
from tb_batchview.plugin import BatchViewPlugin
from tests import models
from tests.fits import Act, state_of
from tests.models import BATCH
from tests.prose import ROOT

X, Y = (array[:40] for array in models.make_data((8,)))
X_VALID, Y_VALID = (array[40:] for array in models.make_data((8,)))
SIZES = [16, 16, 8]


def make_model(*, eager: bool = False) -> Any:
    """Return a compiled model; an eager one, where it is all the same, is there sooner."""
    keras.utils.set_random_seed(7)
    model = models.make_mlp()
    options: dict[str, Any] = {"metrics": ["accuracy"], "run_eagerly": eager}
    model.compile(keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy", **options)
    return model


def fit(model: Any, callbacks: list[Any], epochs: int = 3, **options: Any) -> dict[str, list[float]]:
    options = {"validation_data": (X_VALID, Y_VALID), "batch_size": BATCH, "verbose": 0, "shuffle": False} | options
    history: dict[str, list[float]] = model.fit(X, Y, epochs=epochs, callbacks=callbacks, **options).history
    return history


def told(run: Any, phase: str = "train") -> list[tuple[int, int, int]]:
    return [(batch.step, batch.epoch, batch.index) for batch in run.batches(phase)]


# --- beside another of ours ---


def test_two_callbacks_with_one_log_dir_are_warned_of(tmp_path: Path) -> None:
    callbacks = [BatchViewCallback(tmp_path / "a"), BatchViewCallback(os.path.relpath(tmp_path / "a"))]
    with pytest.warns(UserWarning, match="Several callbacks with one log_dir") as warned:
        fit(make_model(eager=True), callbacks, epochs=1)
    assert len([warning for warning in warned if "Several" in str(warning.message)]) <= 2
    run = load(tmp_path)["a"]
    # Each begins behind what the other has written by then: that is a matter of moments.
    assert len(SIZES) <= len(run.batches("train")) <= 2 * len(SIZES)
    assert "Several callbacks" in " ".join(message for _, message, _ in run.health.warnings)


@pytest.mark.filterwarnings("error")
def test_a_callback_given_twice_and_one_with_a_log_dir_of_its_own_are_no_mistake(tmp_path: Path) -> None:
    same = BatchViewCallback(tmp_path / "a")
    fit(make_model(eager=True), [same, same, BatchViewCallback(tmp_path / "b")], epochs=1)
    assert [len(run.batches("train")) for run in load(tmp_path).values()] == [3, 3]


# --- beside other callbacks ---


def scalars(log_dir: Path, reader: EventMultiplexer | None = None) -> dict[str, dict[str, list[tuple[int, float]]]]:
    """Read what TensorBoard shows of Keras' own runs: by run and tag, without what depends on the time."""
    reader = reader or EventMultiplexer(size_guidance={"tensors": 0})
    reader.AddRunsFromDirectory(str(log_dir))
    reader.Reload()
    return {
        run: {
            tag: [
                (event.step, tensor_util.make_ndarray(event.tensor_proto).item()) for event in reader.Tensors(run, tag)
            ]
            for tag in sorted(tags["tensors"])
            if tag.startswith(("epoch_", "batch_", "evaluation_")) and "per_second" not in tag and tag != "batch_3"
        }
        for run, tags in reader.Runs().items()
        if run in ("train", "validation")
    }


LISTS: dict[str, Callable[[list[Any], Any], list[Any]]] = {
    "first": lambda others, ours: [ours, *others],
    "in the middle": lambda others, ours: [*others[:4], ours, *others[4:]],
}


def all_callbacks(folder: Path) -> list[Any]:
    callbacks = keras.callbacks
    return [
        callbacks.TensorBoard(folder / "logs", update_freq="batch", histogram_freq=1, write_steps_per_second=True),
        callbacks.ModelCheckpoint(folder / "best.weights.h5", save_best_only=True, save_weights_only=True),
        callbacks.ModelCheckpoint(folder / "step.keras", save_freq=2),
        callbacks.BackupAndRestore(folder / "backup", save_freq=2),
        callbacks.LearningRateScheduler(lambda epoch, rate: rate * 0.9),
        callbacks.ReduceLROnPlateau(patience=1, min_delta=10.0),
        callbacks.EarlyStopping(patience=2, min_delta=10.0, restore_best_weights=True),
        callbacks.CSVLogger(folder / "log.csv"),
        callbacks.TerminateOnNaN(),
    ]


def train_with_all(folder: Path, arrange: Callable[[list[Any]], list[Any]]) -> dict[str, Any]:
    """Return everything that the callbacks of Keras left behind."""
    model = make_model()
    # A plugin's reader that follows the run from the start, as an open TensorBoard does.
    reader, followed = EventMultiplexer(size_guidance={"tensors": 0}), []
    look = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: followed.append(len(scalars(folder / "logs", reader)["train"]["batch_loss"]))
    )
    history = fit(model, [*arrange(all_callbacks(folder)), look], epochs=6)
    keras.utils.clear_session()
    step = keras.models.load_model(folder / "step.keras")
    model.load_weights(folder / "best.weights.h5")
    return {
        "history": history,
        "state": state_of(model),
        "step": state_of(step),
        "csv": (folder / "log.csv").read_text(),
        "scalars": scalars(folder / "logs"),
        "followed": followed,
        "files": sorted(path.name for path in folder.iterdir()),
    }


@pytest.fixture(scope="module")
def without(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return train_with_all(tmp_path_factory.mktemp("without"), lambda others: others)


@pytest.mark.parametrize("place", LISTS)
def test_all_callbacks_of_keras_leave_behind_what_they_do_alone(place: str, without: dict[str, Any], tmp_path: Path):
    callback = BatchViewCallback(tmp_path / "logs", histogram_freq=2)
    found = train_with_all(tmp_path, lambda others: LISTS[place](others, callback))

    assert found == without
    # Stopped early, with the steps seen by TensorBoard as they came.
    assert len(found["history"]["loss"]) == 3
    assert set(found["scalars"]["train"]) >= {"batch_loss", "epoch_accuracy", "epoch_learning_rate"}
    run = load(tmp_path / "logs")["."]
    assert told(run) == [(step, step // 3, step % 3) for step in range(9)]
    assert [batch.size for batch in run.batches("train")] == SIZES * 3
    assert not run.health.warnings


def test_a_profile_of_some_batches_is_taken_and_these_are_recorded_too(tmp_path: Path):
    found = []
    for folder in ("without", "with"):
        log_dir = tmp_path / folder
        callbacks = [keras.callbacks.TensorBoard(log_dir, profile_batch=(2, 3))]
        if folder == "with":
            callbacks.insert(0, BatchViewCallback(log_dir))
        model = make_model()
        history = fit(model, callbacks, epochs=1)
        reader = EventMultiplexer().AddRunsFromDirectory(str(log_dir)).Reload()
        plugins = {tag: reader.SummaryMetadata("train", tag).plugin_data.plugin_name for tag in ("keras", "batch_3")}
        profiles = [path.suffixes for path in (log_dir / "train" / "plugins" / "profile").rglob("*.pb")]
        found.append((history, state_of(model), plugins, profiles))

    assert found[1] == found[0]
    # The graph of the model, the one that was profiled, and the profile itself.
    assert found[0][2:] == ({"keras": "graph_keras_model", "batch_3": "graph_run_metadata_graph"}, [[".xplane", ".pb"]])
    assert told(load(tmp_path)["with"]) == [(step, 0, step) for step in range(3)]


# --- a training that ends and goes on ---


class Crash(Exception):
    """Stands for whatever ends a training."""


def crash(model: Any) -> None:
    raise Crash


def marks(logdir: Path, run: str = ".", phase: str = "train") -> list[tuple[int, int]]:
    """Return the epochs that the page marks on the timeline: number and first step."""
    plugin = BatchViewPlugin(base_plugin.TBContext(logdir=str(logdir)), refresh_seconds=0, patience=60)
    asked = {"run": run, "phase": phase, "points": "100"}
    response = Client(plugin.get_plugin_apps()["/batches"]).get("/", query_string=asked)
    header, _ = unpack_arrays(response.get_data())
    return [(mark["epoch"], mark["step"]) for mark in header["epochs"]]


# Resumed is with the weights of the beginning of the epoch, or with those that its first two batches made: Keras trains
# all of the epoch again, also in the second case.
@pytest.mark.parametrize("save_freq", ["epoch", 2])
def test_a_crash_within_an_epoch_and_its_resumption_are_recorded_as_they_were(save_freq: Any, tmp_path: Path):
    found = []
    for folder in ("without", "with"):
        backup = tmp_path / folder / "backup"
        histories, states = [], []
        for callbacks in ([Act("on_train_batch_end", crash, at=4)], []):
            model = make_model(eager=save_freq == 2)
            callbacks.append(keras.callbacks.BackupAndRestore(backup, save_freq=save_freq))
            if folder == "with":
                callbacks.insert(len(histories), BatchViewCallback(tmp_path / "logs", histogram_freq=1))
            try:
                histories.append(fit(model, callbacks))
            except Crash:
                histories.append({})
            states.append(state_of(model))
        found.append((histories, states))

    assert found[1] == found[0]
    assert len(found[0][0][1]["loss"]) == 2
    run = load(tmp_path)["logs"]
    # Batches 0 and 1 of epoch 1 were trained, thrown away, and trained again.
    epochs = [0, 0, 0, 1, 1, 1, 1, 1, 2, 2, 2]
    index = [0, 1, 2, 0, 1, 0, 1, 2, 0, 1, 2]
    assert told(run) == list(zip(range(11), epochs, index, strict=True))
    assert marks(tmp_path, "logs") == [(0, 0), (1, 3), (1, 5), (2, 8)]
    # What was evaluated: epoch 0 before the crash, the others after it; each once.
    assert [epoch for _, epoch, _ in told(run, "validation")] == [0, 0, 1, 1, 2, 2]
    batches = run.batches("train")
    same = [np.array_equal(batches[3 + place].predictions, batches[5 + place].predictions) for place in range(2)]
    assert same == ([True, True] if save_freq == "epoch" else [False, False])
    # Each sample counts as often as it was trained on.
    assert run.confusion("train").sum() == sum(batch.size for batch in batches) == 40 + 32 + 40 + 40
    assert run.layer("hidden").steps.tolist() == list(range(11))


def test_further_fits_go_on_however_they_are_made(tmp_path: Path):
    callback, model = BatchViewCallback(tmp_path), make_model(eager=True)
    fit(model, [callback], epochs=2)
    # The same callback with the number of the epoch, a new one without it, and a model that was saved and loaded.
    fit(model, [callback], epochs=3, initial_epoch=2)
    fit(model, [BatchViewCallback(tmp_path)], epochs=1)
    fit(model, [BatchViewCallback(tmp_path)], epochs=1)
    model.save(tmp_path / "model.keras")
    fit(keras.models.load_model(tmp_path / "model.keras"), [BatchViewCallback(tmp_path)], epochs=7, initial_epoch=6)
    run = load(tmp_path)["."]

    assert [epoch for _, epoch, _ in told(run)] == [0] * 3 + [1] * 3 + [2] * 3 + [0] * 6 + [6] * 3
    assert [(step, index) for step, _, index in told(run)] == [(step, step % 3) for step in range(18)]
    assert marks(tmp_path) == [(0, 0), (1, 3), (2, 6), (0, 9), (0, 12), (6, 15)]
    assert marks(tmp_path, phase="validation") == [(0, 0), (1, 2), (2, 4), (0, 6), (0, 8), (6, 10)]
    assert sorted(load(tmp_path)) == ["."]


KILLED = """
import os, signal, sys
from pathlib import Path
import keras
from tb_batchview import BatchViewCallback, load, writer
from tests.fits import Act
from tests.test_together import fit, make_model

writer.FLUSH_SECONDS = 0.05
folder = Path(sys.argv[1])


def kill(model):
    while len(load(folder)["logs"].batches("train")) < 20:
        pass
    os.kill(os.getpid(), signal.SIGKILL)


backup, end = keras.callbacks.BackupAndRestore(folder / "backup"), Act("on_train_batch_end", kill, at=31)
fit(make_model(eager=True), [BatchViewCallback(folder / "logs"), backup, end], epochs=20)
"""


def test_a_killed_training_goes_on_in_another_process(tmp_path: Path):
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    command = [sys.executable, "-c", KILLED, str(tmp_path)]
    done = subprocess.run(command, env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    log = load(tmp_path)
    kept = told(log["logs"])
    assert 20 <= len(kept) <= 32
    assert kept == [(step, step // 3, step % 3) for step in range(len(kept))]
    # A kill may also cut a record off.
    (file,) = (tmp_path / "logs" / "batchview").iterdir()
    with file.open("ab") as torn:
        torn.write(file.read_bytes()[:20])

    # Keras resumes at the epoch in which it was killed, with what it had at its beginning.
    model = make_model(eager=True)
    callbacks = [BatchViewCallback(tmp_path / "logs"), keras.callbacks.BackupAndRestore(tmp_path / "backup")]
    resumed = fit(model, callbacks, epochs=12)
    straight = make_model(eager=True)
    history = fit(straight, [], epochs=12)

    assert state_of(model) == state_of(straight)
    assert resumed["loss"] == history["loss"][10:]
    more = [(len(kept) + batch, 10 + batch // 3, batch % 3) for batch in range(6)]
    assert told(load(tmp_path)["logs"]) == kept + more
    assert marks(tmp_path, "logs")[-2:] == [(10, len(kept)), (11, len(kept) + 3)]
    log.refresh()
    assert told(log["logs"]) == kept + more
    health = log["logs"].health
    assert (health.files, health.torn_files, health.corrupt_records, health.warnings) == (2, 1, 0, ())
