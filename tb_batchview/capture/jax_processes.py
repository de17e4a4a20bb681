"""Several processes of JAX that train one model together.

All of them must run the same compiled step, or JAX ends them. Called by
`jax_step` and, for the number of this process, by `install`.
"""

from __future__ import annotations

import collections
import time
from typing import Any

import jax

# How long a process waits for the others to have the callback too.
AGREE_SECONDS = 10.0
# How often each phase asked.
_asked: collections.Counter[str] = collections.Counter()
# Phases in which it turned out that not all of them do: nobody waits again.
_alone: set[str] = set()


# `jax._src.distributed.global_state` and its client's `key_value_set` and
# `blocking_key_value_get` (JAX 0.4 to 0.10). Without it processes are numbered
# by JAX itself, which looks for devices, and several of them are not recorded.
def _distributed_state() -> Any | None:
    try:
        from jax._src.distributed import global_state
    except ImportError:
        return None
    return global_state


def find_process() -> tuple[int, int]:
    """Return the number of this process of JAX, and how many there are."""
    state = _distributed_state()
    if state is None:
        return jax.process_index(), jax.process_count()
    if state.client is None:
        return 0, 1
    return int(state.process_id), int(state.num_processes)


def agree(phase: str, wishes: str) -> bool:
    """Tell whether all processes want to record the same of a phase.

    Each says what it wants, and waits for the others to do so. The first
    that knows decides for all of them; a no holds from then on.
    """
    client = getattr(_distributed_state(), "client", None)
    if client is None or _alone:
        return False
    number, count = find_process()
    _asked[phase] += 1
    prefix = f"tb_batchview/{phase}/{_asked[phase]}"
    end = time.monotonic() + AGREE_SECONDS
    try:
        client.key_value_set(f"{prefix}/{number}", wishes)
        found = [
            client.blocking_key_value_get(f"{prefix}/{other}", max(1, int(1000 * (end - time.monotonic()))))
            for other in range(count)
        ]
        verdict = "yes" if set(found) == {wishes} else "no"
    except Exception:  # Of JAX's own kind: nobody answered.
        verdict = "no"
    try:
        client.key_value_set(f"{prefix}/verdict", verdict)
    except Exception:  # Another was first.
        try:
            verdict = client.blocking_key_value_get(f"{prefix}/verdict", int(1000 * AGREE_SECONDS))
        except Exception:  # Nobody can be asked any more.
            verdict = "no"
    if verdict != "yes":
        _alone.add(phase)
    return not _alone


def rows_here(batch: Any) -> slice:
    """Return which rows of a batch lie in this process."""
    found = [leaf for leaf in jax.tree_util.tree_leaves(batch) if isinstance(leaf, jax.Array) and leaf.ndim]
    if not found:
        return slice(None)
    size = found[0].shape[0]
    places = found[0].sharding.addressable_devices_indices_map(found[0].shape).values()
    parts = [place[0].indices(size) for place in places if place is not None]
    return slice(min(start for start, _, _ in parts), max(stop for _, stop, _ in parts))


def part_here(value: Any, rows: slice | None) -> Any:
    """Return what is to be recorded of an array of several processes.

    Args:
        value: Anywhere on the devices of all.
        rows: Those of the batch that lie here, where the array has one row
            for each sample.
    """
    if not isinstance(value, jax.Array) or value.is_fully_addressable or not value.is_fully_replicated:
        return value
    here = value.addressable_data(0)
    return here if rows is None or not here.ndim else here[rows]
