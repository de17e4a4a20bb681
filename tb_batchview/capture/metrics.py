"""The batch's own value of each metric, from the calls that the step made.

Keras' metrics accumulate over the epoch. The calls that `tap` remembered are
made again on fresh state, without touching the metric's own
(`Metric.stateless_update_state`, https://keras.io/api/metrics/base_metric).
Called by the steps after the user's step is done.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from tb_batchview.capture import keras_names
from tb_batchview.capture.summary import rank_of
from tb_batchview.capture.tap import Sight

_MUTABLE = (list, dict, set, np.ndarray)
# What a metric that is left out returns.
_NOTHING = object()


def replay_metrics(model: Any, sight: Sight, problems: list[str]) -> dict[str, list[Any]]:
    """Compute the state that each metric would have after this batch alone.

    Returns:
        States by the place of the metric. A metric that cannot be replayed is
        left out, with a sentence in `problems`.
    """
    states: dict[str, list[Any]] = {}
    for place, metric in enumerate(keras_names.metrics(model)):
        calls = sight.metric_calls.get(id(metric), [])
        if not calls:
            continue
        try:
            unfit = _find_unfit(metric)
            problems += [
                f"The metric {inner.name!r} has no value of its own for a batch: {reason}." for inner, reason in unfit
            ]
            if any(inner is metric for inner, _ in unfit):
                continue
            with _without(unfit):
                state = metric.stateless_reset_state()
                for args, kwargs in calls:
                    if not sight.all_belong((args, kwargs)):
                        raise ValueError("it is updated inside a loop or a branch of the graph")
                    state = _shaped(metric, metric.stateless_update_state(state, *args, **kwargs))
        except Exception as error:
            problems.append(f"The metric {metric.name!r} has no value of its own for a batch: {error!r}.")
            continue
        states[str(place)] = list(state)
    return states


def read_metrics(model: Any, states: dict[str, list[Any]], problems: list[str]) -> dict[str, Any]:
    """Turn the states of `replay_metrics` into values.

    Returns:
        Scalars by Keras' names.
    """
    values: dict[str, Any] = {}
    for place, metric in enumerate(keras_names.metrics(model)):
        if str(place) not in states:
            continue
        try:
            with _without(_find_unfit(metric)):
                result = metric.stateless_result(_shaped(metric, states[str(place)]))
        except Exception as error:
            problems.append(f"The metric {metric.name!r} could not be read: {error!r}.")
            continue
        values |= result if isinstance(result, dict) else {metric.name: result}
    tensors = {str(name): ops.convert_to_tensor(value) for name, value in values.items() if value is not _NOTHING}
    problems += [
        f"The metric {name!r} is not a single number and is not recorded."
        for name, value in tensors.items()
        if rank_of(value) != 0
    ]
    return {name: value for name, value in tensors.items() if rank_of(value) == 0}


def _find_unfit(metric: Any) -> list[tuple[Any, str]]:
    """Return what is unfit of a metric and those inside it, and why."""
    parts = [metric, *getattr(metric, "metrics", ())]
    return [(part, reason) for part in parts if (reason := _why_unfit(part))]


def _why_unfit(metric: Any) -> str:
    """Tell why an update on fresh state would change a metric, or ""."""
    own = keras_names.own_attributes(metric)
    held = vars(metric) if own is None else own
    kinds = keras_names.hidden_state_kinds() if own is None else (*keras_names.hidden_state_kinds(), *_MUTABLE)
    names = [name for name, value in held.items() if isinstance(value, kinds)]
    if not names:
        return ""
    return (
        f"it keeps its state in {', '.join(names)}, which Keras does not know of; use add_variable, and tuples for "
        "constants"
    )


def _shaped(metric: Any, state: Sequence[Any]) -> list[Any]:
    """Give state its static shapes, which Keras up to 3.12 insists on."""
    for value, variable in zip(state, metric.variables, strict=True):
        if hasattr(value, "set_shape"):
            value.set_shape(variable.shape)
    return list(state)


@contextlib.contextmanager
def _without(unfit: list[tuple[Any, str]]) -> Iterator[None]:
    """Have metrics return `_NOTHING`, and keep their state, for a while."""
    shadows = {
        "update_state": lambda metric: lambda *args, **kwargs: None,
        "result": lambda metric: lambda: _NOTHING,
        # Of the variables that Keras knows of, on the fresh state.
        "reset_state": lambda metric: functools.partial(keras.metrics.Metric.reset_state, metric),
    }
    before = [
        (metric, {name: metric.__dict__[name] for name in shadows if name in metric.__dict__}) for metric, _ in unfit
    ]
    try:
        for metric, _ in unfit:
            # Not setattr, which Keras tracks.
            metric.__dict__.update({name: make(metric) for name, make in shadows.items()})
        yield
    finally:
        for metric, own in before:
            for name in shadows:
                metric.__dict__.pop(name, None)
            metric.__dict__.update(own)
