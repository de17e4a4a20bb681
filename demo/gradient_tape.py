"""Train on digits in a loop of one's own: TensorFlow's GradientTape.

The step returns what is to be seen of it, and `BatchWriter` takes the arrays.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from digits import (
    CLASS_NAMES,
    LAYERS_EVERY,
    LEARNING_RATE,
    Samples,
    load_samples,
    make_batches,
    make_parser,
    shuffle,
    unused,
)

from tb_batchview import BatchWriter

try:
    import keras
    import tensorflow as tf
except ImportError:
    sys.exit("This demo needs TensorFlow. Install it: pip install tensorflow")


def make_model(seed: int) -> keras.Model:
    """Build a network of one hidden layer that returns it, too."""
    keras.utils.set_random_seed(seed)
    images = keras.Input((64,))
    hidden = keras.layers.Dense(32, activation="relu", name="hidden")(images)
    return keras.Model(images, [hidden, keras.layers.Dense(10, name="scores")(hidden)])


def train(log_dir: Path, training: Samples, validation: Samples, epochs: int, seed: int) -> None:
    """Train, and record every batch in `log_dir`."""
    model = make_model(seed)
    optimizer = keras.optimizers.SGD(LEARNING_RATE)

    @tf.function(reduce_retracing=True)
    def look(images: Any, labels: Any) -> tuple[Any, ...]:
        hidden, logits = model(images, training=False)
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
        return hidden, logits, losses

    @tf.function(reduce_retracing=True)
    def learn(images: Any, labels: Any) -> tuple[Any, ...]:
        with tf.GradientTape() as tape:
            hidden, logits = model(images, training=True)
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
            loss = tf.reduce_mean(losses)
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply(gradients, model.trainable_variables)
        return hidden, logits, losses, gradients

    with BatchWriter(log_dir, class_names=CLASS_NAMES) as writer:
        step = 0
        for epoch in range(epochs):
            for batch in make_batches(shuffle(training, epoch, seed)):
                hidden, logits, losses, gradients = learn(batch.images, batch.labels)
                layers: dict[str, Any] = {}
                if step % LAYERS_EVERY == 0:
                    # Of each layer the gradients of its kernel and its bias.
                    slopes = {"hidden": gradients[:2], "scores": gradients[2:]}
                    layers = {"histograms": {"hidden": hidden, "scores": logits}, "gradients": slopes}
                writer.add_batch(
                    epoch=epoch,
                    predictions=logits,
                    targets=batch.labels,
                    loss=tf.reduce_mean(losses),
                    sample_loss=losses,
                    sample_ids=batch.ids,
                    **layers,
                )
                step += 1
            for batch in make_batches(validation):
                hidden, logits, losses = look(batch.images, batch.labels)
                writer.add_batch(
                    phase="validation",
                    epoch=epoch,
                    predictions=logits,
                    targets=batch.labels,
                    loss=tf.reduce_mean(losses),
                    sample_loss=losses,
                    sample_ids=batch.ids,
                )


def main() -> None:
    """Train a run."""
    arguments = make_parser(__doc__, epochs=8).parse_args()
    log_dir = unused(arguments.logdir / "gradient-tape")
    print(f"Training {log_dir} …", flush=True)
    train(log_dir, *load_samples(arguments.seed), arguments.epochs, arguments.seed)


if __name__ == "__main__":
    main()
