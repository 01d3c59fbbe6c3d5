"""Turn pool snapshots into prometheus_client metric families, at once or piece by piece.

A scrape of many pools must not hold an event loop, so whoever renders may ask for the families
of a registry through `next_family` and cut each of them with `pieces`: then the snapshots are
taken and the samples made a few at a time. A plain `registry.collect()` gets whole families.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar
from typing import NamedTuple

from prometheus_client.core import Metric as Family
from prometheus_client.core import Sample
from prometheus_client.registry import Collector

from pool_exporter.catalogue import Detail, prometheus_metrics
from pool_exporter.exporters.families import Make, PoolFamily
from pool_exporter.records import PoolSnapshot

SNAPSHOT_COST = 12
"""What taking one snapshot costs, in samples made and rendered."""

# True only while `next_family` runs: a plain collect of the same registry, at the same time in
# another thread or between two pieces, sees False and gets whole families.
_deferring: ContextVar[bool] = ContextVar("pool_exporter_deferring", default=False)


class PoolCollector(Collector):
    """Serve the snapshots of any number of pools to a prometheus_client registry.

    `source` is called once per scrape and gives the snapshots; a generator lets a piecewise
    scrape take them a few at a time. `detail` "basic" leaves out the metrics that the catalogue
    does not mark as basic. `process` gives the value of a `process` label on every series, None for
    no such label: where a scrape may meet one worker or another, what would look like a reset is then
    another series.
    """

    def __init__(
        self,
        source: Callable[[], Iterable[PoolSnapshot]],
        *,
        detail: Detail = "full",
        process: Callable[[], str | None] = lambda: None,
    ) -> None:
        self._source = source
        self._process = process
        self._families = tuple(PoolFamily.of(metric) for metric in prometheus_metrics(detail))
        self._described = tuple(PoolFamily.of(metric) for metric in prometheus_metrics("full"))

    def describe(self) -> Iterator[Family]:
        """Yield every family of the catalogue, whatever the detail, without samples.

        So a registry refuses a second holder of any of the names when it registers one of them.
        """
        for family in self._described:
            yield family.with_samples([])

    def collect(self) -> Iterator[Family]:
        """Yield one family per metric with the samples of all pools, each snapshot taken once."""
        process = self._process()
        if _deferring.get():
            scrape = _Scrape(self._source, process)
            for family in self._families:
                labels = _Deferred(family.make, scrape)
                yield family.with_samples([Sample(name, labels, 0) for name in family.sample_names])
            return
        snapshots = list(self._source())
        for family in self._families:
            samples = [sample for snapshot in snapshots for sample in family.make(snapshot)]
            yield family.with_samples(_labelled(samples, process))


class Piece(NamedTuple):
    """Hold a part of one family, and what it took to make and takes to render, in samples.

    `plain` says that its names are the catalogue's, which no format has to escape.
    """

    family: Family
    cost: int
    plain: bool


def next_family(families: Iterator[Family]) -> Family | None:
    """Return the next family of a registry's `collect()` for `pieces` to cut; None after the last.

    A family of a `PoolCollector` holds no samples yet, only one placeholder for each sample
    name, which a `restricted_registry` filters like a sample.
    """
    token = _deferring.set(True)
    try:
        return next(families, None)
    finally:
        _deferring.reset(token)


def pieces(family: Family, limit: int) -> Iterator[Piece]:
    """Yield a family of `next_family` in pieces of at most `limit` samples, at least one piece.

    A piece without samples is what remains of a family without any, or the taking of snapshots.
    """
    labels = family.samples[0].labels if family.samples else None
    plain = isinstance(labels, _Deferred)
    if isinstance(labels, _Deferred):
        batches = labels.batches(limit, {sample.name for sample in family.samples})
    else:
        batches = _batches(family.samples, limit)
    piece = family  # the first piece needs no other: a family checks its name when it is made
    for samples, cost in batches:
        piece.samples = samples
        yield Piece(piece, cost, plain)
        piece = Family(family.name, family.documentation, family.type, family.unit)


def _batches(samples: list[Sample], limit: int) -> Iterator[tuple[list[Sample], int]]:
    for start in range(0, len(samples) or 1, limit):
        batch = samples[start : start + limit]
        yield batch, len(batch)


def _labelled(samples: list[Sample], process: str | None) -> list[Sample]:
    """Add the `process` label to samples that were just made, if there is one."""
    if process is not None:
        for sample in samples:
            sample.labels["process"] = process
    return samples


class _Scrape:
    """Hold the snapshots of one scrape: each is taken once, when the first family needs it."""

    def __init__(self, source: Callable[[], Iterable[PoolSnapshot]], process: str | None) -> None:
        self.process = process
        self._source = source
        self._rest: Iterator[PoolSnapshot] | None = None
        self._taken: list[PoolSnapshot] = []

    def __iter__(self) -> Iterator[tuple[PoolSnapshot, int]]:
        """Yield each snapshot and what it cost to take now: nothing if it was taken before."""
        for snapshot in self._taken:
            yield snapshot, 0
        if self._rest is None:
            self._rest = iter(self._source())
        for snapshot in self._rest:
            self._taken.append(snapshot)
            yield snapshot, SNAPSHOT_COST


class _Deferred(dict[str, str]):
    """Stand in for the labels of samples to be made later; a dict, so that a registry passes it on."""

    def __init__(self, make: Make, scrape: _Scrape) -> None:
        super().__init__()
        self._make = make
        self._scrape = scrape

    def batches(self, limit: int, names: set[str]) -> Iterator[tuple[list[Sample], int]]:
        batch: list[Sample] = []
        cost = 0
        for snapshot, taking_cost in self._scrape:
            made = _labelled(self._make(snapshot), self._scrape.process)
            samples = [sample for sample in made if sample.name in names]
            added = len(samples) + taking_cost
            if cost and cost + added > limit:
                yield batch, cost
                batch, cost = [], 0
            batch += samples
            cost += added
            while len(batch) > limit:  # a single pool may have more: error labels, own buckets
                yield batch[:limit], limit
                batch = batch[limit:]
                cost = len(batch)
        yield batch, cost
