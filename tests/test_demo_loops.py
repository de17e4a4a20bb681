"""The demos of loops of one's own, and of Keras' other backends: the record against the training computed anew.

`make test` runs that of TensorFlow; `make test-backends` those of JAX and PyTorch, in which TensorFlow must have no
part. The truth of the loops is the same network trained with NumPy.
"""

from __future__ import annotations

import importlib
import os
import runpy
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from tb_batchview import load

BACKEND = os.environ.get("KERAS_BACKEND", "tensorflow")
DEMO = Path(__file__).parent.parent / "demo"
SEED = 7
EPOCHS = 2

Weights = dict[str, list[np.ndarray]]


def imported(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Import a script of the demo, as scripts beside it do."""
    monkeypatch.syspath_prepend(str(DEMO))
    return importlib.import_module(name)


def train_by_hand(digits: ModuleType, weights: Weights) -> dict[str, list[dict[str, Any]]]:
    """Train the network of one hidden layer in float64, with gradients derived by hand."""
    training, validation = digits.load_samples(SEED)
    weights = {name: [weight.astype(np.float64) for weight in pair] for name, pair in weights.items()}
    found: dict[str, list[dict[str, Any]]] = {"train": [], "validation": []}
    for epoch in range(EPOCHS):
        for phase, samples in (("train", digits.shuffle(training, epoch, SEED)), ("validation", validation)):
            for batch in digits.make_batches(samples):
                hidden = np.maximum(batch.images @ weights["hidden"][0] + weights["hidden"][1], 0)
                scores = hidden @ weights["scores"][0] + weights["scores"][1]
                powers = np.exp(scores - scores.max(1, keepdims=True))
                shares = powers / powers.sum(1, keepdims=True)
                losses = -np.log(shares[np.arange(len(shares)), batch.labels])
                wrong = (shares - np.eye(10)[batch.labels]) / len(shares)
                back = (wrong @ weights["scores"][0].T) * (hidden > 0)
                slopes = {
                    "hidden": [batch.images.T @ back, back.sum(0)],
                    "scores": [hidden.T @ wrong, wrong.sum(0)],
                }
                seen = {"hidden": hidden, "scores": scores, "losses": losses, "slopes": slopes}
                found[phase].append(seen | {"ids": batch.ids, "labels": batch.labels, "epoch": epoch})
                if phase == "train":
                    for name, pair in weights.items():
                        for weight, slope in zip(pair, slopes[name], strict=True):
                            weight -= digits.LEARNING_RATE * slope
    return found


def assert_recorded(run: Any, truth: dict[str, list[dict[str, Any]]]) -> None:
    assert set(run.phases) == {"train", "validation"}
    assert run.outputs["output"].activation == "softmax"
    for phase, batches in truth.items():
        assert len(run.batches(phase)) == len(batches)
        for batch, true in zip(run.batches(phase), batches, strict=True):
            assert batch.epoch == true["epoch"]
            assert list(batch.sample_ids) == true["ids"].tolist()
            np.testing.assert_array_equal(batch.targets, true["labels"])
            np.testing.assert_allclose(batch.predictions, true["scores"], atol=1e-3)
            np.testing.assert_allclose(batch.sample_loss, true["losses"], atol=1e-3)
            assert batch.loss == pytest.approx(true["losses"].mean(), abs=1e-4)
    steps = list(range(0, len(truth["train"]), 10))
    assert set(run.layers) == set(run.gradient_layers) == {"hidden", "scores"}
    for name in run.layers:
        layer, gradient = run.layer(name), run.gradients(name)
        assert layer.steps.tolist() == gradient.steps.tolist() == steps
        for place, step in enumerate(steps):
            true = truth["train"][step]
            norm = np.sqrt(sum(np.square(slope).sum() for slope in true["slopes"][name]))
            assert gradient.norm[place] == pytest.approx(norm, rel=1e-2)
            np.testing.assert_allclose(layer.unit_means[place], true[name].mean(0), atol=1e-3)


def run_here(script: str, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    """Run a script as `python demo/<script>` does, in this process."""
    monkeypatch.syspath_prepend(str(DEMO))
    monkeypatch.setattr(sys, "argv", [script, *arguments])
    runpy.run_path(str(DEMO / script), run_name="__main__")


@pytest.mark.skipif(BACKEND != "tensorflow", reason="of TensorFlow")
def test_the_loop_of_a_gradient_tape_records_its_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    run_here("gradient_tape.py", monkeypatch, "--logdir", str(tmp_path), "--epochs", str(EPOCHS))
    model = imported("gradient_tape", monkeypatch).make_model(SEED)
    weights = {layer.name: layer.get_weights() for layer in model.layers[1:]}

    run = load(tmp_path)["gradient-tape"]
    assert_recorded(run, train_by_hand(imported("digits", monkeypatch), weights))
    assert run.class_names[:2] == ("zero", "one")
    assert run.data_map("validation")


def make_torch_weights(monkeypatch: pytest.MonkeyPatch) -> Weights:
    model = imported("pytorch_loop", monkeypatch).make_model(SEED)
    of_layer = {"hidden": model[0], "scores": model[2]}
    return {name: [part.weight.detach().numpy().T, part.bias.detach().numpy()] for name, part in of_layer.items()}


def make_jax_weights(monkeypatch: pytest.MonkeyPatch) -> Weights:
    weights = imported("jax_loop", monkeypatch).make_weights(SEED)
    return {name: [np.asarray(weight) for weight in pair] for name, pair in weights.items()}


# In a process of its own, which must not load TensorFlow.
ALONE = """
import runpy, sys
sys.path.insert(0, "demo")
script, *sys.argv = sys.argv[1:]
sys.argv.insert(0, script)
runpy.run_path(script, run_name="__main__")
assert not {"tensorflow", "keras"} & set(sys.modules), "a loop of one's own must need neither"
"""


@pytest.mark.skipif(BACKEND == "tensorflow", reason="of JAX and PyTorch")
def test_a_loop_without_tensorflow_records_its_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    name, make_weights = {"jax": ("jax", make_jax_weights), "torch": ("pytorch", make_torch_weights)}[BACKEND]
    command = [sys.executable, "-c", ALONE, f"demo/{name}_loop.py", "--logdir", str(tmp_path), "--epochs", str(EPOCHS)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(DEMO.parent), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run(command, cwd=DEMO.parent, env=environment, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    weights = make_weights(monkeypatch)
    assert_recorded(load(tmp_path)[f"{name}-loop"], train_by_hand(imported("digits", monkeypatch), weights))


@pytest.mark.skipif(BACKEND == "tensorflow", reason="of JAX and PyTorch")
def test_keras_on_another_backend_records_its_training_and_what_is_tagged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    import keras

    from tests import loops

    options = ["--backend", BACKEND, "--logdir", str(tmp_path), "--epochs", "1"]
    run_here("keras_backend.py", monkeypatch, *options)
    model = imported("keras_backend", monkeypatch).make_model(SEED)
    (images, labels, _), _ = imported("digits", monkeypatch).load_samples(SEED)
    total = lambda y, p: keras.ops.mean(keras.losses.sparse_categorical_crossentropy(y, p))  # noqa: E731
    truth = loops.train_by_hand(model, total, images, labels, batch=32, epochs=1)

    run = load(tmp_path)[f"keras-{BACKEND}"]
    assert set(run.layers) == {"hidden", "scores", "gate"}
    assert set(run.gradient_layers) == {"hidden", "gated", "scores"}
    gate = run.layer("gate")
    for step, (batch, true) in enumerate(zip(run.batches("train"), truth, strict=True)):
        np.testing.assert_array_equal(batch.targets.ravel(), labels[32 * step : 32 * step + 32])
        np.testing.assert_allclose(batch.predictions, true["predictions"], atol=1e-4)
        assert batch.loss == pytest.approx(true["loss"], abs=1e-4)
        if step % 10 == 0:
            kernel, bias, gating = true["weights"][:3]
            hidden = np.maximum(images[32 * step : 32 * step + 32] @ kernel + bias, 0)
            values = 1 / (1 + np.exp(-hidden @ gating))
            np.testing.assert_allclose(gate.unit_means[step // 10], values.mean(0), atol=1e-4)
            assert gate.std[step // 10] == pytest.approx(values.std(), rel=1e-3)


NEEDED = {"gradient_tape": "TensorFlow", "jax_loop": "JAX", "pytorch_loop": "PyTorch"}


@pytest.mark.parametrize("script", NEEDED)
def test_a_demo_says_in_one_line_what_is_not_installed(script: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(DEMO))
    for package in ("tensorflow", "jax", "jax.numpy", "torch"):
        monkeypatch.setitem(sys.modules, package, None)  # As if it were not there.

    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(DEMO / f"{script}.py"))

    name = NEEDED[script]
    assert str(ended.value) == f"This demo needs {name}. Install it: pip install {name.lower().replace('py', '')}"


@pytest.mark.parametrize("epochs", ["0", "-1", "two"])
def test_a_demo_says_what_epochs_must_be(
    epochs: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    parser = imported("digits", monkeypatch).make_parser("About.", epochs=3)

    assert parser.parse_args(["--epochs", "5"]).epochs == 5
    with pytest.raises(SystemExit):
        parser.parse_args([f"--epochs={epochs}"])
    assert f"must be at least 1. Received: {epochs}." in capsys.readouterr().err
