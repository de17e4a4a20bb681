"""A training of Keras on JAX with several devices or processes: a script for tests.

Arguments: number of this process, how many there are, a port, where to record
("" for a training without the callback), where to save the result.
"""

from __future__ import annotations

import json
import os
import sys

os.environ["KERAS_BACKEND"] = "jax"
os.environ.setdefault("XLA_FLAGS", "--xla_force_host_platform_device_count=1")

import jax
import numpy as np

SAMPLES, SHARE, EPOCHS = 32, 8, 2


def show(x: np.ndarray) -> list[str]:
    """Return a text for each sample."""
    return [repr(row) for row in np.asarray(x)]


def make_data() -> tuple[np.ndarray, np.ndarray]:
    """Return inputs and targets of all processes."""
    generator = np.random.default_rng(0)
    return generator.normal(size=(SAMPLES, 8)).astype("float32"), generator.integers(0, 4, SAMPLES)


def main() -> None:
    """Train, and save the history and the weights."""
    number, count, port, log_dir, result = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4], sys.argv[5]
    if count > 1:
        jax.config.update("jax_cpu_collectives_implementation", "gloo")
        jax.distributed.initialize(f"localhost:{port}", count, number)
    import keras

    from tb_batchview import BatchViewCallback

    keras.utils.set_random_seed(3)
    keras.distribution.set_distribution(keras.distribution.DataParallel(auto_shard_dataset=False))
    model = keras.Sequential(
        [
            keras.Input((8,)),
            keras.layers.Dense(12, activation="relu", name="hidden"),
            keras.layers.Dropout(0.3, seed=5),
            keras.layers.Dense(4, activation="softmax", name="scores"),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    x, y = make_data()
    batch = SHARE * (1 if count > 1 else 2)
    if count > 1:
        # Of each batch of 16 the first or the second half.
        rows = np.arange(SAMPLES).reshape(-1, count, SHARE)[:, number].ravel()
        x, y = x[rows], y[rows]
    callbacks = [BatchViewCallback(log_dir, histogram_freq=2, inputs=show)] if log_dir else []
    history = model.fit(
        x,
        y,
        batch_size=batch,
        epochs=EPOCHS,
        shuffle=False,
        verbose=0,
        validation_data=(x[:batch], y[:batch]),
        callbacks=callbacks,
    ).history
    values = [variable.value for variable in (*model.variables, *model.optimizer.variables)]
    state = [np.asarray(value.addressable_data(0)).astype("float64").ravel().tolist() for value in values]
    with open(result, "w", encoding="utf-8") as file:
        json.dump({"history": history, "state": state}, file)


if __name__ == "__main__":
    main()
