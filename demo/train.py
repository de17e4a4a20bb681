"""Train a small convolutional network on digits, with two mistakes to find.

Two runs are recorded: `clean`, and `swapped-labels`, in which 5 % of the
training labels are wrong in one systematic way. In both, one single batch is
damaged on its way into the network. `make demo` calls this.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf
from sklearn.datasets import load_digits

from tb_batchview import BatchViewCallback, with_ids

CLASS_NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
BATCH_SIZE = 32
VALIDATION_SAMPLES = 360
SWAPPED_SHARE = 0.05
DAMAGED_AT = 0.58  # of all training batches

Array = npt.NDArray[Any]
# Images, what each is called, and labels.
Samples = tuple[Array, Array, Array]


def load_data(seed: int) -> tuple[Samples, Samples]:
    """Return (images, names, labels) for training and for validation."""
    digits = load_digits()
    order = np.random.default_rng(seed).permutation(len(digits.target))
    images = (digits.images[order, :, :, None] / 16.0).astype(np.float32)
    labels = digits.target[order].astype(np.int32)
    names = np.array([f"digit-{number:04}" for number in order])
    cut = len(labels) - VALIDATION_SAMPLES
    return (images[:cut], names[:cut], labels[:cut]), (images[cut:], names[cut:], labels[cut:])


def swap_labels(labels: Array, seed: int) -> Array:
    """Call some threes a five: `SWAPPED_SHARE` of all labels become wrong."""
    threes = np.flatnonzero(labels == 3)
    chosen = np.random.default_rng(seed).choice(threes, round(SWAPPED_SHARE * len(labels)), replace=False)
    swapped = labels.copy()
    swapped[chosen] = 5
    return swapped


def damaged_batch(batches: int) -> int:
    """Return the number of the damaged batch, one whose layers are summarised."""
    return int(DAMAGED_AT * batches) // 10 * 10


def make_batches(images: Array, names: Array, labels: Array, epochs: int, seed: int) -> tuple[tf.data.Dataset, int]:
    """Return the training batches, one of them damaged, and their number per epoch."""
    per_epoch = -(-len(labels) // BATCH_SIZE)
    damaged = damaged_batch(per_epoch * epochs)

    def damage(number: Any, batch: Any) -> Any:
        x, ids, y = batch
        return with_ids(tf.where(number == damaged, 0.4 + 0.2 * x, x), ids), y

    samples = tf.data.Dataset.from_tensor_slices((images, names, labels)).shuffle(len(labels), seed=seed)
    batches = samples.batch(BATCH_SIZE)
    return batches.repeat(epochs).enumerate().map(damage).prefetch(tf.data.AUTOTUNE), per_epoch


def make_model() -> keras.Model:
    """Build a small convolutional network."""
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Conv2D(16, 3, activation="relu", name="conv_1"),
            keras.layers.Conv2D(32, 3, activation="relu", name="conv_2"),
            keras.layers.Flatten(),
            keras.layers.Dense(64, activation="relu", name="dense"),
            keras.layers.Dense(len(CLASS_NAMES), activation="softmax", name="probabilities"),
        ]
    )
    model.compile(keras.optimizers.Adam(5e-4), "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def train(log_dir: Path, training: Samples, validation: Samples, epochs: int, seed: int) -> None:
    """Fit once and record every batch below `log_dir`."""
    keras.utils.set_random_seed(seed)
    images, names, labels = validation
    batches, per_epoch = make_batches(*training, epochs=epochs, seed=seed)
    make_model().fit(
        batches,
        epochs=epochs,
        steps_per_epoch=per_epoch,
        validation_data=(with_ids(images, names), labels),
        validation_batch_size=BATCH_SIZE,
        callbacks=[
            keras.callbacks.TensorBoard(log_dir),
            BatchViewCallback(log_dir, class_names=CLASS_NAMES, gradients=True, inputs="thumbnails"),
        ],
        shuffle=False,  # the pipeline shuffles
        verbose=0,
    )


def unused(path: Path) -> Path:
    """Return `path`, or path-2, path-3, … so that no run is appended to."""
    candidates = (path if n == 1 else path.with_name(f"{path.name}-{n}") for n in range(1, 1000))
    return next(candidate for candidate in candidates if not candidate.exists())


def main() -> None:
    """Train both runs and say what to look for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--logdir", type=Path, default=Path("logs"), help="where the runs are written (default: logs)")
    parser.add_argument("--epochs", type=int, default=16, help="epochs of each run (default: 16)")
    parser.add_argument("--seed", type=int, default=7, help="of data, weights and mistakes (default: 7)")
    arguments = parser.parse_args()
    if arguments.epochs < 1:
        parser.error(f"--epochs must be at least 1. Received: {arguments.epochs}.")

    (images, names, labels), validation = load_data(arguments.seed)
    for name, targets in (("clean", labels), ("swapped-labels", swap_labels(labels, arguments.seed))):
        log_dir = unused(arguments.logdir / name)
        print(f"Training {log_dir} …", flush=True)
        train(log_dir, (images, names, targets), validation, arguments.epochs, arguments.seed)

    batches = -(-len(labels) // BATCH_SIZE) * arguments.epochs
    print(
        f"\n{batches} training batches in each run. What to look for in the tab Batch View:\n"
        f"  Batches  one batch whose loss jumps: number {damaged_batch(batches)}, whose images were washed out\n"
        "  Classes  in swapped-labels, phase train: many a five is taken for a three; these are the wrong labels\n"
        "  Samples  in swapped-labels, phase train, the data map: the wrong labels, at the bottom, are hard to learn\n"
        "  Layers   the activations and the gradients of the damaged batch, far from their neighbours;\n"
        "           and units of the layer dense that are dead: 0 for every sample of a batch\n"
    )


if __name__ == "__main__":
    main()
