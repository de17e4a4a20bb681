"""`tag`: gives a tensor of a training step a name to be recorded under.

Called by the user's own models and steps. `capture` listens while it watches
a step; at any other time nobody does, and nothing is imported.
"""

from __future__ import annotations

import contextlib
import threading
import weakref
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
# Takes a name and a tensor, and tells whether they were meant for it.
Listener = Callable[[object, object], bool]

_lock = threading.Lock()
# Replaced as a whole, since any thread may be looping over it.
_listeners: tuple[Listener, ...] = ()
# What was tagged in a graph of TensorFlow while nobody listened: a function that
# is traced before the step is not run again in it, and its tags with it.
_unheard: weakref.WeakKeyDictionary[object, set[str]] = weakref.WeakKeyDictionary()


def tag(name: str, tensor: T) -> T:
    """Record a tensor of a training step under a name.

    To be called in a `train_step` or `test_step` or in the `call` of a layer
    or a model. While a `BatchViewCallback` records the step, the tensor is
    summarised as the output of a layer is, in every `histogram_freq`-th batch
    and whatever the callback's `layers` are: it stands among the layers,
    `run.layer(name)`, and in the tab Layers. At any other time nothing is
    done. Training stays the same either way.

    What is recorded is a summary: mean, spread, range, histogram, and the mean
    of each unit, which is the last axis. Of a single number that is the number
    itself, as `run.layer(name).mean`; a vector is kept whole as the
    `unit_means` of `tag(name, vector[None])`.

    A name that comes again in a step gets a number, as a layer that is called
    again does: "attention", "attention#1", … Of replicas the first one's
    tensor is recorded.

    It never raises. What cannot be recorded is warned of once: a tensor inside
    a loop, a branch or a compiled function of the step's own, since it cannot
    leave that (tag what is returned from it); what is no dense tensor of
    numbers; a name that is no printable str of 1 to 1000. In a training loop
    of your own give the array to `BatchWriter.add_batch(histograms=)`.

    Example:
    ```python
    class Attention(keras.layers.Layer):
        def call(self, inputs):
            scores = keras.ops.softmax(inputs @ keras.ops.transpose(inputs, (0, 2, 1)))
            return tag("attention", scores) @ inputs
    ```

    Args:
        name: What it is recorded as; "outer/inner" is a name, too.
        tensor: Numbers of any shape, of samples (samples, ..., units).

    Returns:
        The very tensor.
    """
    for listen in reversed(_listeners):
        if listen(name, tensor):
            return tensor
    with contextlib.suppress(Exception):  # Of an object that is no tensor, whatever that is.
        graph = getattr(tensor, "graph", None)
        if graph is not None:
            _unheard.setdefault(graph, set()).add(str(name))
    return tensor


def add_listener(listener: Listener) -> None:
    """Have a listener told of what is tagged from now on, the newest first."""
    global _listeners
    with _lock:
        _listeners = (*_listeners, listener)


def unheard_tags(graph: object) -> set[str]:
    """Return what was tagged in a graph while nobody listened."""
    return _unheard.get(graph, set())


def remove_listener(listener: Listener) -> None:
    """Tell a listener no more."""
    global _listeners
    with _lock:
        # Bound methods are equal when their objects are; those are compared by identity.
        _listeners = tuple(other for other in _listeners if other != listener)
