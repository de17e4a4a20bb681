"""Carries what was seen inside a gradient of JAX out of it.

What is computed while a gradient is taken belongs to the gradient's own trace
and can leave it only as an auxiliary output. While a step is watched
`jax.value_and_grad` and `jax.grad` are therefore replaced by ones that have
it among theirs; for other threads, and inside other transformations of the
user's, they are what they were. Called by `jax_step`.
"""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Callable, Iterator
from typing import Any

import jax

from tb_batchview.capture.tap import Sight

_NAMES = ("value_and_grad", "grad")
_lock = threading.Lock()
# What each thread watches, the innermost last.
_watched = threading.local()
# JAX's own functions and those in their place, while any thread watches.
_originals: dict[str, Callable[..., Any]] = {}
_replacements: dict[str, Callable[..., Any]] = {}
_watchers = 0


@contextlib.contextmanager
def carried_out(sight: Sight) -> Iterator[None]:
    """Carry what is seen in this thread out of the gradients it takes."""
    sights = _sights()
    sights.append(sight)
    _begin()
    try:
        yield
    finally:
        _end()
        sights.pop()


def _sights() -> list[Sight]:
    if not hasattr(_watched, "sights"):
        _watched.sights = []
    sights: list[Sight] = _watched.sights
    return sights


def _begin() -> None:
    global _watchers
    with _lock:
        if not _watchers:
            for name in _NAMES:
                _originals[name] = getattr(jax, name)
                _replacements[name] = _replace(name, _originals[name], _originals["value_and_grad"])
                setattr(jax, name, _replacements[name])
        _watchers += 1


def _end() -> None:
    global _watchers
    with _lock:
        _watchers -= 1
        if not _watchers:
            for name in _NAMES:
                # Whoever put another in its place meanwhile may keep it.
                if getattr(jax, name) is _replacements[name]:
                    setattr(jax, name, _originals[name])


def _replace(name: str, original: Callable[..., Any], value_and_grad: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def transform(fun: Any, argnums: Any = 0, has_aux: bool = False, *rest: Any, **options: Any) -> Any:
        plain = original(fun, argnums, has_aux, *rest, **options)

        @functools.wraps(plain)
        def call(*args: Any, **kwargs: Any) -> Any:
            sights = _sights()
            sight = sights[-1] if sights else None
            if sight is None or _is_inside_another(sight, (args, kwargs)):
                return plain(*args, **kwargs)

            @functools.wraps(fun)
            def seen(*args: Any, **kwargs: Any) -> Any:
                sight.scene.enter((args, kwargs))
                result = fun(*args, **kwargs)
                value, aux = result if has_aux else (result, None)
                return value, (aux, sight.take())

            inner = value_and_grad(seen, argnums, True, *rest, **options)
            (value, (aux, taken)), gradients = inner(*args, **kwargs)
            sight.put(taken)
            if name == "grad":
                return (gradients, aux) if has_aux else gradients
            return ((value, aux) if has_aux else value), gradients

        return call

    return transform


def _is_inside_another(sight: Sight, arguments: Any) -> bool:
    """Tell whether a gradient is taken inside a loop, a jit or a vmap.

    What is seen there cannot leave it, nor may its trace count as the step's.
    """
    # Made in the innermost trace that computes anything: a tracer of it.
    probe = jax.numpy.zeros(())
    return not all(
        sight.belongs(leaf)
        for leaf in [probe, *jax.tree_util.tree_leaves(arguments)]
        if isinstance(leaf, jax.core.Tracer)
    )
