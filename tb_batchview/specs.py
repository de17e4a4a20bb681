"""What each output of the model means, told from hints and first batches.

`writer` asks before it encodes; calls `tasks`. What the user says goes before
what the loss says, and that before what the arrays look like.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from tb_batchview import tasks
from tb_batchview.errors import ArgumentError
from tb_batchview.records import OutputRecord, OutputSpec
from tb_batchview.tasks import TaskHint

NO_HINT = TaskHint()


class _Signature(NamedTuple):
    """What a spec was told from, besides values.

    Attributes:
        hint: Of the loss.
        rank: Of the predictions; 0 without.
        scores: Their last axis.
        targets: Whether there were some.
    """

    hint: TaskHint
    rank: int
    scores: int
    targets: bool

    @classmethod
    def of(cls, hint: TaskHint, output: OutputRecord) -> _Signature:
        """Return what a batch has to tell."""
        shape = () if output.predictions is None else output.predictions.shape
        return cls(hint, len(shape), shape[-1] if len(shape) > 1 else 1, output.targets is not None)


class SpecBook:
    """Hold what the outputs so far mean; arrays of a new kind tell anew.

    Not for several threads at a time.
    """

    def __init__(
        self,
        class_names: tuple[str, ...] | Mapping[str, tuple[str, ...]] | None,
        task: str | Mapping[str, str],
    ) -> None:
        """Begin with what the user says, for all outputs or by output."""
        self._class_names = class_names
        self._task = task
        self._specs: dict[str, OutputSpec] = {}
        self._signatures: dict[str, _Signature] = {}
        # Handed out, and not changed again: one for all batches between two news.
        self._told: dict[str, OutputSpec] = {}
        self._checked: set[frozenset[str]] = set()
        # What the losses say, by output.
        self.hints: Mapping[str, TaskHint] = MappingProxyType({})

    def specs(self) -> Mapping[str, OutputSpec]:
        """Return the specs of all outputs so far, which later ones leave alone."""
        if self._told != self._specs:
            self._told = dict(self._specs)
        return self._told

    def tell(self, outputs: Mapping[str, OutputRecord]) -> None:
        """Tell what the outputs of a batch mean.

        Raises:
            ArgumentError: The user's word does not fit them.
        """
        names = frozenset(outputs)
        if names and names not in self._checked:
            self._check_names(names)
            self._checked.add(names)
        for name, output in outputs.items():
            self._tell(name, output)

    def tell_anyhow(self, outputs: Mapping[str, OutputRecord]) -> str:
        """Tell what the outputs mean, where nobody can be asked again.

        Returns:
            What is wrong with the user's word, if something is: it is then
            left out of the spec.
        """
        try:
            self.tell(outputs)
        except ArgumentError as error:
            # Once is enough.
            self._checked.add(frozenset(outputs))
            for name, output in outputs.items():
                try:
                    self._tell(name, output)
                except ArgumentError:
                    self._specs[name] = tasks.resolve_spec(NO_HINT, output.predictions, output.targets)
                    self._signatures[name] = _Signature.of(self.hints.get(name, NO_HINT), output)
            return str(error)
        return ""

    def _check_names(self, names: frozenset[str]) -> None:
        """Raise for words about outputs that do not exist."""
        for argument, given in (("class_names", self._class_names), ("task", self._task)):
            unknown = sorted(set(given) - names) if isinstance(given, Mapping) else []
            if unknown:
                raise ArgumentError(
                    f"{argument} must be for outputs of the model. Received: {unknown}. "
                    f"There are: {', '.join(sorted(names))}."
                )

    def _tell(self, name: str, output: OutputRecord) -> None:
        if output.predictions is None and output.targets is None:
            self._specs.setdefault(name, OutputSpec("regression", 0))
            return
        told = self._signatures.get(name)
        hint = self.hints.get(name, NO_HINT)
        signature = _Signature.of(hint, output)
        # What was told with targets holds without them.
        if told is not None and told in (signature, signature._replace(targets=True)):
            return
        task = self._task.get(name, "auto") if isinstance(self._task, Mapping) else self._task
        names = self._class_names.get(name) if isinstance(self._class_names, Mapping) else self._class_names
        if task == "binary" and signature.scores > 1 and output.predictions is not None:
            # A loss that says so may be that of several labels; the user is asked.
            raise ArgumentError(
                "Predictions of task 'binary' must have one score per sample. Received: predictions of shape "
                f"{output.predictions.shape}. Use task='multiclass' or 'multilabel'."
            )
        hint = TaskHint(hint.task if task == "auto" else task, hint.from_logits)
        self._specs[name] = tasks.resolve_spec(hint, output.predictions, output.targets, names)
        self._signatures[name] = signature
