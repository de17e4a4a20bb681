"""Watches one training or evaluation step while Python runs it.

Between `__enter__` and `__exit__` of a `Tap` (the trace of a graph, or one
eager step) methods of the model, its losses, metrics, layers and optimizer
are shadowed in the instances' own `__dict__`. The shadows only remember the
tensors that pass: they add no operation and return the very same objects, so
that the step computes what it always did. `step` makes a Tap around the
user's step and asks it afterwards what it saw.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import TracebackType
from typing import Any

import tensorflow as tf

from tb_batchview.capture import keras_names

# A call: the positional and the named arguments.
Call = tuple[tuple[Any, ...], dict[str, Any]]


class Tap:
    """What one step of a model showed.

    Attributes:
        loss_inputs: y, y_pred and sample_weight of the first `compute_loss`.
        loss: What it returned: with regularisers, before any scaling.
        sample_losses: What each loss returned per sample, in Keras' order.
        metric_calls: The `update_state` calls by metric.
        activations: Outputs by layer name; "name#1" is the second call.
        in_loop: Names of layers that ran inside a loop of the graph, whose
            tensors cannot leave it.
        problems: What could not be watched, one sentence each.
    """

    def __init__(self, model: Any, layers: dict[str, Any]) -> None:
        """Prepare to watch `model` and the given layers by name."""
        self.loss_inputs: dict[str, Any] | None = None
        self.loss: Any = None
        self.sample_losses: list[Any] = []
        self.metric_calls: list[tuple[Any, list[Call]]] = []
        self.activations: dict[str, Any] = {}
        self.in_loop: set[str] = set()
        self.problems: list[str] = []
        self._model = model
        self._layers = layers
        self._graph: Any = None
        self._shadows: list[tuple[Any, str, Any]] = []

    def __enter__(self) -> Tap:
        """Begin to watch."""
        self._graph = None if tf.executing_eagerly() else tf.compat.v1.get_default_graph()
        try:
            self._shadow_all()
        except Exception as error:  # A guest must not stop the step.
            self._restore()
            self.problems.append(f"The step could not be watched: {error!r}.")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave every object as it was found."""
        self._restore()

    def belongs(self, value: Any) -> bool:
        """Tell whether a value is a tensor of the step itself."""
        if not isinstance(value, tf.Tensor):
            return False
        return self._graph is None or getattr(value, "graph", None) is self._graph

    def _shadow_all(self) -> None:
        self._shadow(self._model, "compute_loss", self._see_loss)
        for flat in keras_names.flat_losses(self._model):
            self._shadow(flat.loss, "call", self._see_sample_loss)
        compiled = keras_names.compiled_loss(self._model)
        if compiled is not None and not getattr(compiled, "built", True):
            # The losses are made in the first trace, inside `build`.
            self._shadow(compiled, "build", self._see_loss_build)
        self._shadow_metrics()
        for name, layer in self._layers.items():
            self._shadow(layer, keras_names.call_attribute(layer), functools.partial(self._see_layer, name))

    def _shadow_metrics(self) -> None:
        known = {id(metric) for metric, _ in self.metric_calls}
        for metric in keras_names.metrics(self._model):
            if id(metric) not in known:
                calls: list[Call] = []
                self.metric_calls.append((metric, calls))
                self._shadow(metric, "update_state", functools.partial(self._see_metric, calls))

    def _shadow(self, owner: Any, attribute: str, see: Callable[[Any, Call], None]) -> None:
        if any(shadowed is owner and name == attribute for shadowed, name, _ in self._shadows):
            return  # One loss object may serve several outputs.
        original = getattr(owner, attribute)

        # Without functools.wraps: AutoGraph, in a train_step that is itself a
        # tf.function, would look through the shadow and convert the original.
        def shadow(*args: Any, **kwargs: Any) -> Any:
            result = original(*args, **kwargs)
            try:
                see(result, (args, kwargs))
            except Exception as error:  # A guest must not stop the step.
                self.problems.append(f"{type(owner).__name__}.{attribute} could not be watched: {error!r}.")
            return result

        # Not setattr: Keras' tracks what is set on a layer.
        self._shadows.append((owner, attribute, owner.__dict__.get(attribute)))
        owner.__dict__[attribute] = shadow

    def _restore(self) -> None:
        while self._shadows:
            owner, attribute, before = self._shadows.pop()
            if before is None:
                owner.__dict__.pop(attribute, None)
            else:
                owner.__dict__[attribute] = before

    def _see_loss(self, result: Any, call: Call) -> None:
        if self.loss_inputs is not None:
            return
        names = ("x", "y", "y_pred", "sample_weight")
        self.loss_inputs = dict(zip(names, call[0], strict=False)) | {
            name: call[1][name] for name in names if name in call[1]
        }
        if self.belongs(result):
            self.loss = result

    def _see_loss_build(self, result: Any, call: Call) -> None:
        for flat in keras_names.flat_losses(self._model):
            self._shadow(flat.loss, "call", self._see_sample_loss)
        # Several losses come with a running mean each.
        self._shadow_metrics()

    def _see_sample_loss(self, result: Any, call: Call) -> None:
        self.sample_losses.append(result if self.belongs(result) else None)

    def _see_metric(self, calls: list[Call], result: Any, call: Call) -> None:
        calls.append(call)

    def _see_layer(self, name: str, result: Any, call: Call) -> None:
        value = next((leaf for leaf in tf.nest.flatten(result) if isinstance(leaf, tf.Tensor)), None)
        if value is None:
            return
        if not self.belongs(value):
            self.in_loop.add(name)
            return
        key, count = name, 0
        while key in self.activations:
            count += 1
            key = f"{name}#{count}"
        self.activations[key] = value
