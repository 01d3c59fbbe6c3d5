"""Keep what the pools that are gone had counted: to be told a last time, and for who comes by their name."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from pool_exporter.catalogue import CATALOGUE
from pool_exporter.exporters.opentelemetry.attributes import Attributes
from pool_exporter.exporters.opentelemetry.instruments import Reading
from pool_exporter.records import PoolSnapshot

FAREWELL_SECONDS = 120.0
"""How long a pool that is gone is told of where there are several readers: twice the SDK's own interval."""

COUNTERS = tuple(metric.field for metric in CATALOGUE if metric.kind == "counter")

_Key = frozenset[tuple[str, str | int]]


class _Farewell(NamedTuple):
    last: Reading
    since: float


class _Untold(NamedTuple):
    key: _Key
    before: Mapping[str, Any] | None  # the base of those before it
    base: Mapping[str, Any]


class RetiredPools:
    """The pools of one meter provider that are gone.

    Each is observed once more, so that what it had counted since the last collection is not lost. `alone`
    tells whether one reader takes everything; else, as nobody says who collects, the readers are given
    some time, and at least one collection.
    """

    def __init__(self, alone: Callable[[], bool], clock: Callable[[], float] = time.monotonic) -> None:
        self._alone = alone
        self._clock = clock
        # By attributes: the SDK goes on from there, so that a pool with the same ones must, too.
        self._bases: dict[_Key, Mapping[str, Any]] = {}
        self._farewells: dict[_Key, _Farewell] = {}
        self._untold: dict[int, _Untold] = {}  # by token: pools that go on counting

    def add(
        self,
        token: int,
        last: PoolSnapshot,
        attributes: Attributes,
        observed: PoolSnapshot | None,
        *,
        final: bool,
    ) -> None:
        """Keep the last snapshot of a pool, `observed` so far; one that is not `final` goes on counting, untold.

        What is still open when the counting ends may be counted by another, who takes it in: the books are closed.
        """
        last = self.counted_on(last, attributes)
        key = frozenset(attributes.items())
        if observed is None or not self._alone() or _counters(last) != _counters(observed):
            self._farewells[key] = _Farewell(Reading(last, attributes, gone=True), self._clock())
        before = self._bases.get(key)
        self._bases[key] = _counters(_closed(last) if final else last)
        if not final:
            self._untold[token] = _Untold(key, before, self._bases[key])

    def came_back(self, token: int, attributes: Attributes) -> None:
        """Take back what was kept of a pool that is told of again: it counts on by itself."""
        untold = self._untold.pop(token, None)
        if untold is None or self._bases.get(untold.key) is not untold.base:
            return
        if untold.key == frozenset(attributes.items()):
            if untold.before is None:
                del self._bases[untold.key]
            else:
                self._bases[untold.key] = untold.before

    def counted_on(self, snapshot: PoolSnapshot, attributes: Attributes) -> PoolSnapshot:
        """Return a snapshot whose counters go on from those of the pools that had the same attributes."""
        base = self._bases.get(frozenset(attributes.items()))
        if base is None:
            return snapshot
        return replace(
            snapshot, **{name: _added(getattr(snapshot, name), before) for name, before in base.items()}
        )

    def farewells(self, present: set[_Key]) -> Iterator[Reading]:
        """Yield the pools to tell of once more, which are not `present` again."""
        patience = 0.0 if self._alone() else FAREWELL_SECONDS
        for key, farewell in tuple(self._farewells.items()):
            if key not in present:
                yield farewell.last
            if key in present or self._clock() - farewell.since >= patience:
                self._farewells.pop(key, None)

    def clear(self) -> None:
        """Forget everything: in a forked process it is the parent's."""
        self._bases.clear()
        self._farewells.clear()
        self._untold.clear()


def _counters(snapshot: PoolSnapshot) -> Mapping[str, Any]:
    return {name: getattr(snapshot, name) for name in COUNTERS}


def _closed(last: PoolSnapshot) -> PoolSnapshot:
    """Return a snapshot in which nothing is open any more: what is out counts as detached, what is idle as lost."""
    closes = {**last.closes, "lost": last.closes.get("lost", 0) + last.idle}
    shared = max(0, last.uses - last.used)  # a connection that several have leaves once
    return replace(
        last, checkins=last.checkins + shared, detaches=last.detaches + last.uses - shared, closes=closes
    )


def _added(now: Any, before: Any) -> Any:
    if now is None or before is None:
        return before if now is None else now
    if isinstance(now, Mapping):
        return {key: now.get(key, 0) + before.get(key, 0) for key in {**before, **now}}
    return now + before
