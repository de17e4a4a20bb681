"""One worker of a TensorFlow training with a loop of its own: a script for a test.

Arguments: number of this worker, the ports of all, where to record.
"""

from __future__ import annotations

import json
import os
import sys

import numpy as np
import tensorflow as tf

from tb_batchview import BatchWriter

SHARE, EPOCHS, RATE = 10, 2, 0.5


def make_problem() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return inputs, targets and the first weights; the last share is smaller."""
    generator = np.random.default_rng(0)
    weights = generator.normal(size=(5, 3)).astype(np.float32)
    return generator.normal(size=(56, 5)).astype(np.float32), generator.integers(0, 3, 56), weights


def main() -> None:
    """Train and record."""
    number, ports, log_dir = int(sys.argv[1]), sys.argv[2].split(","), sys.argv[3]
    cluster = {"worker": [f"localhost:{port}" for port in ports]}
    os.environ["TF_CONFIG"] = json.dumps({"cluster": cluster, "task": {"type": "worker", "index": number}})
    x, y, weights = make_problem()
    options = tf.distribute.experimental.CommunicationOptions(
        implementation=tf.distribute.experimental.CommunicationImplementation.RING
    )
    strategy = tf.distribute.MultiWorkerMirroredStrategy(communication_options=options)
    writer = BatchWriter(log_dir, worker=strategy.cluster_resolver.task_id, workers=len(ports))

    def share(context: tf.distribute.InputContext) -> tf.data.Dataset:
        data = tf.data.Dataset.from_tensor_slices((x, y)).batch(SHARE)
        return data.shard(context.num_input_pipelines, context.input_pipeline_id)

    data = strategy.distribute_datasets_from_function(share)
    with strategy.scope():
        kernel = tf.Variable(weights)

    def losses_of(xs: tf.Tensor, ys: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        logits = xs @ kernel
        return logits, tf.nn.sparse_softmax_cross_entropy_with_logits(ys, logits)

    @tf.function
    def train(batch: tuple[tf.Tensor, tf.Tensor]) -> tuple[tf.Tensor, ...]:
        def step(xs: tf.Tensor, ys: tf.Tensor) -> tuple[tf.Tensor, ...]:
            with tf.GradientTape() as tape:
                logits, losses = losses_of(xs, ys)
                loss = tf.reduce_sum(losses) / (SHARE * len(ports))
            gradient = tf.distribute.get_replica_context().all_reduce("sum", tape.gradient(loss, kernel))
            kernel.assign_sub(RATE * gradient)
            return ys, tf.nn.softmax(logits), losses

        return strategy.run(step, args=batch)

    @tf.function
    def validate(batch: tuple[tf.Tensor, tf.Tensor]) -> tuple[tf.Tensor, ...]:
        def step(xs: tf.Tensor, ys: tf.Tensor) -> tuple[tf.Tensor, ...]:
            logits, losses = losses_of(xs, ys)
            return ys, tf.nn.softmax(logits), losses

        return strategy.run(step, args=batch)

    for epoch in range(EPOCHS):
        for phase, function in (("train", train), ("validation", validate)):
            for batch in data:
                ys, scores, losses = (
                    strategy.experimental_local_results(value)[0].numpy() for value in function(batch)
                )
                writer.add_batch(
                    phase=phase, epoch=epoch, predictions=scores, targets=ys, sample_loss=losses, loss=losses.mean()
                )
    writer.close()


if __name__ == "__main__":
    main()
