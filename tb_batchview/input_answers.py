"""What the routes answer about inputs: a sample's picture or text.

Called by `plugin`. Calls `answers` for what is asked about, `run` for what was
recorded and `pictures` for files that ids name.
"""

from __future__ import annotations

from typing import NamedTuple

from tb_batchview import answers
from tb_batchview.answers import Answer, Chosen
from tb_batchview.checks import Finding, printable
from tb_batchview.http import Picture, missing
from tb_batchview.pictures import FLAG, ImagesDirectory
from tb_batchview.views import PhaseView, RunView, Token

# Phases whose forms are remembered.
_MOST_KNOWN = 10_000


class _Known(NamedTuple):
    """What is known of the inputs of a phase.

    Attributes:
        batches: When this was found.
        recorded: "images", "text", or None for nothing.
        named: Whether samples have texts as ids, as names of files are.
    """

    batches: int
    recorded: str | None
    named: bool


class Inputs:
    """What can be shown of what the models were given."""

    def __init__(self, directory: str) -> None:
        """Remember the user's choice.

        Args:
            directory: Where ids of samples name picture files, or "".
        """
        self._images = ImagesDirectory(directory) if directory else None
        self._known: dict[tuple[Token, str], _Known] = {}

    def find_kind(self, view: RunView, phase: PhaseView) -> str | None:
        """Tell what is shown of a phase: "images", "text" or None."""
        known = self._known.get((view._token, phase.name))
        if known is None or known.batches != len(phase):
            known = _look(view, phase)
            if len(self._known) >= _MOST_KNOWN:
                self._known.clear()
            self._known[view._token, phase.name] = known
        if known.recorded is None and known.named and self._images is not None and self._images.exists:
            return "images"
        return known.recorded

    def find(self, chosen: Chosen, step: int, number: int) -> Picture | Answer:
        """Return a sample's input as it was recorded, or the file its id names.

        Raises:
            NotFoundError: There is none.
        """
        row = chosen.row_with(step, number)
        found = chosen.run.input_of(chosen.phase.name, step, number)
        if isinstance(found, str):
            return {"text": found}
        if found is not None:
            content_type, content = found
            return Picture(content, content_type)
        name = answers.read_per_sample(chosen, [(row, number)], "sample_ids")[0]
        if self._images is not None and isinstance(name, str):
            return self._images.find(name)
        raise missing(
            f"The input of sample {number} of batch {step} was not recorded. "
            f"Record inputs, or show files that are named by the ids of samples: tensorboard {FLAG} DIR."
        )

    def check(self) -> list[Finding]:
        """Look at the directory of pictures by id, if there is to be one."""
        if self._images is None:
            return []
        about, place = "pictures by id", printable(self._images.path)
        if self._images.exists:
            return [Finding(about, f"files in {place}")]
        return [Finding(about, f"{place} is no directory", f"tensorboard {FLAG} DIR, where the ids name files")]


def _look(view: RunView, phase: PhaseView) -> _Known:
    forms = list(view.list_layouts(phase))
    recorded = {layout.form for layout in forms if layout.inputs is not None}
    ids = (slot for layout in forms for (_, kind), slot in layout.arrays.items() if kind == "sample_ids")
    named = any(slot.dtype is None for slot in ids)
    return _Known(len(phase), ("images" if "image" in recorded else "text") if recorded else None, named)
