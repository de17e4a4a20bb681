"""Follow a sample by its id: when it was seen, and what it was.

Called by `run`, `batches` and `answers`. Calls `identity` for which samples are
the same one, `dynamics` for what that tells and `inputs` for their pictures.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tb_batchview import dynamics
from tb_batchview.dynamics import DataMap, Dynamics, History
from tb_batchview.errors import ArgumentError, FormatError, NotFoundError
from tb_batchview.identity import NO_CODE, Ids
from tb_batchview.inputs import Input, count_inputs, first_places, read_input
from tb_batchview.places import Place, Reader
from tb_batchview.records import Array
from tb_batchview.views import SAMPLE_COLUMNS, PhaseView, RunView, SampleView

# A picture is looked for in so many batches of its id; so many odd ones are counted.
MAX_TIMES = 16
MAX_ODD_INPUTS = 1_000


def identify(view: RunView, columns: PhaseView, output: str, reader: Reader) -> Ids:
    """Tell which samples of an output are the same one.

    Raises:
        NotFoundError: None has an id.
        ArgumentError: There are too many.
    """
    ids = _identify(view, columns, output, reader)
    if not ids.count:
        raise NotFoundError(
            f"Samples can be followed only by their ids, and phase {columns.name!r} has none. "
            "Record them: add_batch(…, sample_ids=ids), or model.fit(with_ids(x, ids), y)."
        )
    return ids


def follow(ids: Ids, samples: SampleView, first: int, last: int) -> Dynamics:
    """Return the dynamics by code, in batches `first` to `last`."""

    def work_out() -> Dynamics:
        names = ("target", "predicted", "confidence", "target_score")
        values = [samples.column(name, first, last) for name in names]
        return dynamics.follow_samples(_part(ids.codes, samples, first, last), ids.count, *values)

    found: Dynamics = ids.keep(("follow", first, last), work_out)
    return found


def map_samples(ids: Ids, samples: SampleView, first: int, last: int) -> DataMap:
    """Return the data map of the ids in batches `first` to `last`."""
    codes = np.unique(_part(ids.codes, samples, first, last))
    codes = codes[codes >= 0]
    found = follow(ids, samples, first, last)
    names = list(ids.names())
    whole = all(isinstance(item, int) and item < 2**63 for item in names)
    return DataMap(
        **{figure: getattr(found, figure)[codes] for figure in dynamics.FIGURES},
        ids=np.array(names, np.int64 if whole else object)[codes],
    )


def trace(columns: PhaseView, output: str, numbers: Array) -> History:
    """Return what was seen in some samples, by their numbers."""
    samples = columns.samples(output)
    rows = np.searchsorted(samples.starts, numbers, side="right") - 1
    found = {name: samples.part(name, 0, int(samples.starts[-1]))[numbers] for name in SAMPLE_COLUMNS}
    target, predicted = found["target"], found["predicted"]
    error = found.pop("error")
    if "error" not in samples.columns:
        known = (target >= 0) & (predicted >= 0)
        error = np.where(known, target != predicted, np.nan).astype(np.float32)
    return History(
        step=columns.step[rows],
        epoch=columns.epoch[rows],
        sample=numbers - samples.starts[rows],
        loss=found.pop("sample_loss"),
        error=error,
        **found,
    )


def find_input(view: RunView, columns: PhaseView, number: int, row: int, reader: Reader) -> Input | None:
    """Return what a sample was: see `Run.input_of`."""
    place = view.place(columns, number)
    if not 0 <= row < count_inputs(place):
        return None
    found = _read_input(view, place, row)
    if found is not None:
        return found
    output = next((output for output, kind in place.layout.arrays if kind == "sample_ids"), None)
    if output is None or not view.has_inputs(columns):
        return None
    for other, sample in _same(view, columns, output, number, row, reader):
        elsewhere = view.place(columns, other)
        found = _read_input(view, elsewhere, sample)
        if found is not None:
            return found
    return None


def _read_input(view: RunView, place: Place, row: int) -> Input | None:
    try:
        return read_input(place, row)
    except FormatError:
        odd = view._odd_inputs
        if len(odd) < MAX_ODD_INPUTS:
            odd.add((place.path, place.position, row))
        return None


def _same(
    view: RunView, columns: PhaseView, output: str, number: int, row: int, reader: Reader
) -> Iterator[tuple[int, int]]:
    """Yield where else the sample of a batch is, the first few times."""
    try:
        ids = _identify(view, columns, output, reader)
    except ArgumentError:  # too many samples to follow
        return
    starts = columns.samples(output).starts
    own = int(starts[number]) + row
    if own >= int(starts[number + 1]) or ids.codes[own] == NO_CODE:
        return
    code = int(ids.codes[own])
    first = int(ids.keep("first places", lambda: first_places(ids.codes, ids.count))[code])

    def where(place: int) -> tuple[int, int]:
        batch = int(np.searchsorted(starts, place, side="right")) - 1
        return batch, place - int(starts[batch])

    yield where(first)
    # That batch was dropped of its pictures, or is not kept: rare, and it costs a look at all codes.
    for place in np.flatnonzero(ids.codes == code)[1:MAX_TIMES].tolist():
        yield where(place)


def _identify(view: RunView, columns: PhaseView, output: str, reader: Reader) -> Ids:
    samples = columns.samples(output)

    def read(row: int) -> Array | None:
        place = view.place(columns, row)
        slot = place.layout.arrays.get((output, "sample_ids"))
        try:
            return None if slot is None else reader(place, slot)
        except FormatError:  # these ids are not strings after all: a bad batch must not hide the others
            return None

    if samples.places is None:
        return samples.identity.follow(samples.starts, read)
    # Each worker's are followed for themselves: what they add to a batch may come late.
    places = samples.places
    return samples.identity.join(
        lambda: [
            (_identify(view, shard, output, reader), places(worker)) for worker, shard in enumerate(columns.shards)
        ],
        int(samples.starts[-1]),
    )


def _part(column: Array, samples: SampleView, first: int, last: int) -> Array:
    """Return a column of the samples of batches `first` to `last`."""
    return column[samples.starts[first] : samples.starts[last]]
