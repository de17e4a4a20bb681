"""The stand-in for the function that `fit` and `evaluate` call for a step.

`install` puts a `TappedStep` in the place of `model.train_function` (or
`test_function`) while a recorder is at work; it runs the same step once,
hands Keras its own logs and the recorders what the step saw, as an extra
output of the same graph. Called by `callback`; calls `tap`, `summary`,
`pack` and `keras_names`.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from typing import Any, Protocol

import tensorflow as tf

from tb_batchview.capture import keras_names
from tb_batchview.capture.gather import describe, gather, name_outputs, read_metrics, replay_metrics
from tb_batchview.capture.layers import is_merged, select_layers
from tb_batchview.capture.loop import loop_many, loop_once
from tb_batchview.capture.merge import merge_logs, merge_pieces
from tb_batchview.capture.observation import Layout, Observation
from tb_batchview.capture.pack import Leaf, can_pack, pack
from tb_batchview.capture.summary import SummaryLayout, summarise
from tb_batchview.capture.tap import Sight, Tap
from tb_batchview.errors import ArgumentError
from tb_batchview.tasks import TaskHint


class Recorder(Protocol):
    """Who wants to know what the steps saw: the callback."""

    layers: Any
    histogram_freq: int
    # Of the layers chosen, set here: those made in `build` come late.
    layer_names: frozenset[str]

    def receive(self, phase: str, observations: list[Observation]) -> None:
        """Take what one call of the step function saw. Must not raise."""

    def complain(self, message: str) -> None:
        """Take a sentence about what cannot be recorded."""


_marks = itertools.count(1)


def install(model: Any, phase: str, recorder: Recorder, reuse: TappedStep | None = None) -> TappedStep | None:
    """Have a model's steps watched for a recorder.

    Args:
        model: A Keras model.
        phase: "train" or "validation".
        recorder: Who receives what the steps saw.
        reuse: What an earlier call returned: used again, with its compiled
            graph, if it stands for the same function of Keras.

    Returns:
        The stand-in, or None when the model has no step function (it is not
        compiled).
    """
    current = keras_names.made_step_function(model, phase)
    if current is None:
        return None
    if isinstance(current, TappedStep):
        current.join(recorder)
        return current
    if reuse is not None and reuse.original is current and reuse.model is model:
        reuse.join(recorder)
        step = reuse
    else:
        step = TappedStep(model, phase, current)
        step.join(recorder)
    keras_names.set_step_function(model, phase, step)
    return step


class TappedStep:
    """Runs a model's step once and tells the recorders what it saw."""

    def __init__(self, model: Any, phase: str, original: Callable[..., Any]) -> None:
        """Stand in for `original`, the function that Keras made."""
        self.model = model
        self.phase = phase
        self.original = original
        self._recorders: list[Recorder] = []
        self._armed: list[Recorder] = []
        self._function: Callable[..., Any] | None = None
        self._layouts: dict[int, Layout] = {}
        self._eager: list[Observation] = []
        self._complaints: set[str] = set()
        # Of the trace that is being made, from the replica to the whole.
        self._hints: dict[str, TaskHint] = {}
        self._summaries: list[SummaryLayout] = []
        # Names of layers that are chosen by the user, not by "auto".
        self._asked_for: set[str] = set()
        # Steps so far.
        self._count: Any = None
        # The step that is being watched, and its tf.function if it is one.
        self._tap: Tap | None = None
        self._decorated: Callable[[Any], Any] | None = None

    def join(self, recorder: Recorder) -> None:
        """Add a recorder; what it wants is in effect from the next step."""
        if recorder not in self._recorders:
            wishes = [(other.layers, other.histogram_freq) for other in self._recorders]
            if wishes and (recorder.layers, recorder.histogram_freq) not in wishes:
                self._function = None
            self._recorders.append(recorder)

    def leave(self, recorder: Recorder) -> None:
        """Remove a recorder, and with the last one the stand-in."""
        if recorder in self._recorders:
            self._recorders.remove(recorder)
        if recorder in self._armed:
            self._armed.remove(recorder)
        if not self._recorders:
            self._uninstall()

    def is_installed(self) -> bool:
        """Tell whether the model still calls this stand-in."""
        return bool(self._recorders) and keras_names.step_function(self.model, self.phase) is self

    def arm(self, recorder: Recorder) -> None:
        """Say that the next step is one of a `fit` with this recorder."""
        if recorder not in self._armed:
            self._armed.append(recorder)

    def __call__(self, iterator: Any) -> Any:
        """Run one step as Keras would, and return what Keras expects."""
        armed, self._armed = self._armed, []
        if not armed:
            # A fit without our callback: the one with it died on the way.
            self._uninstall()
            return self.original(iterator)
        if self._function is None:
            try:
                self._function = self._build()
            except Exception as error:
                self._complain(f"The {self.phase} step cannot be recorded: {error}")
                self._function = lambda data: (self.original(data), None, None)
        self._eager.clear()
        logs, vector, lengths = self._function(iterator)
        self._hand_over(armed, vector, lengths)
        return logs

    def _hand_over(self, armed: list[Recorder], vector: Any, lengths: Any) -> None:
        observations, self._eager = self._eager, []
        if vector is not None:
            observations.append(Observation(vector, lengths, self._layouts, time.time()))
        for recorder in armed:
            recorder.receive(self.phase, observations)

    def _uninstall(self) -> None:
        self._recorders.clear()
        if keras_names.step_function(self.model, self.phase) is self:
            keras_names.set_step_function(self.model, self.phase, self.original)

    def _complain(self, message: str) -> None:
        if message not in self._complaints:
            self._complaints.add(message)
            for recorder in self._recorders:
                recorder.complain(message)

    def _build(self) -> Callable[[Any], Any]:
        model = self.model
        keras_names.check_strategy(model)
        with tf.init_scope():
            # Counted in the graph: an argument would move the ids of the
            # step's operations, from which TensorFlow draws random seeds.
            self._count = tf.Variable(0, dtype=tf.int64, trainable=False, name="batchview_count")
        if model.run_eagerly:
            # Keras' own loop, in which every step reports by itself.
            run = keras_names.make_eager_function(model, self._eager_step)
            return lambda iterator: (run(iterator), None, None)
        # The same two levels as Keras', so that the static shapes, and with
        # them Keras' own arithmetic, stay what they are; without the Optional
        # in which Keras wraps its outputs, which costs more than all of this.
        one_step = tf.autograph.experimental.do_not_convert(self._graph_step)
        compiled = tf.function(one_step, jit_compile=model.jit_compile, reduce_retracing=True)
        converted = keras_names.convert_optionals(model, compiled)
        steps = model.steps_per_execution or 1
        unrolled = keras_names.unrolled_steps(model)
        run_steps = loop_once(converted) if steps == 1 else loop_many(converted, steps, unrolled)
        outer = tf.function(tf.autograph.experimental.do_not_convert(run_steps), reduce_retracing=True)

        def run_graph(iterator: Any) -> Any:
            if not isinstance(iterator, (tf.data.Iterator, tf.distribute.DistributedIterator)):
                return *converted(next(iter(iterator))), None
            logs, vector, lengths = outer(iterator)
            if lengths is None:
                return logs, vector, None
            if not logs.has_value():
                raise StopIteration
            return logs.get_value(), vector, lengths

        return run_graph

    def _graph_step(self, data: Any) -> Any:
        strategy = self.model.distribute_strategy
        self._decorated = None
        with Tap(self.model, self._choose_layers) as tap:
            logs, pieces = strategy.run(self._replica_step(tap), args=(data,))
        if strategy.num_replicas_in_sync > 1:
            logs = merge_logs(strategy, logs)
        try:
            self._count.assign_add(1)
            vector = self._pack(tap, merge_pieces(strategy, pieces))
        except Exception as error:
            tap.problems.append(f"What the step saw could not be gathered: {error!r}.")
            vector, _ = pack({}, self._remember(Layout([], [], {})))
        self._report(tap)
        return logs, vector

    def _eager_step(self, data: Any) -> Any:
        with Tap(self.model, self._choose_layers) as tap:
            logs, pieces = self._replica_step(tap)(data)
        try:
            self._count.assign_add(1)
            vector = self._pack(tap, pieces)
            self._eager.append(Observation(vector, None, self._layouts, time.time()))
        except Exception as error:
            tap.problems.append(f"What the step saw could not be gathered: {error!r}.")
        self._report(tap)
        return logs

    def _replica_step(self, tap: Tap) -> Callable[[Any], Any]:
        self._tap = tap
        user_step = getattr(self.model, keras_names.STEP_ATTRIBUTE[self.phase])
        undecorated = keras_names.undecorated_step(user_step)
        if undecorated is None:
            return lambda data: self._watch(user_step, data)
        # The tensors of a step that is itself a tf.function can leave it only
        # as its outputs. Eager steps use one such function, as the user's own
        # is one; in a graph each trace needs what its own tap sees.
        if self._decorated is None:
            self._decorated = keras_names.decorate_alike(user_step, lambda data: self._watch(undecorated, data))
        return self._decorated

    def _watch(self, user_step: Callable[[Any], Any], data: Any) -> Any:
        tap = self._tap
        assert tap is not None
        sight = tap.begin(data)
        logs = user_step(data)
        # From here on the step is done: what is added cannot move its ids, and
        # metrics are updated again without being watched.
        tap.end()
        try:
            pieces = self._gather(tap, sight)
        except Exception as error:
            tap.problems.append(f"What the step saw could not be gathered: {error!r}.")
            pieces = {"tensors": {}, "states": {}, "layers": None}
        return logs, pieces

    def _gather(self, tap: Tap, sight: Sight) -> Any:
        tensors, self._hints = gather(self.model, sight, tap.problems)
        for name in [name for name, tensor in tensors.items() if not can_pack(tensor)]:
            tap.problems.append(f"{name} is {describe(tensors.pop(name))}, which cannot be recorded.")
        states = replay_metrics(self.model, sight, tap.problems)
        if sight.in_loop:
            tap.problems.append(
                f"Layers that run inside a loop cannot be summarised: {', '.join(sorted(sight.in_loop))}. "
                "The others are."
            )
        return {"tensors": tensors, "states": states, "layers": self._summarise(sight)}

    def _summarise(self, sight: Sight) -> Any:
        values = {name: value for name, value in sight.activations.items() if self._may_summarise(name, value, sight)}
        if not values:
            return None
        freqs = sorted({recorder.histogram_freq for recorder in self._recorders if recorder.histogram_freq})
        due = tf.reduce_any([tf.equal(self._count % freq, 0) for freq in freqs])

        def compute() -> Any:
            vector, self._summaries = summarise(values)
            return tf.concat([tf.ones([1]), vector], 0)

        if tf.executing_eagerly():
            return compute() if due else None
        # The other branch is traced second, when the length is known.
        return tf.cond(due, compute, lambda: tf.zeros([1 + sum(layout.length for layout in self._summaries)]))

    def _may_summarise(self, name: str, value: Any, sight: Sight) -> bool:
        layer = name.partition("#")[0]
        if layer in sight.in_loop or not can_pack(value):
            return False
        # What the user asked for is shown whatever it does.
        return tf.executing_eagerly() or layer in self._asked_for or not is_merged(value)

    def _report(self, tap: Tap) -> None:
        for recorder in self._recorders:
            if not recorder.histogram_freq or not isinstance(recorder.layers, list):
                continue  # "auto", "all" and None match whatever there is.
            try:
                select_layers(self.model, recorder.layers)
            except ArgumentError as error:  # The model is built by now: they will not come.
                tap.problems.append(str(error))
        for problem in tap.problems:
            self._complain(problem)

    def _choose_layers(self) -> dict[str, Any]:
        chosen: dict[str, Any] = {}
        self._asked_for.clear()
        for recorder in self._recorders:
            if recorder.histogram_freq:
                layers = select_layers(self.model, recorder.layers, missing_ok=True)
                recorder.layer_names = frozenset(layers)
                chosen |= layers
                if recorder.layers != "auto":
                    self._asked_for |= layers.keys()
        return chosen

    def _pack(self, tap: Tap, pieces: Any) -> Any:
        tensors = dict(pieces["tensors"])
        tensors |= {f"metrics/{name}": value for name, value in self._read_metrics(tap, pieces["states"]).items()}
        # A loop of the user's own may have no loss but the one it reports.
        if "loss" not in tensors and "metrics/loss" in tensors:
            tensors["loss"] = tensors.pop("metrics/loss")
        if pieces["layers"] is not None:
            tensors["layers"] = pieces["layers"]
        leaves: list[Leaf] = []
        mark = self._remember(Layout(leaves, self._summaries, self._hints))
        vector, leaves[:] = pack(tensors, mark)
        return vector

    def _read_metrics(self, tap: Tap, states: dict[str, list[Any]]) -> dict[str, Any]:
        try:
            return read_metrics(self.model, states, tap.problems)
        except Exception as error:
            tap.problems.append(f"The metrics of a batch could not be read: {error!r}.")
            return {}

    def _remember(self, layout: Layout) -> int:
        mark = next(_marks)
        # A graph is traced a few times; eager steps each have their own, and
        # keeping them all would grow without bound.
        self._layouts = {mark: layout} if tf.executing_eagerly() else self._layouts | {mark: layout}
        return mark


def read_predictions(model: Any, outputs: Any) -> Observation:
    """Make an observation of what `predict` hands to callbacks.

    Args:
        model: The model that predicts.
        outputs: `logs["outputs"]` of `on_predict_batch_end`.
    """
    # Keras gives callbacks arrays, not tensors.
    named = {name: tf.convert_to_tensor(value) for name, value in name_outputs(model, outputs).values()}
    tensors = {f"outputs/{name}/predictions": value for name, value in named.items() if can_pack(value)}
    batched = next(iter(tensors.values()), None)
    if batched is not None and batched.shape.rank:
        tensors["size"] = tf.shape(batched)[0]
    mark = next(_marks)
    vector, leaves = pack(tensors, mark)
    return Observation(vector, None, {mark: Layout(leaves, [], {})}, time.time())
