"""Two runs of the same data to be compared, written without a training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tb_batchview import BatchWriter

NAMES = ("zero", "one", "two", "three", "four", "five")
SAMPLES = 96  # of the data: each epoch sees all of them, in another order
BATCH = 16
EPOCHS = {"wide": 10, "narrow": 8}
SPIKES = {"wide": {(8, 1)}, "narrow": {(6, 2), (7, 3)}}  # epoch and index of training batches whose loss stands out
TASK_BATCHES, TASK_SAMPLES = 24, 32
TASKS = {"binary": ("ham", "spam"), "regression": None, "multilabel": ("cat", "dog", "sky", "food")}


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
                    if phase == "train" and (epoch, index) in SPIKES[run]:
                        loss = loss + 20
                    scale = 1.0 if run == "wide" else 2.0
                    layers = {"dense": scale, "conv" if run == "wide" else "lstm": 1.0}
                    layers["relu" if run == "wide" else "relu_1"] = scale  # as Keras numbers them
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
                        gradients={
                            "dense": (rng.normal(size=32) * scale / 4 / (1 + epoch)).astype(np.float32),
                        }
                        if phase == "train"
                        else None,
                    )
        assert writer.flush(30)


def draw_task(task: str, run: str) -> tuple[npt.NDArray[np.float32], npt.NDArray[Any]]:
    """Return scores and targets, shape (batches, samples, …); "second" is the worse of the two."""
    shape = (TASK_BATCHES, TASK_SAMPLES)
    truth, rng = np.random.default_rng(7), np.random.default_rng(len(run))
    worse = 1.0 if run == "first" else 1.8
    if task == "binary":
        targets = truth.integers(0, 2, shape)
        scores = 1 / (1 + np.exp(-(rng.normal(size=shape) * worse + 2 * targets - 1)))[..., None]
    elif task == "regression":
        targets = truth.normal(30, 10, (*shape, 1))
        scores = targets + rng.normal(0 if run == "first" else 2, 2 * worse, (*shape, 1))
    else:
        targets = truth.integers(0, 2, (*shape, len(TASKS[task] or ())))
        flipped = rng.random(targets.shape) < rng.random((*shape, 1)) * [0.1, 0.2, 0.3, 0.3 * worse]
        scores = np.where(flipped, 1 - targets, targets) * 0.6 + 0.2
    return scores.astype(np.float32), targets


def write_tasks(logdir: Path) -> None:
    """Write two runs of every other task, "binary-first", "binary-second", …; the second's labels are turned round."""
    for task, names in TASKS.items():
        for run in ("first", "second"):
            scores, targets = draw_task(task, run)
            turned = task == "multilabel" and run == "second"
            shown = names[::-1] if names and turned else names
            with BatchWriter(logdir / f"{task}-{run}", task=task, class_names=shown and list(shown)) as writer:
                for score, target in zip(scores, targets, strict=True):
                    step = slice(None, None, -1 if turned else 1)
                    writer.add_batch(
                        predictions=score[..., step], targets=target[..., step] if turned else target, loss=1.0
                    )
                assert writer.flush(30)


def write_pair(logdir: Path) -> None:
    """Write the runs "wide" and "narrow", two of every other task, and a regression that fits none."""
    write_tasks(logdir)
    write_run(logdir / "narrow", "narrow", NAMES[::-1])
    write_run(logdir / "wide", "wide")
    rng = np.random.default_rng(1)
    with BatchWriter(logdir / "ages", task="regression") as writer:
        for _ in range(12):
            truth = rng.uniform(0, 80, (BATCH, 1))
            writer.add_batch(predictions=truth + rng.normal(size=(BATCH, 1)), targets=truth, loss=float(rng.random()))
        assert writer.flush(30)
