"""Keep what each OpenTelemetry meter provider is told: one set of instruments over all of its pools."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry

from pool_exporter.catalogue import CATALOGUE
from pool_exporter.exporters.identity import Attributes, pool_attributes
from pool_exporter.exporters.opentelemetry import SCOPE, PoolInstruments, Samples
from pool_exporter.exporters.rivals import other_scopes, real_provider, serves_opentelemetry
from pool_exporter.exports import Bounds, Export, ExportOptions, Exports
from pool_exporter.instrumentation import Instrumentation
from pool_exporter.ledger import Ledger
from pool_exporter.records import PoolSnapshot

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider

RELIEF_SECONDS = 1.0
"""How often samples are recorded that wait for a collection."""
WAITING_SAMPLES = 256
"""How many samples of one histogram may wait for a collection; one comes every minute, by default."""
MOST_SAMPLES = 65_536
"""How many are kept at the most, where they come faster than they can be recorded."""
MOST_SAMPLES_UNASKED = 1_024
"""The same before the first collection, which may never come: then the last ones are kept."""

CONVENTIONAL = frozenset(m.opentelemetry_name for m in CATALOGUE if m.opentelemetry_name.startswith("db."))


class _Subject:
    """A pool that a provider is told of. Its ledger is kept until all of its samples are recorded."""

    def __init__(self, pool: Instrumentation) -> None:
        self.pool = weakref.ref(pool)
        self.ledger: Ledger = pool._ledger
        self.attributes: Attributes = pool_attributes(pool.snapshot())
        self.most = 0  # samples that its ledger keeps of each histogram

    def keep(self, most: int) -> None:
        """Let the ledger keep so many samples."""
        if self.most != most:
            self.ledger.keep_samples(most)
            self.most = most


class Telemetry:
    """The pools and the instruments of one meter provider.

    It lives as long as the provider, whose instruments call it, or one of its pools, which holds it.
    """

    def __init__(self, provider: MeterProvider, own: Export, warn_once: Callable[..., None]) -> None:
        self.own = own  # the pools that go to no registry, which have their names and groups here
        self._provider = provider
        self._warn_once = warn_once
        self._subjects: dict[int, _Subject] = {}  # by token
        self._registries: weakref.WeakSet[CollectorRegistry] = weakref.WeakSet()
        self._asked = False
        self._instruments = self._made(provider)

    def _made(self, provider: MeterProvider, *, renewed: bool = False) -> PoolInstruments:
        return PoolInstruments(
            provider,
            self._snapshots,
            self.own.bounds,
            detail=self.own.detail,
            without=self._left_to_others,
            failed=self.failed,
            renewed=renewed,
        )

    def failed(self, error: Exception) -> None:
        """Report what went wrong outside of any one pool."""
        self.own.faults.report("telemetry", error)

    def check(self, registry: CollectorRegistry | None) -> None:
        """Raise `ValueError` where a pool of that registry would be in one exposition twice."""
        if registry is not None and serves_opentelemetry(registry):
            raise ValueError(
                "registry: OpenTelemetry's PrometheusMetricReader serves this registry, and with meter_provider "
                "would serve every pool a second time; leave registry out, or give one of them a registry "
                "of its own (PrometheusMetricReader takes one too, and both can be served)"
            )

    def add(self, pool: Instrumentation, registry: CollectorRegistry | None) -> None:
        """Tell the provider of a pool from now on."""
        if registry is not None:
            self._registries.add(registry)
        subject = self._subjects[pool._token] = _Subject(pool)
        subject.keep(MOST_SAMPLES if self._asked else MOST_SAMPLES_UNASKED)
        pool._telemetry = self

    def remove(self, pool: Instrumentation) -> None:
        """Tell the provider no more of a pool; what was counted so far is recorded."""
        pool._telemetry = None
        subject = self._subjects.pop(pool._token, None)
        if subject is not None:
            self._record(subject, subject.ledger.samples())
            subject.keep(0)

    def _snapshots(self) -> Iterator[PoolSnapshot]:
        """Yield a snapshot of each pool, its samples up to then recorded, in the course of a collection.

        A pool that fails costs only itself.
        """
        self._asked = True
        if any(serves_opentelemetry(registry) for registry in self._registries):
            self._warn_once(
                "OpenTelemetry's PrometheusMetricReader serves a registry that has the pools already, so that a scrape "
                "has them twice; instrument() the engines without registry, or give the reader a registry of its own"
            )
        seen: set[str] = set()
        for token, subject in tuple(self._subjects.items()):
            try:
                snapshot = self._snapshot(token, subject, seen)
            except Exception as error:
                subject.ledger.faults.report("telemetry", error)
            else:
                if snapshot is not None:
                    yield snapshot

    def _snapshot(self, token: int, subject: _Subject, seen: set[str]) -> PoolSnapshot | None:
        """Return a pool's snapshot; None where it is gone, and what it has left is recorded."""
        pool = subject.pool()
        if pool is None or pool._gone():
            self._subjects.pop(token, None)
            self._record(subject, subject.ledger.samples())
            return None
        subject.keep(MOST_SAMPLES)
        snapshot, samples = pool._sampled()
        snapshot = _with_a_name_of_its_own(snapshot, seen)
        subject.attributes = pool_attributes(snapshot)
        self._record(subject, samples)
        return snapshot

    def _record(self, subject: _Subject, samples: Samples) -> None:
        for name, values in samples.items():
            if self._asked and len(values) >= MOST_SAMPLES:
                error = OverflowError(f"{name}: samples come faster than OpenTelemetry records them")
                subject.ledger.faults.report("telemetry.samples", error)
        self._instruments.record(subject.attributes, samples)

    def _left_to_others(self) -> frozenset[str]:
        """Return the names that somebody else emits already, of whom we warn: two sums are worse than one."""
        others = other_scopes(self._provider, CONVENTIONAL, SCOPE)
        for name, scope in others.items():
            self._warn_once(
                "%s is emitted by %r already, so pool_exporter leaves it out: a sum would count each connection twice; "
                "switch the other off to have the database's own numbers",
                name,
                scope,
            )
        return frozenset(others)

    def relieve(self) -> float | None:
        """Record samples that have waited long enough; return the seconds until the next time.

        None where there is nothing to wait for, as long as nobody has asked.
        """
        if not self._asked:
            return None
        if self._instruments.inherited:
            self._instruments = self._made(real_provider(self._provider), renewed=True)
        for subject in tuple(self._subjects.values()):
            try:
                samples = subject.ledger.samples(WAITING_SAMPLES)
                if samples:
                    self._record(subject, samples)
            except Exception as error:
                subject.ledger.faults.report("telemetry", error)
        return RELIEF_SECONDS if self._subjects else None


def _with_a_name_of_its_own(snapshot: PoolSnapshot, seen: set[str]) -> PoolSnapshot:
    """Return a snapshot whose name nobody else has: pools of two registries may have the same."""
    name, number = snapshot.name, 1
    while name in seen:
        number += 1
        name = f"{snapshot.name}-{number}"
    seen.add(name)
    return snapshot if name == snapshot.name else replace(snapshot, name=name)


class Telemetries:
    """Every meter provider's telemetry. Providers are held weakly."""

    def __init__(self, exports: Exports, warn_once: Callable[..., None]) -> None:
        self._exports = exports
        self._warn_once = warn_once
        self._by_provider: weakref.WeakKeyDictionary[MeterProvider, weakref.ref[Telemetry]] = (
            weakref.WeakKeyDictionary()
        )

    def of(self, provider: MeterProvider, options: ExportOptions, bounds: Bounds) -> Telemetry:
        """Return a provider's telemetry, its instruments made.

        Raises `ValueError` where its pools have other buckets or another level of detail.
        """
        ref = self._by_provider.get(provider)
        telemetry = None if ref is None else ref()
        if telemetry is None:
            own = Export(options.detail, bounds)
            telemetry = Telemetry(provider, own, self._warn_once)
            self._exports.add(own)
            self._by_provider[provider] = weakref.ref(telemetry)
        else:
            telemetry.own.check_same(options, "meter provider")
        return telemetry

    def relieve(self) -> float | None:
        """Record what has waited long enough; return the seconds until the next time, None for never."""
        pauses = []
        for ref in tuple(self._by_provider.values()):
            telemetry = ref()
            if telemetry is None:
                continue
            try:
                pause = telemetry.relieve()
            except Exception as error:
                telemetry.failed(error)
                pause = RELIEF_SECONDS
            if pause is not None:
                pauses.append(pause)
        return min(pauses, default=None)
