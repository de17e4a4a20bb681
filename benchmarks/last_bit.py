"""Does the recording change a training, and in which bit?

Trains small models (those of the tests) twice from the same seed, with and
without the callback, and prints the greatest difference of any weight after
three epochs: `python benchmarks/last_bit.py`, about four minutes. Where the
figures differ from 0, a layer's output that is looked at has made TensorFlow
or XLA fuse other operations, and sums are rounded in another order.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(Path(__file__).parent.parent))

import keras
import numpy as np

from tb_batchview import BatchViewCallback
from tests import models

MODELS = {
    "MLP": (models.make_mlp, (8,)),
    "convnet with batch normalisation": (models.make_convnet, (8, 8, 3)),
    "transformer block": (models.make_transformer, (6, 8)),
    "LSTM and GRU": (models.make_rnn, (6, 8)),
}
MODES = {"graph": {"jit_compile": False}, "XLA": {"jit_compile": True}, "eager": {"run_eagerly": True}}
LAYERS: dict[str, Any] = {"None": None, '"auto"': "auto", '"all"': "all"}


def train(make_model: Any, shape: tuple[int, ...], mode: dict[str, Any], callbacks: list[Any]) -> list[np.ndarray]:
    """Train from the same seed and return the weights."""
    x, y = models.make_data(shape)
    model = make_model()
    model.compile(keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy", metrics=["accuracy"], **mode)
    model.fit(x, y, batch_size=16, epochs=3, validation_split=0.2, verbose=0, callbacks=callbacks)
    weights: list[np.ndarray] = model.get_weights()
    return weights


def main() -> None:
    """Print a table."""
    print(f"Keras {keras.__version__}, {keras.backend.backend()}")
    print("| model | mode | again, without | " + " | ".join(f"`layers={name}`" for name in LAYERS) + " |")
    print("|---|---|---|" + "---|" * len(LAYERS))
    for model_name, (make_model, shape) in MODELS.items():
        for mode_name, mode in MODES.items():
            plain = train(make_model, shape, mode, [])
            cells = []
            for callbacks in [[], *([layers] for layers in LAYERS.values())]:
                with tempfile.TemporaryDirectory() as log_dir:
                    made = [BatchViewCallback(log_dir, layers=layers, histogram_freq=1) for layers in callbacks]
                    found = train(make_model, shape, mode, made)
                worst = max(float(np.abs(a - b).max()) for a, b in zip(plain, found, strict=True))
                cells.append("0" if worst == 0 else f"{worst:.0e}")
            print(f"| {model_name} | {mode_name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
