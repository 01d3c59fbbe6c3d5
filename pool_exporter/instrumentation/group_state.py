"""The states of several pools added up to one."""

from __future__ import annotations

from collections.abc import Iterable

from pool_exporter.records import PoolState


def added_up(name: str, states: Iterable[PoolState]) -> PoolState:
    """Return the state of several pools as if they were one; what they do not agree on is left out."""
    states = list(states)
    first = states[0]
    counted = [state.slots_out for state in states if state.slots_out is not None]
    return PoolState(
        name=name,
        mode=first.mode,
        info={
            label: value
            for label, value in first.info.items()
            if all(state.info.get(label) == value for state in states)
        },
        size=_sum(state.size for state in states),
        max=_sum(state.max for state in states),
        timeout_seconds=_same(state.timeout_seconds for state in states),
        recycle_seconds=_same(state.recycle_seconds for state in states),
        live_pools=frozenset[int]().union(*(state.live_pools for state in states)),
        slots_out=sum(counted) if counted else None,
        steady=all(state.steady for state in states),
    )


def _sum(numbers: Iterable[int | None]) -> int | None:
    """Return the sum; None where one of them has no limit."""
    total = 0
    for number in numbers:
        if number is None:
            return None
        total += number
    return total


def _same(values: Iterable[float | None]) -> float | None:
    """Return what all of them are, else None."""
    found = set(values)
    return found.pop() if len(found) == 1 else None
