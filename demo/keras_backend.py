"""Train on digits with Keras on JAX or on PyTorch: the callback, as ever.

`--backend` is what the environment variable KERAS_BACKEND says otherwise. A
layer of one's own tags what it computes inside.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from typing import Any

from digits import BATCH_SIZE, CLASS_NAMES, LAYERS_EVERY, LEARNING_RATE, Samples, load_samples, make_parser, unused

BACKENDS = {"jax": "JAX", "torch": "PyTorch"}


def make_model(seed: int) -> Any:
    """Build a network of one hidden layer."""
    import keras

    from tb_batchview import tag

    class Gated(keras.layers.Layer):
        """Multiplies what it is given with a gate, which is recorded."""

        def build(self, shape: Any) -> None:
            self.kernel = self.add_weight(shape=(shape[-1], shape[-1]), name="kernel")

        def call(self, inputs: Any) -> Any:
            gate = keras.ops.sigmoid(keras.ops.matmul(inputs, self.kernel))
            return inputs * tag("gate", gate)

    keras.utils.set_random_seed(seed)
    model = keras.Sequential(
        [
            keras.Input((64,)),
            keras.layers.Dense(32, activation="relu", name="hidden"),
            Gated(name="gated"),
            keras.layers.Dense(10, activation="softmax", name="scores"),
        ]
    )
    optimizer = keras.optimizers.SGD(LEARNING_RATE)
    # What torch.compile makes of a step cannot be watched.
    jit_compile: Any = False if keras.backend.backend() == "torch" else "auto"
    model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"], jit_compile=jit_compile)
    return model


def train(log_dir: Path, training: Samples, validation: Samples, epochs: int, seed: int) -> None:
    """Train, and record every batch in `log_dir`."""
    from tb_batchview import BatchViewCallback

    make_model(seed).fit(
        training.images,
        training.labels,
        epochs=epochs,
        batch_size=BATCH_SIZE,
        validation_data=(validation.images, validation.labels),
        callbacks=[BatchViewCallback(log_dir, class_names=CLASS_NAMES, gradients=True, histogram_freq=LAYERS_EVERY)],
        shuffle=False,  # They are in no order.
        verbose=0,
    )


def main() -> None:
    """Train a run."""
    parser = make_parser(__doc__, epochs=8)
    parser.add_argument("--backend", choices=BACKENDS, required=True, help="what Keras runs on")
    arguments = parser.parse_args()
    for package, name in (("keras", "Keras"), (arguments.backend, BACKENDS[arguments.backend])):
        if importlib.util.find_spec(package) is None:
            sys.exit(f"This demo needs {name}. Install it: pip install {package}")
    os.environ["KERAS_BACKEND"] = arguments.backend  # Before Keras is loaded.
    log_dir = unused(arguments.logdir / f"keras-{arguments.backend}")
    print(f"Training {log_dir} …", flush=True)
    train(log_dir, *load_samples(arguments.seed), arguments.epochs, arguments.seed)


if __name__ == "__main__":
    main()
