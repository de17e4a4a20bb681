"""Train on digits in a plain loop of JAX, without TensorFlow.

The compiled step returns what is to be seen of it, and `BatchWriter` takes
the arrays.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
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
    import jax
    import jax.numpy as jnp
except ImportError:
    sys.exit("This demo needs JAX. Install it: pip install jax")

# Kernel and bias of each layer.
Weights = dict[str, list[Any]]


def make_weights(seed: int) -> Weights:
    """Draw the weights of a network of one hidden layer."""
    first, second = jax.random.split(jax.random.key(seed))
    return {
        "hidden": [jax.random.normal(first, (64, 32)) / np.sqrt(64), jnp.zeros(32)],
        "scores": [jax.random.normal(second, (32, 10)) / np.sqrt(32), jnp.zeros(10)],
    }


def compute(weights: Weights, images: Any, labels: Any) -> tuple[Any, dict[str, Any]]:
    """Return the loss, and what is recorded."""
    hidden = jax.nn.relu(images @ weights["hidden"][0] + weights["hidden"][1])
    logits = hidden @ weights["scores"][0] + weights["scores"][1]
    losses = -jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], axis=1)[:, 0]
    return losses.mean(), {"hidden": hidden, "scores": logits, "losses": losses}


# A last batch that is smaller is compiled once more.
look = jax.jit(compute)


@jax.jit
def learn(weights: Weights, images: Any, labels: Any) -> tuple[Weights, Any, dict[str, Any], Weights]:
    """Return the next weights, the loss, what is recorded, and gradients."""
    (loss, seen), gradients = jax.value_and_grad(compute, has_aux=True)(weights, images, labels)
    weights = jax.tree.map(lambda weight, slope: weight - LEARNING_RATE * slope, weights, gradients)
    return weights, loss, seen, gradients


def train(log_dir: Path, training: Samples, validation: Samples, epochs: int, seed: int) -> None:
    """Train, and record every batch in `log_dir`."""
    weights = make_weights(seed)
    with BatchWriter(log_dir, class_names=CLASS_NAMES) as writer:
        step = 0
        for epoch in range(epochs):
            for batch in make_batches(shuffle(training, epoch, seed)):
                weights, loss, seen, gradients = learn(weights, batch.images, batch.labels)
                layers: dict[str, Any] = {}
                if step % LAYERS_EVERY == 0:
                    layers = {
                        "histograms": {"hidden": seen["hidden"], "scores": seen["scores"]},
                        "gradients": gradients,
                    }
                writer.add_batch(
                    epoch=epoch,
                    predictions=seen["scores"],
                    targets=batch.labels,
                    loss=loss,
                    sample_loss=seen["losses"],
                    sample_ids=batch.ids,
                    **layers,
                )
                step += 1
            for batch in make_batches(validation):
                loss, seen = look(weights, batch.images, batch.labels)
                writer.add_batch(
                    phase="validation",
                    epoch=epoch,
                    predictions=seen["scores"],
                    targets=batch.labels,
                    loss=loss,
                    sample_loss=seen["losses"],
                    sample_ids=batch.ids,
                )


def main() -> None:
    """Train a run."""
    arguments = make_parser(__doc__, epochs=8).parse_args()
    log_dir = unused(arguments.logdir / "jax-loop")
    print(f"Training {log_dir} …", flush=True)
    train(log_dir, *load_samples(arguments.seed), arguments.epochs, arguments.seed)


if __name__ == "__main__":
    main()
