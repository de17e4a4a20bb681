"""The digits of scikit-learn, for the loops of this folder.

Small pictures of handwritten digits that come with the package: nothing is
downloaded. Each keeps its number in the collection as its id.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

try:
    from sklearn.datasets import load_digits
except ImportError:
    sys.exit("The demos need scikit-learn. Install it: pip install scikit-learn")

CLASS_NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
BATCH_SIZE = 32
VALIDATION_SAMPLES = 360
LEARNING_RATE = 0.2
# Layers are recorded in every n-th batch, as the callback does it.
LAYERS_EVERY = 10

Array = npt.NDArray[Any]


class Samples(NamedTuple):
    """Some samples: float32 (samples, 64), int32 (samples,), strings (samples,)."""

    images: Array
    labels: Array
    ids: Array


def load_samples(seed: int) -> tuple[Samples, Samples]:
    """Return samples for training and for validation."""
    digits = load_digits()
    order = np.random.default_rng(seed).permutation(len(digits.target))
    images = (digits.data[order] / 16.0).astype(np.float32)
    samples = Samples(images, digits.target[order].astype(np.int32), np.array([f"digit-{n:04}" for n in order]))
    cut = len(order) - VALIDATION_SAMPLES
    return Samples(*(array[:cut] for array in samples)), Samples(*(array[cut:] for array in samples))


def shuffle(samples: Samples, epoch: int, seed: int) -> Samples:
    """Return the samples in another order in each epoch."""
    order = np.random.default_rng([seed, epoch]).permutation(len(samples.labels))
    return Samples(*(array[order] for array in samples))


def make_batches(samples: Samples) -> Iterator[Samples]:
    """Yield the samples in their order, a batch at a time, the last one smaller."""
    for start in range(0, len(samples.labels), BATCH_SIZE):
        yield Samples(*(array[start : start + BATCH_SIZE] for array in samples))


def unused(path: Path) -> Path:
    """Return `path`, or path-2, path-3, … so that no run is appended to."""
    candidates = (path if n == 1 else path.with_name(f"{path.name}-{n}") for n in range(1, 1000))
    return next(candidate for candidate in candidates if not candidate.exists())


def make_parser(about: str | None, epochs: int) -> argparse.ArgumentParser:
    """Return a parser of what all demos have in common."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--logdir", type=Path, default=Path("logs"), help="where runs are written (default: logs)")
    parser.add_argument("--epochs", type=_positive, default=epochs, help=f"epochs of each run (default: {epochs})")
    parser.add_argument("--seed", type=int, default=7, help="of data and weights (default: 7)")
    return parser


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1. Received: {text}.")
    return int(text)
