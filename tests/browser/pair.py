"""Two runs of the same data to be compared, written without a training."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from tb_batchview import BatchWriter

NAMES = ("zero", "one", "two", "three", "four", "five")
SAMPLES = 96  # of the data: each epoch sees all of them, in another order
BATCH = 16
EPOCHS = {"wide": 10, "narrow": 8}


def draw_batch(
    run: str, epoch: int, ids: npt.NDArray[np.int64], rng: np.random.Generator
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Return scores and targets; "narrow" takes three for five all along."""
    targets = ids % len(NAMES)
    learned = rng.random(len(ids)) < (0.5 + 0.05 * epoch if run == "wide" else 0.4 + 0.04 * epoch)
    predicted = np.where(learned, targets, (targets + 1 + ids // 7) % len(NAMES))
    if run == "narrow":
        predicted = np.where(targets == 3, 5, predicted)
    confidence = rng.uniform(0.45, 0.98, len(ids))
    scores = np.repeat(((1 - confidence) / (len(NAMES) - 1))[:, None], len(NAMES), axis=1)
    scores[np.arange(len(ids)), predicted] = confidence
    return scores.astype(np.float32), targets


def write_run(directory: Path, run: str, names: tuple[str, ...] = NAMES) -> None:
    """Write a run; with its classes in another order where `names` has one."""
    order = [NAMES.index(name) for name in names]
    rng = np.random.default_rng(len(run))
    with BatchWriter(directory, task="multiclass", class_names=list(names)) as writer:
        for epoch in range(EPOCHS[run]):
            for phase, batches in (("train", SAMPLES // BATCH), ("validation", 2)):
                shuffled = rng.permutation(SAMPLES)
                for index in range(batches):
                    ids = np.sort(shuffled[index * BATCH : (index + 1) * BATCH])
                    scores, targets = draw_batch(run, epoch, ids, rng)
                    loss = -np.log(scores[np.arange(len(ids)), targets])
                    scale = 1.0 if run == "wide" else 2.0
                    layers = {"dense": scale, "conv" if run == "wide" else "lstm": 1.0}
                    writer.add_batch(
                        phase=phase,
                        epoch=epoch,
                        index=index,
                        predictions=scores[:, order],
                        targets=np.argsort(order)[targets],
                        sample_loss=loss.astype(np.float32),
                        sample_ids=np.array([f"img_{number:03d}" for number in ids], object),
                        loss=float(loss.mean()),
                        metrics={"accuracy": float((scores.argmax(axis=1) == targets).mean())},
                        histograms={
                            name: (rng.normal(size=(BATCH, 8)) * factor * (1 + epoch / 8)).astype(np.float32)
                            for name, factor in layers.items()
                        }
                        if phase == "train"
                        else None,
                    )
        assert writer.flush(30)


def write_pair(logdir: Path) -> None:
    """Write the runs "wide" and "narrow", and a regression that fits neither."""
    write_run(logdir / "narrow", "narrow", NAMES[::-1])
    write_run(logdir / "wide", "wide")
    rng = np.random.default_rng(1)
    with BatchWriter(logdir / "ages", task="regression") as writer:
        for _ in range(12):
            truth = rng.uniform(0, 80, (BATCH, 1))
            writer.add_batch(predictions=truth + rng.normal(size=(BATCH, 1)), targets=truth, loss=float(rng.random()))
        assert writer.flush(30)
