"""Keep what the process exports: for each registry one collector over the pools that share it."""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, NamedTuple

from prometheus_client import CollectorRegistry

from pool_exporter.catalogue import Detail
from pool_exporter.exporters.prometheus import PoolCollector
from pool_exporter.instrumentation.pool_names import PoolNames
from pool_exporter.records import PoolSnapshot
from pool_exporter.support.faults import Faults
from pool_exporter.support.workers import process_label

if TYPE_CHECKING:
    from pool_exporter.instrumentation.instrumentation import Instrumentation
    from pool_exporter.instrumentation.monitored_pool import Group

Bounds = Mapping[str, tuple[float, ...]]


class DestinationOptions(NamedTuple):
    """What all pools of one registry share. `buckets` is None where none were asked for."""

    detail: Detail
    buckets: Bounds | None


class Destination:
    """The pools of one registry, and the collector that serves them."""

    def __init__(self, detail: Detail, bounds: Bounds) -> None:
        self.detail = detail
        self.bounds = bounds
        self.names: PoolNames[Instrumentation] = PoolNames(lambda pool: pool._over())
        self.groups: dict[str, Group] = {}  # by what was asked for; kept, so that nothing is uncounted
        self.faults = Faults()
        self.collector = PoolCollector(self.snapshots, detail=detail, process=process_label)

    def pools(self) -> list[Instrumentation]:
        """Return the pools that are still there, each with its name brought up to date."""
        pools = []
        for name, pool in self.names.items():
            pool._name = name
            try:
                gone = pool._gone()
            except Exception as error:
                gone = False
                pool._ledger.faults.report("gone", error)
            if not gone:
                pools.append(pool)
        return pools

    def check_same(self, options: DestinationOptions, destination: str) -> None:
        """Raise `ValueError` where other pools of the same destination have other buckets or details."""
        if options.buckets is not None and options.buckets != self.bounds:
            raise ValueError(
                f"buckets: this {destination}'s pools have other buckets already; give every instrument() "
                f"of one {destination} the same buckets, or pass another {destination}"
            )
        if self.detail != options.detail:
            raise ValueError(
                f"detail={options.detail!r}: this {destination}'s pools are exported with "
                f"detail={self.detail!r}; give every instrument() of one {destination} the same"
            )

    def snapshots(self) -> Iterator[PoolSnapshot]:
        """Yield a snapshot of each pool, one at a time; a pool that fails costs only itself.

        Whatever fails, the other metrics of the registry are served.
        """
        try:
            pools = self.pools()
        except Exception as error:
            self.faults.report("pools", error)
            return
        for pool in pools:
            try:
                snapshot = pool.snapshot()
            except Exception as error:
                pool._ledger.faults.report("snapshot", error)
            else:
                yield snapshot


class Destinations:
    """Every registry's export. Registries are held weakly."""

    def __init__(self) -> None:
        self._by_registry: weakref.WeakKeyDictionary[CollectorRegistry, Destination] = (
            weakref.WeakKeyDictionary()
        )
        self._unserved: Destination | None = None  # the pools of registry=None, which have names too
        self._others: weakref.WeakSet[Destination] = weakref.WeakSet()

    def of(
        self, registry: CollectorRegistry | None, options: DestinationOptions, bounds: Bounds
    ) -> Destination:
        """Return a registry's export, its collector registered.

        Raises `ValueError` where the registry has one of our names from elsewhere, or where its
        pools have other buckets or another level of detail.
        """
        if registry is None:
            if self._unserved is None:
                self._unserved = Destination(options.detail, bounds)
            return self._unserved
        export = self._by_registry.get(registry)
        if export is None:
            export = Destination(options.detail, bounds)
            _register(registry, export.collector)
            self._by_registry[registry] = export
        else:
            export.check_same(options, "registry")
        return export

    def add(self, export: Destination) -> None:
        """Know of the pools of another destination, as long as there is somebody else who holds it."""
        self._others.add(export)

    def served(self) -> list[Destination]:
        """Return the export of every registry."""
        return list(self._by_registry.values())

    def registries(self) -> list[CollectorRegistry]:
        """Return every registry that has pools."""
        return list(self._by_registry)

    def all(self) -> list[Destination]:
        """Return every export that there is."""
        found = [*self.served(), *self._others]
        return found if self._unserved is None else [*found, self._unserved]


def _register(registry: CollectorRegistry, collector: PoolCollector) -> None:
    try:
        registry.register(collector)
    except ValueError as error:
        raise ValueError(
            f"registry: it already has a metric that pool_exporter would export ({error}); "
            "unregister the other one, or pass registry=CollectorRegistry() and serve that"
        ) from error
