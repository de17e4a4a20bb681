"""Find a phase or an output by name, or say what there is instead.

Called by `log`, `run`, `batches`, `answers`, `plugin` and `export`. Reads
nothing.
"""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Mapping
from typing import Any

from tb_batchview.errors import ArgumentError, NotFoundError
from tb_batchview.records import OutputSpec
from tb_batchview.views import PhaseView, RunView

# Of anything: a number from a file is not to be trusted with memory.
MAX_CLASSES = 1_000_000


def find_phase(view: RunView, phase: str, run: str) -> PhaseView:
    """Return a phase of a run.

    Raises:
        NotFoundError: Nothing is recorded of it.
    """
    if phase not in view.phases:
        raise NotFoundError(unknown("phase", phase, view.phases, f"run {run!r}"))
    return view.phases[phase]


def find_output(view: RunView, output: str | None, run: str) -> tuple[str, OutputSpec]:
    """Return an output of a run; it need not be named if there is one.

    Raises:
        NotFoundError: There is no such output, or no output at all.
        ArgumentError: There are several and none is named.
    """
    if output is None:
        if len(view.outputs) > 1:
            raise ArgumentError(f"output must be named. Received: none. Run {run!r} has {_names(view.outputs)}.")
        output = next(iter(view.outputs), None)
        if output is None:
            raise NotFoundError(f"Run {run!r} has no output recorded yet.")
    if output not in view.outputs:
        raise NotFoundError(unknown("output", output, view.outputs, f"run {run!r}"))
    return output, view.outputs[output]


def check_classes(output: str, spec: OutputSpec) -> None:
    """Refuse an output whose samples have not one class each.

    Raises:
        ArgumentError: Its task is another, or it has absurdly many classes.
    """
    if not spec.has_classes:
        raise ArgumentError(
            f"A confusion matrix needs one class per sample. Received: output={output!r} of task {spec.task!r}."
        )
    if spec.classes > MAX_CLASSES:
        raise ArgumentError(
            f"At most {MAX_CLASSES} classes can be counted. Received: output={output!r} of {spec.classes} classes."
        )


def check_followed(output: str, spec: OutputSpec) -> None:
    """Refuse an output of which no class is learned.

    Raises:
        ArgumentError: Its samples have not one class each.
    """
    if not spec.has_classes:
        raise ArgumentError(
            f"A data map needs one class per sample. Received: output={output!r} of task {spec.task!r}."
        )


def unknown_step(columns: PhaseView, step: int) -> str:
    """Say that a step was not kept."""
    span = f"Kept are {len(columns)} from {columns.step[0]} to {columns.step[-1]}." if len(columns) else "None is kept."
    return f"step must be a batch that was kept. Received: step={step!r}. {span}"


def unknown(thing: str, name: object, known: Mapping[str, Any], where: str = "") -> str:
    """Say that a name is not known, and which are."""
    place = f" of {where}" if where else ""
    close = _closest(str(name), known)
    hint = f" Did you mean {close!r}?" if close is not None and len(known) > 1 else ""
    return f"{thing} must be one of those recorded{place}. Received: {thing}={name!r}. There is {_names(known)}.{hint}"


def _closest(name: str, known: Mapping[str, Any]) -> str | None:
    """Return the known name that is most like another, if one is."""
    # To compare costs their lengths multiplied.
    name, names = name[:200], list(itertools.islice(known, 1000))
    for other in names:
        # Cut short, or with the log directory in front.
        if name and (other.startswith(name) or name.endswith(f"/{other}")):
            return other
    return next(iter(difflib.get_close_matches(name, names, 1)), None)


def _names(known: Mapping[str, Any]) -> str:
    names = [repr(name) for name in known]
    if len(names) > 20:
        names = [*names[:20], f"and {len(names) - 20} more"]
    return ", ".join(names) or "none"
