"""Small models and data, and an independent training loop to compare with."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

CLASSES = 4
SAMPLES = 70
BATCH = 16
LAYERS = keras.layers


def make_data(shape: tuple[int, ...], seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return inputs and class numbers for `SAMPLES` samples."""
    random = np.random.default_rng(seed)
    return random.normal(size=(SAMPLES, *shape)).astype("float32"), random.integers(0, CLASSES, SAMPLES)


def make_mlp(*, dropout: float = 0.0, activation: str | None = "softmax", seed: int | None = None) -> Any:
    """Return an uncompiled Sequential model, the same for each call."""
    keras.utils.set_random_seed(7)
    return keras.Sequential(
        [
            keras.Input((8,)),
            LAYERS.Dense(12, activation="relu", name="hidden"),
            LAYERS.Dropout(dropout, seed=seed),
            LAYERS.Dense(CLASSES, activation=activation, name="scores"),
        ]
    )


def make_convnet(seed: int | None = None) -> Any:
    """Return a residual network with batch normalisation and dropout."""
    keras.utils.set_random_seed(7)
    inputs = keras.Input((8, 8, 3))
    first = LAYERS.ReLU()(LAYERS.BatchNormalization()(LAYERS.Conv2D(6, 3, padding="same")(inputs)))
    second = LAYERS.BatchNormalization()(LAYERS.Conv2D(6, 3, padding="same")(first))
    merged = LAYERS.Dropout(0.2, seed=seed)(LAYERS.ReLU()(LAYERS.Add()([first, second])))
    pooled = LAYERS.GlobalAveragePooling2D()(merged)
    return keras.Model(inputs, LAYERS.Dense(CLASSES, activation="softmax")(pooled))


def make_transformer(seed: int | None = None) -> Any:
    """Return one transformer block with dropout."""
    keras.utils.set_random_seed(7)
    inputs = keras.Input((6, 8))
    normal = LAYERS.LayerNormalization()(inputs)
    attended = LAYERS.Add()([LAYERS.MultiHeadAttention(2, 4, dropout=0.1, seed=seed)(normal, normal), inputs])
    hidden = LAYERS.Dense(16, activation="gelu")(LAYERS.LayerNormalization()(attended))
    merged = LAYERS.Add()([LAYERS.Dense(8)(hidden), attended])
    return keras.Model(
        inputs,
        LAYERS.Dense(CLASSES, activation="softmax")(
            LAYERS.GlobalAveragePooling1D()(LAYERS.Dropout(0.1, seed=seed)(merged))
        ),
    )


def make_rnn(seed: int | None = None) -> Any:
    """Return a stack of recurrent layers."""
    keras.utils.set_random_seed(7)
    return keras.Sequential(
        [
            keras.Input((6, 8)),
            LAYERS.LSTM(8, return_sequences=True, dropout=0.1, seed=seed),
            LAYERS.Bidirectional(LAYERS.GRU(4)),
            LAYERS.Dense(CLASSES, activation="softmax"),
        ]
    )


def train_by_hand(
    model: Any,
    loss: Any,
    optimizer: Any,
    x: np.ndarray,
    y: np.ndarray,
    *,
    epochs: int,
    weights: np.ndarray | None = None,
) -> list[dict[str, Any]]:
    """Train eagerly with a GradientTape, in order, and say what each batch was.

    The independent truth: nothing of Keras' fit, and nothing of ours.
    """
    import tensorflow as tf  # The models above are those of the other backends too.

    batches = []
    for _ in range(epochs):
        for start in range(0, len(x), BATCH):
            inputs, targets = x[start : start + BATCH], y[start : start + BATCH]
            with tf.GradientTape() as tape:
                predictions = model(inputs, training=True)
                value = loss(targets, predictions)
                if model.losses:
                    value = value + tf.add_n(model.losses)
            optimizer.apply_gradients(
                zip(tape.gradient(value, model.trainable_variables), model.trainable_variables, strict=True)
            )
            batches.append({"predictions": predictions.numpy(), "targets": targets, "loss": float(value)})
    return batches


class Looped(keras.Model):
    """Calls one layer again and again."""

    def __init__(self) -> None:
        super().__init__()
        self.again = LAYERS.Dense(8, activation="tanh", name="again")
        self.head = LAYERS.Dense(4, activation="softmax", name="head")

    def call(self, inputs: Any) -> Any:
        for _ in range(3):
            inputs = self.again(inputs)
        return self.head(inputs)


class Lazy(keras.Model):
    """Makes its layers when it is built, which nobody does before fit."""

    def build(self, shape: Any) -> None:
        self.hidden = LAYERS.Dense(6, activation="relu", name="hidden")
        self.drop = LAYERS.Dropout(0.3)
        self.head = LAYERS.Dense(4, activation="softmax", name="head")
        self.hidden.build(shape)
        self.head.build((*shape[:-1], 6))
        self.built = True

    def call(self, inputs: Any, training: bool = False) -> Any:
        return self.head(self.drop(self.hidden(inputs), training=training))


def make_nested() -> Any:
    encoder = keras.Sequential([keras.Input((8,)), LAYERS.Dense(8), LAYERS.BatchNormalization()], name="encoder")
    shared = LAYERS.Dense(8, activation="relu", name="shared")
    inputs = keras.Input((8,))
    hidden = shared(encoder(shared(inputs)))
    outer = keras.Model(inputs, LAYERS.Dense(4, activation="softmax", name="head")(hidden))
    outer_inputs = keras.Input((8,))
    return keras.Model(outer_inputs, outer(outer_inputs))


def make_recurrent() -> Any:
    inputs = keras.Input((5, 8))
    hidden = LAYERS.TimeDistributed(LAYERS.Dense(4, name="inner"))(inputs)
    hidden = LAYERS.RNN([LAYERS.LSTMCell(3, dropout=0.1), LAYERS.GRUCell(4)])(hidden)
    return keras.Model(inputs, LAYERS.Dense(4, activation="softmax", name="head")(hidden))


def make_two_inputs() -> Any:
    inputs = {"left": keras.Input((8,), name="left"), "right": keras.Input((8,), name="right")}
    hidden = LAYERS.Concatenate()([inputs["left"], inputs["right"]])
    return keras.Model(inputs, LAYERS.Dense(4, activation="softmax", name="head")(hidden))
