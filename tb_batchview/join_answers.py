"""What the route `joined` answers: the samples that two runs both saw, by id.

Called by `plugin`. Calls `answers` for what is asked about, `run` for the ids and
`comparison` for the classes.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt

from tb_batchview import analysis, comparison, lookup
from tb_batchview.answers import MAX_LIMIT, Answer, Chosen, Page, describe_samples
from tb_batchview.http import Parameters
from tb_batchview.identity import NO_CODE, Ids
from tb_batchview.samples import Filter, Followed, Samples

Array = npt.NDArray[Any]

# Of A right and B right, A right and B wrong, ...
JOINT = ("both_correct", "only_a", "only_b", "both_wrong")
FIGURES = ("loss", "confidence", "target_score")
SORTS = ("id", *FIGURES, *(f"{name}_against" for name in FIGURES), *(f"{name}_change" for name in FIGURES))


@dataclasses.dataclass(frozen=True)
class Side:
    """The samples of one run, each id once: as it was last in the range.

    Attributes:
        number: By code, the number of the sample; -1 where it is not in range.
    """

    chosen: Chosen
    ids: Ids
    samples: Samples
    number: Array


def joined(chosen: Chosen, against: Chosen, parameters: Parameters) -> Answer:
    """Return a page of the samples that both runs saw, and how they came out."""
    comparison.check_tasks(chosen.spec, against.spec)
    for item in (chosen, against):
        lookup.check_classes(item.output, item.spec)
    joint = parameters.choice("joint", ("all", *JOINT), "all")
    sort, descending = parameters.choice("sort", SORTS, "id"), parameters.flag("descending")
    wanted = {name: parameters.optional_whole(name, high=2**31 - 1) for name in ("target", "predicted")}
    page = Page.of(parameters, MAX_LIMIT)
    has_ids = [item.view.has_ids(item.phase, item.output) for item in (chosen, against)]
    answer: Answer = {"identified": has_ids[0], "identified_against": has_ids[1], "total": 0, "offset": page.offset}
    nothing = dict.fromkeys(JOINT, 0)
    if not all(has_ids):
        return answer | {"counts": nothing, "only_in_a": 0, "only_in_b": 0, "targets_differ": 0, "samples": []}
    one, two = read_side(chosen), read_side(against)
    numbers, others, alone = match_samples(one, two)
    outcome = judge(one, two, numbers, others)
    counts = np.bincount(outcome[outcome >= 0], minlength=len(JOINT)).tolist()
    keep = outcome >= 0 if joint == "all" else outcome == JOINT.index(joint)
    for name, value in wanted.items():
        if value is not None:
            keep &= one.samples.take(name, numbers) == value
    differ = count_other_targets(one, two, numbers[outcome >= 0], others[outcome >= 0])
    numbers, others, outcome = numbers[keep], others[keep], outcome[keep]
    order = page.cut(analysis.sort_order(keys_of(sort, one, two, numbers, others), descending=descending))
    rows = describe_samples(chosen, one.samples, numbers[order], with_scores=False)
    partners = describe_samples(against, two.samples, others[order], with_scores=False)
    for row, partner, number in zip(rows, partners, outcome[order].tolist(), strict=True):
        row |= {"against": partner, "joint": JOINT[number]}
    return answer | {
        "total": len(numbers),
        "counts": dict(zip(JOINT, counts, strict=True)),
        "only_in_a": alone[0],
        "only_in_b": alone[1],
        "targets_differ": differ,
        "samples": rows,
    }


def read_side(chosen: Chosen) -> Side:
    """Find each id of the range where it was last."""
    ids = chosen.run.identify(chosen.phase, chosen.output)
    samples = chosen.samples(chosen.first, chosen.last, Followed(ids))
    last = samples.find(Filter(each="last"), "step", limit=max(1, len(samples)))[0]
    codes = samples.codes(last)
    number = np.full(ids.count, NO_CODE, np.int64)
    number[codes[codes >= 0]] = last[codes >= 0]
    return Side(chosen, ids, samples, number)


def match_samples(one: Side, two: Side) -> tuple[Array, Array, tuple[int, int]]:
    """Return the numbers of the samples that both have, and who has others.

    Returns:
        Of each id in both, in the order in which A first saw them: the number
        of its sample in A and in B. Then how many ids only A has, and only B.
    """
    codes = one.ids.match(two.ids)
    there = codes >= 0
    others = np.where(there, two.number[np.where(there, codes, 0)] if two.ids.count else NO_CODE, NO_CODE)
    both = (one.number >= 0) & (others >= 0)
    alone = int((one.number >= 0).sum() - both.sum()), int((two.number >= 0).sum() - both.sum())
    return one.number[both], others[both], alone


def judge(one: Side, two: Side, numbers: Array, others: Array) -> Array:
    """Return which of `JOINT` each sample is; -1 without target or prediction."""
    known, wrong = np.ones(len(numbers), bool), []
    for side, taken in ((one, numbers), (two, others)):
        target, predicted = side.samples.take("target", taken), side.samples.take("predicted", taken)
        known &= (target >= 0) & (predicted >= 0)
        wrong.append(target != predicted)
    return np.where(known, 2 * wrong[0] + wrong[1], NO_CODE)


def count_other_targets(one: Side, two: Side, numbers: Array, others: Array) -> int:
    """Count the samples that have another target in B."""
    matched = comparison.match_classes(one.chosen.spec, two.chosen.spec).numbers
    target = one.samples.take("target", numbers)
    fits = target < len(matched)
    return int(
        (np.where(fits, matched[np.where(fits, target, 0)], NO_CODE) != two.samples.take("target", others)).sum()
    )


def keys_of(sort: str, one: Side, two: Side, numbers: Array, others: Array) -> Array:
    """Return what the samples are sorted by."""
    if sort == "id":
        return np.arange(len(numbers))
    name = sort.removesuffix("_against").removesuffix("_change")
    if sort == name:
        return one.samples.take(name, numbers)
    other = two.samples.take(name, others)
    if sort.endswith("_against"):
        return other
    with np.errstate(invalid="ignore"):
        change: Array = one.samples.take(name, numbers).astype(np.float64) - other
    return change
