"""Train on digits in a plain loop of PyTorch, without TensorFlow.

What the loop has at hand is given to `BatchWriter`; a hook takes what a layer
returned.
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
    import torch
    from torch.nn import functional
except ImportError:
    sys.exit("This demo needs PyTorch. Install it: pip install torch")


def make_model(seed: int) -> torch.nn.Sequential:
    """Build a network of one hidden layer."""
    torch.manual_seed(seed)
    return torch.nn.Sequential(torch.nn.Linear(64, 32), torch.nn.ReLU(), torch.nn.Linear(32, 10))


def train(log_dir: Path, training: Samples, validation: Samples, epochs: int, seed: int) -> None:
    """Train, and record every batch in `log_dir`."""
    torch.set_num_threads(1)  # So small a network is slower on several.
    model = make_model(seed)
    optimizer = torch.optim.SGD(model.parameters(), LEARNING_RATE)
    outputs: dict[str, Any] = {}

    def keep(name: str) -> Any:
        return lambda module, inputs, output: outputs.__setitem__(name, output.detach())

    model[1].register_forward_hook(keep("hidden"))
    model[2].register_forward_hook(keep("scores"))

    with BatchWriter(log_dir, class_names=CLASS_NAMES) as writer:
        step = 0
        for epoch in range(epochs):
            model.train()
            for batch in make_batches(shuffle(training, epoch, seed)):
                logits = model(torch.from_numpy(batch.images))
                losses = functional.cross_entropy(logits, torch.from_numpy(batch.labels).long(), reduction="none")
                optimizer.zero_grad()
                losses.mean().backward()
                layers: dict[str, Any] = {}
                if step % LAYERS_EVERY == 0:
                    # Before the optimizer clips or clears them.
                    slopes = {"hidden": gradients_of(model[0]), "scores": gradients_of(model[2])}
                    layers = {"histograms": outputs, "gradients": slopes}
                # Arrays are copied here; those with a gradient must be detached.
                writer.add_batch(
                    epoch=epoch,
                    predictions=logits.detach(),
                    targets=batch.labels,
                    loss=float(losses.detach().mean()),
                    sample_loss=losses.detach(),
                    sample_ids=batch.ids,
                    **layers,
                )
                optimizer.step()
                step += 1
            model.eval()
            for batch in make_batches(validation):
                with torch.no_grad():
                    logits = model(torch.from_numpy(batch.images))
                    losses = functional.cross_entropy(logits, torch.from_numpy(batch.labels).long(), reduction="none")
                writer.add_batch(
                    phase="validation",
                    epoch=epoch,
                    predictions=logits,
                    targets=batch.labels,
                    loss=float(losses.mean()),
                    sample_loss=losses,
                    sample_ids=batch.ids,
                )


def gradients_of(module: torch.nn.Module) -> list[Any]:
    """Return the gradients of the weights of a module."""
    return [weight.grad for weight in module.parameters()]


def main() -> None:
    """Train a run."""
    arguments = make_parser(__doc__, epochs=8).parse_args()
    log_dir = unused(arguments.logdir / "pytorch-loop")
    print(f"Training {log_dir} …", flush=True)
    train(log_dir, *load_samples(arguments.seed), arguments.epochs, arguments.seed)


if __name__ == "__main__":
    main()
