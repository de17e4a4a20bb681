"""Leaves a model as it was found, whatever evaluating it changed.

`predictions` runs batches through a model inside `left_as_found`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np

from tb_batchview.capture import arrays, keras_names


@contextlib.contextmanager
def left_as_found(model: Any) -> Iterator[None]:
    """Put back what evaluation changes: metrics, seeds, compiled functions.

    Args:
        model: A Keras model. Weights are trusted not to be trained here.
    """
    functions = {name: getattr(model, name, None) for name in keras_names.EVALUATING_ATTRIBUTES}
    keras_names.bring_back_variables(model)
    variables = _variables(model)
    values = [_hold(variable.value) for variable in variables]
    undo = [undo for metric in keras_names.all_metrics(model) for undo in _hidden_state(metric)]
    known = {id(variable) for variable in variables}
    try:
        yield
    finally:
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)
        # Those that Keras made for the first batch.
        for metric in model.metrics:
            if any(id(variable) not in known for variable in metric.variables):
                metric.reset_state()
        for put_back in undo:
            put_back()
        for name, function in functions.items():
            setattr(model, name, function)


def _variables(model: Any) -> list[Any]:
    """Return the variables that Keras may change without training."""
    found = [*model.non_trainable_variables, *model.metrics_variables]
    return list({id(variable): variable for variable in found}.values())


def _hold(value: Any) -> Any:
    """Return what a variable holds now: nothing changes it later."""
    if hasattr(value, "read_value"):  # TensorFlow, which writes elsewhere while anybody reads.
        return value.read_value()
    # On JAX what Keras' functions were given is gone afterwards.
    return value.copy() if hasattr(value, "copy") else arrays.keep(value)


def _hidden_state(metric: Any) -> Iterator[Callable[[], None]]:
    """Yield what puts back the state that Keras does not know of."""
    own = keras_names.own_attributes(metric)
    for name, value in (vars(metric) if own is None else own).items():
        if isinstance(value, keras_names.hidden_state_kinds()):
            yield _assign(value, _hold(value))
        elif own is not None and not isinstance(value, keras.Variable):
            yield _put_back(metric, name, value)


def _assign(variable: Any, value: Any) -> Callable[[], None]:
    return lambda: variable.assign(value)


def _put_back(metric: Any, name: str, value: Any) -> Callable[[], None]:
    """Return what makes an attribute the object it was, with its content."""
    content: Any = value.copy() if isinstance(value, (list, dict, set, np.ndarray)) else None

    def put_back() -> None:
        # Not setattr, which Keras tracks.
        vars(metric)[name] = value
        if isinstance(value, (list, np.ndarray)):
            value[:] = content
        elif isinstance(value, (dict, set)):
            value.clear()
            value.update(content)

    return put_back
