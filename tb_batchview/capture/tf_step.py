"""The stand-in for a step of Keras on TensorFlow.

In a graph the step is made anew as Keras makes it, with what was seen as an
extra output of the same graph; in eager mode every step reports by itself.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import time
import types
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from tb_batchview.capture import keras_names
from tb_batchview.capture.gradients import Weight, plan_gradients, summarise_gradients
from tb_batchview.capture.observation import Observation, Tensors
from tb_batchview.capture.step import TappedStep
from tb_batchview.capture.tap import Sight, Tap
from tb_batchview.capture.tf_arrays import copy_array
from tb_batchview.capture.tf_loop import loop_many, loop_once
from tb_batchview.capture.tf_merge import merge_logs, merge_pieces
from tb_batchview.capture.tf_pack import Layout, Leaf, PackedTensors, pack
from tb_batchview.errors import BatchViewError
from tb_batchview.ids import carries_ids, split_ids

_marks = itertools.count(1)


class TensorFlowStep(TappedStep):
    """Runs a step in a `tf.function` like Keras', or eagerly."""

    def __init__(self, model: Any, phase: str, original: Callable[..., Any]) -> None:
        """Stand in for `original`, the function that Keras made."""
        super().__init__(model, phase, original)
        self._layouts: dict[int, Layout] = {}
        # Of the trace that is being made: where the figures of each layer are.
        self._figures: dict[str, slice] = {}
        self._gradient_figures: dict[str, slice] = {}
        # Of several replicas: whose the parts of the gradients are.
        self._named: dict[str, list[Weight]] = {}
        # Steps so far.
        self._count: Any = None
        self._eager: list[Observation] = []
        # Keras' own function of the step without ids, once it is needed.
        self._plain: Callable[[Any], Any] | None = None
        # The step that is being watched, and its tf.function if it is one.
        self._tap: Tap | None = None
        self._decorated: Callable[[Any], Any] | None = None
        # What runs instead of `original`, in graph mode.
        self._compiled: Any = None

    def __getattr__(self, name: str) -> Any:
        """Show what Keras would write the graph of the step from."""
        if name in keras_names.GRAPH_ATTRIBUTES and hasattr(self.original, "function_spec"):
            return getattr(self._compiled, name)
        raise AttributeError(name)

    def _is_foreign(self, *arguments: Any) -> bool:
        # `fit` gives an iterator of tf.data, `train_on_batch` a generator: a
        # callback behind ours may call it between our hook and the step.
        return self._fitting and isinstance(arguments[0], types.GeneratorType)

    def _build(self, *arguments: Any) -> Callable[..., tuple[Any, list[Observation]]]:
        model = self.model
        keras_names.check_version(model)
        _check_strategy(model)
        with tf.init_scope():
            # Counted in the graph: an argument would move the ids of the
            # step's operations, from which TensorFlow draws random seeds.
            self._count = tf.Variable(0, dtype=tf.int64, trainable=False, name="batchview_count")
        if model.run_eagerly:
            # Keras' own loop, in which every step reports by itself.
            run = keras_names.make_eager_function(model, self.phase, self._eager_step, self.original)

            def run_eagerly(iterator: Any) -> tuple[Any, list[Observation]]:
                self._eager = []
                return run(iterator), self._eager

            return run_eagerly
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
        self._compiled = outer

        def run_graph(iterator: Any) -> tuple[Any, list[Observation]]:
            lengths = None
            if isinstance(iterator, (tf.data.Iterator, tf.distribute.DistributedIterator)):
                logs, vector, lengths = outer(iterator)
            else:
                logs, vector = converted(next(iter(iterator)))
            if lengths is not None:
                if not logs.has_value():
                    raise StopIteration
                logs = logs.get_value()
            return logs, [PackedTensors(vector, lengths, self._layouts, time.time())]

        return run_graph

    def _run_plain(self, *arguments: Any) -> Any:
        (iterator,) = arguments
        if not isinstance(iterator, (tf.data.Iterator, tf.distribute.DistributedIterator)):
            return self.original(split_ids(batch)[0] for batch in iterator)
        if not carries_ids(iterator.element_spec):
            return self.original(iterator)
        if self._plain is None:
            step = getattr(self.model, keras_names.STEP_ATTRIBUTE[self.phase])
            self._plain = keras_names.make_plain_function(self.model, self.phase, lambda data: step(split_ids(data)[0]))
        return self._plain(iterator)

    def _graph_step(self, data: Any) -> Any:
        strategy = self.model.distribute_strategy
        self._decorated = None
        self._named = {}
        with self._make_tap() as tap:
            logs, pieces = strategy.run(self._replica_step(tap), args=(data,))
        if strategy.num_replicas_in_sync > 1:
            logs = merge_logs(strategy, logs)
        try:
            pieces = merge_pieces(strategy, pieces)
            if strategy.num_replicas_in_sync > 1:
                pieces["gradients"] = self._join_gradients(tap, pieces["gradients"])
            self._count.assign_add(1)
            vector = self._pack(tap, pieces)
        except Exception as error:
            tap.problems.append(f"What the step saw could not be gathered: {error!r}.")
            vector, _ = pack({}, self._remember(Layout([], {}, {}, {})))
        self._report(tap)
        return logs, vector

    def _eager_step(self, data: Any) -> Any:
        with self._make_tap() as tap:
            logs, pieces = self._replica_step(tap)(data)
        try:
            tensors = self._name_all(tap, pieces) | self._name_layers(pieces["layers"], self._figures)
            tensors |= self._name_layers(pieces["gradients"], self._gradient_figures)
            self._eager.append(Tensors(tensors, self._hints, time.time(), int(self._count)))
            self._count.assign_add(1)
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
        data, ids = self._take_ids(data, tap.problems)
        sight = tap.begin(data, ids)
        logs = user_step(data)
        # From here on the step is done: what is added cannot move its ids, and
        # metrics are updated again without being watched.
        tap.end()
        if tf.executing_eagerly():
            # `train_on_batch` hands NumPy's arrays to the step as they are. What is no structure of Keras' is told of
            # by `_gather`.
            with contextlib.suppress(Exception):
                sight.inputs, sight.batch = keras.tree.map_structure(copy_array, (sight.inputs, sight.batch))
        tensors, states = self._gather(tap, sight)
        layers, gradients = self._summarise(tap, sight)
        return logs, {"tensors": tensors, "states": states, "layers": layers, "gradients": gradients}

    def _summarise(self, tap: Tap, sight: Sight) -> tuple[Any, Any]:
        """Return the figures of layers and gradients.

        In a graph each is a vector with a flag; of several replicas the
        gradients are as they are, since only their sum is the batch's.
        """
        if tf.executing_eagerly():
            return self._summarise_due(tap, sight, int(self._count)), None
        layers = gradients = None
        try:
            shown = self._shown(tap, sight)
            self._figures = {f"layers/{name}": place for name, place in shown.plan().items()}
            layers = self._when_due(
                self._figures, lambda: [tf.reshape(group.figures, [-1]) for group in shown.summarise()]
            )
        except Exception as error:
            tap.problems.append(f"The layers could not be summarised: {error!r}.")
        try:
            named = self._gradients_of(tap, sight)
            if self.model.distribute_strategy.num_replicas_in_sync > 1:
                # All replicas name the same ones in the same order.
                self._named = named
                gradients = {name: [weight.parts[0] for weight in weights] for name, weights in named.items()}
            else:
                gradients = self._summarise_gradients(named)
        except Exception as error:
            tap.problems.append(f"The gradients could not be summarised: {error!r}.")
        return layers, gradients

    def _join_gradients(self, tap: Tap, parts: dict[str, list[Any]] | None) -> Any:
        """Return the figures of gradients of which each replica has a part."""
        try:
            return self._summarise_gradients(
                {
                    name: [weight._replace(parts=part) for weight, part in zip(weights, parts[name], strict=True)]
                    for name, weights in self._named.items()
                }
                if parts
                else {}
            )
        except Exception as error:
            tap.problems.append(f"The gradients could not be summarised: {error!r}.")
            return None

    def _summarise_gradients(self, gradients: dict[str, list[Weight]]) -> Any:
        lengths = plan_gradients(gradients)
        stops = itertools.accumulate(lengths.values())
        places = zip(lengths.items(), stops, strict=True)
        self._gradient_figures = {f"gradients/{name}": slice(stop - length, stop) for (name, length), stop in places}
        return self._when_due(self._gradient_figures, lambda: list(summarise_gradients(gradients).values()))

    def _when_due(self, figures: dict[str, slice], compute: Callable[[], list[Any]]) -> Any:
        """Return a flag and figures, computed where they are due, else 0."""
        if not figures:
            return None
        freqs = self._freqs()
        due = tf.reduce_any([tf.equal(self._count % freq, 0) for freq in freqs])

        def compute_all() -> Any:
            # Modulo what all of them divide, since a float32 counts to 2**24.
            flag = tf.cast(self._count % math.lcm(*freqs) + 1, tf.float32)
            return tf.concat([flag[None], *compute()], 0)

        length = 1 + max(place.stop for place in figures.values())
        return tf.cond(due, compute_all, lambda: tf.zeros([length]))

    def _name_layers(self, layers: Any, figures: dict[str, slice]) -> dict[str, Any]:
        """Name the figures of an eager step."""
        if layers is None or isinstance(layers, dict):
            return layers or {}
        # The step itself was a tf.function.
        if not layers[0]:
            return {}
        return {name: layers[1:][place] for name, place in figures.items()}

    def _name_all(self, tap: Tap, pieces: Any) -> dict[str, Any]:
        tensors = dict(pieces["tensors"])
        return tensors | self._read_metrics(tap, pieces["states"], has_loss="loss" in tensors)

    def _pack(self, tap: Tap, pieces: Any) -> Any:
        tensors = self._name_all(tap, pieces)
        tensors |= {name: pieces[name] for name in ("layers", "gradients") if pieces[name] is not None}
        leaves: list[Leaf] = []
        mark = self._remember(Layout(leaves, self._figures, self._gradient_figures, self._hints))
        vector, leaves[:] = pack(tensors, mark)
        return vector

    def _remember(self, layout: Layout) -> int:
        mark = next(_marks)
        self._layouts = self._layouts | {mark: layout}
        return mark


def _check_strategy(model: Any) -> None:
    """Refuse the distribution strategies whose steps cannot be watched.

    Raises:
        BatchViewError: Naming the strategy.
    """
    strategy = model.distribute_strategy
    if strategy.num_replicas_in_sync == 1 and not _spans_workers(strategy):
        return
    if type(strategy) is tf.distribute.MirroredStrategy and not model.run_eagerly:
        return
    raise BatchViewError(
        f"{type(strategy).__name__} with {strategy.num_replicas_in_sync} replicas is not supported"
        f"{' in eager mode' if model.run_eagerly else ''}; MirroredStrategy in graph mode is. Training is not touched."
    )


def _spans_workers(strategy: Any) -> bool:
    return isinstance(strategy, (tf.distribute.MultiWorkerMirroredStrategy, tf.distribute.ParameterServerStrategy))
