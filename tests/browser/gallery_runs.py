"""Runs of each task for the pictures of the gallery: small models in NumPy, trained for real.

The demo records Keras; these are recorded by `BatchWriter`, with ids, in seconds.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn import datasets

from tb_batchview import BatchWriter

Array = npt.NDArray[Any]
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
BATCH = 32
CLASSES = 1000
GROUPS = 40


def softmax(logits: Array) -> Array:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def sigmoid(logits: Array) -> Array:
    return np.asarray(1 / (1 + np.exp(-logits)))


class Perceptron:
    """One hidden layer with ReLU, trained by gradient descent with momentum."""

    def __init__(self, inputs: int, hidden: int, outputs: int, rate: float, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.weights = [
            rng.normal(0, np.sqrt(2 / inputs), (inputs, hidden)),
            np.zeros(hidden),
            rng.normal(0, np.sqrt(1 / hidden), (hidden, outputs)),
            np.zeros(outputs),
        ]
        self.speeds = [np.zeros_like(weight) for weight in self.weights]
        self.rate = rate

    def call(self, x: Array) -> tuple[Array, Array]:
        """Return the hidden layer and the logits."""
        hidden = np.maximum(0, x @ self.weights[0] + self.weights[1])
        return hidden, hidden @ self.weights[2] + self.weights[3]

    def learn(self, x: Array, hidden: Array, error: Array) -> list[Array]:
        """Take a step; `error` is the gradient of each sample's loss by its logits."""
        below = (error @ self.weights[2].T) * (hidden > 0)
        slopes = [x.T @ below, below.sum(axis=0), hidden.T @ error, error.sum(axis=0)]
        slopes = [slope / len(x) for slope in slopes]
        for weight, speed, slope in zip(self.weights, self.speeds, slopes, strict=True):
            speed *= 0.9
            speed -= self.rate * slope
            weight += speed
        return slopes


def draw_epochs(samples: int, epochs: int, seed: int) -> Iterator[tuple[int, list[Array]]]:
    """Yield each epoch with the places of its batches."""
    rng = np.random.default_rng(seed)
    for epoch in range(epochs):
        order = rng.permutation(samples)
        yield epoch, [order[start : start + BATCH] for start in range(0, samples, BATCH)]


def write_digits(log_dir: Path, rate: float) -> None:
    """Write digits of which 4 % have a wrong label, each with its id and its picture."""
    x, truth = datasets.load_digits(return_X_y=True)
    x = x / 16
    pictures = np.round(x * 255).astype(np.uint8).reshape(-1, 8, 8)
    rng = np.random.default_rng(3)
    wrong = rng.choice(len(truth), len(truth) // 25, replace=False)
    labels = truth.copy()
    labels[wrong] = rng.integers(0, 10, len(wrong))
    train = 44 * BATCH
    model = Perceptron(x.shape[1], 48, 10, rate, seed=1)
    with BatchWriter(log_dir, task="multiclass", class_names=list(DIGITS)) as writer:

        def add(phase: str, epoch: int, places: Array) -> None:
            hidden, logits = model.call(x[places])
            scores = softmax(logits)
            losses = -np.log(np.maximum(scores[np.arange(len(places)), labels[places]], 1e-9))
            learns = phase == "train"
            slopes = model.learn(x[places], hidden, scores - np.eye(10)[labels[places]]) if learns else []
            writer.add_batch(
                phase=phase,
                epoch=epoch,
                predictions=scores.astype(np.float32),
                targets=labels[places],
                sample_loss=losses,
                loss=float(losses.mean()),
                metrics={"accuracy": float((scores.argmax(axis=1) == labels[places]).mean())},
                sample_ids=[f"digits/{place:04}.png" for place in places.tolist()],
                inputs=pictures[places],
                histograms={"hidden": hidden, "probabilities": scores} if learns else None,
                gradients={"hidden": slopes[:2], "probabilities": slopes[2:]} if learns else None,
            )

        for epoch, batches in draw_epochs(train, 12, seed=5):
            for places in batches:
                add("train", epoch, places)
            for start in range(train, len(x), BATCH):
                add("validation", epoch, np.arange(start, min(start + BATCH, len(x))))


def write_tumours(log_dir: Path) -> None:
    """Write a binary output: benign or malignant."""
    x, targets = datasets.load_breast_cancer(return_X_y=True)
    x = (x - x.mean(axis=0)) / x.std(axis=0)
    x, targets = x[:, 4:10], 1 - targets
    model = Perceptron(x.shape[1], 12, 1, 0.02, seed=2)
    with BatchWriter(log_dir, task="binary", class_names=["benign", "malignant"]) as writer:
        for epoch, batches in draw_epochs(len(x), 10, seed=6):
            for places in batches:
                hidden, logits = model.call(x[places])
                scores, truth = sigmoid(logits), targets[places, None]
                losses = -(truth * np.log(scores) + (1 - truth) * np.log(1 - scores))[:, 0]
                model.learn(x[places], hidden, scores - truth)
                writer.add_batch(
                    epoch=epoch,
                    predictions=scores.astype(np.float32),
                    targets=truth,
                    sample_loss=losses,
                    loss=float(losses.mean()),
                    sample_ids=[f"patient {place}" for place in places.tolist()],
                    histograms={"hidden": hidden},
                )


def write_diabetes(log_dir: Path) -> None:
    """Write a regression: how far the illness has gone within a year."""
    x, targets = datasets.load_diabetes(return_X_y=True)
    x = (x - x.mean(axis=0)) / x.std(axis=0)
    model = Perceptron(x.shape[1], 16, 1, 0.01, seed=3)
    scale, middle = targets.std(), targets.mean()
    with BatchWriter(log_dir, task="regression") as writer:
        for epoch, batches in draw_epochs(len(x), 16, seed=7):
            for places in batches:
                hidden, out = model.call(x[places])
                truth = (targets[places, None] - middle) / scale
                losses = ((out - truth) ** 2)[:, 0]
                model.learn(x[places], hidden, 2 * (out - truth))
                writer.add_batch(
                    epoch=epoch,
                    predictions=(out * scale + middle).astype(np.float32),
                    targets=targets[places, None],
                    sample_loss=losses,
                    loss=float(losses.mean()),
                    sample_ids=[f"patient {place}" for place in places.tolist()],
                    histograms={"hidden": hidden},
                )


def write_labels(log_dir: Path) -> None:
    """Write several labels a sample: what can be said of a digit besides its number."""
    x, digits = datasets.load_digits(return_X_y=True)
    labels = {"even": {0, 2, 4, 6, 8}, "prime": {2, 3, 5, 7}, "loop": {0, 6, 8, 9}, "above four": {5, 6, 7, 8, 9}}
    targets = np.stack([np.isin(digits, list(those)) for those in labels.values()], axis=1).astype(np.int64)
    x = x / 16 + np.random.default_rng(4).normal(0, 0.25, x.shape)
    model = Perceptron(x.shape[1], 24, len(labels), 0.02, seed=4)
    with BatchWriter(log_dir, task="multilabel", class_names=list(labels)) as writer:
        for epoch, batches in draw_epochs(len(x), 5, seed=8):
            for places in batches:
                hidden, logits = model.call(x[places])
                scores, truth = sigmoid(logits), targets[places]
                losses = -(truth * np.log(scores) + (1 - truth) * np.log(1 - scores)).mean(axis=1)
                model.learn(x[places], hidden, scores - truth)
                writer.add_batch(
                    epoch=epoch,
                    predictions=scores.astype(np.float32),
                    targets=truth,
                    sample_loss=losses,
                    loss=float(losses.mean()),
                    histograms={"hidden": hidden},
                )


def write_thousand(log_dir: Path) -> None:
    """Write a thousand classes in groups whose members are alike; a clustered order shows them."""
    rng = np.random.default_rng(5)
    group = rng.permutation(np.arange(CLASSES) % GROUPS)
    centres = rng.normal(0, 1, (GROUPS, 24))[group] + rng.normal(0, 0.35, (CLASSES, 24))
    with BatchWriter(
        log_dir, task="multiclass", class_names=[f"species {number:03}" for number in range(CLASSES)]
    ) as writer:
        for epoch in range(6):
            noise = 1.4 - 0.15 * epoch
            for _ in range(20):
                targets = rng.integers(0, CLASSES, 256)
                x = centres[targets] + rng.normal(0, noise, (256, 24))
                scores = softmax(x @ centres.T - (centres**2).sum(axis=1) / 2)
                losses = -np.log(np.maximum(scores[np.arange(256), targets], 1e-9))
                writer.add_batch(
                    epoch=epoch,
                    predictions=scores.astype(np.float16),
                    targets=targets,
                    sample_loss=losses,
                    loss=float(losses.mean()),
                )


def write_runs(logdir: Path) -> None:
    """Write all of them; the last is shown first."""
    write_thousand(logdir / "species")
    write_labels(logdir / "labels")
    write_diabetes(logdir / "diabetes")
    write_tumours(logdir / "tumours")
    write_digits(logdir / "digits-slow", 0.004)
    write_digits(logdir / "digits-fast", 0.03)
