"""Keep what each OpenTelemetry meter provider is told: one set of instruments over all of its pools."""

from __future__ import annotations

import contextlib
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry

from pool_exporter.catalogue import CATALOGUE
from pool_exporter.exporters.opentelemetry.exported_pool import ExportedPool
from pool_exporter.exporters.opentelemetry.instruments import SCOPE, PoolInstruments, Reading
from pool_exporter.exporters.opentelemetry.retired_pools import RetiredPools
from pool_exporter.exporters.opentelemetry.sdk import (
    has_sole_reader,
    other_scopes,
    real_provider,
    serves_opentelemetry,
    stands_for_none,
)
from pool_exporter.instrumentation.destinations import Destination
from pool_exporter.instrumentation.instrumentation import Instrumentation
from pool_exporter.ledger.ledger import Ledger
from pool_exporter.records import PoolSnapshot, PoolState, Samples

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider

PATIENCE_SECONDS = 5.0
"""How long a collection waits for samples that somebody else records just then."""
RELIEF_SECONDS = 1.0
"""How often samples are recorded that wait for a collection."""
WAITING_SAMPLES = 256
"""How many samples of one histogram may wait for a collection; one comes every minute, by default."""
MAX_SAMPLES = 65_536
"""How many are kept at the most, where they come faster than they can be recorded."""
MAX_SAMPLES_UNASKED = 1_024
"""The same while no provider is set, which may never be: then the last ones are kept."""

CONVENTIONAL = frozenset(m.opentelemetry_name for m in CATALOGUE if m.opentelemetry_name.startswith("db."))


class ProviderExporter:
    """The pools and the instruments of one meter provider.

    It lives as long as the provider, whose instruments call it, or one of its pools, which holds it.
    """

    def __init__(
        self,
        provider: MeterProvider,
        own: Destination,
        registries: Callable[[], Iterable[CollectorRegistry]],
        warn_once: Callable[..., None],
    ) -> None:
        self.asked = True  # whether the application did, or only who started the program
        self.own = own  # the pools that go to no registry, which have their names and groups here
        self._provider = provider
        self._registries = registries  # all that have pools
        self._warn_once = warn_once
        self._subjects: dict[int, ExportedPool] = {}  # by token
        self._asked = False
        self._left_out: frozenset[str] = frozenset()  # histograms that somebody else has, by catalogue name
        # Held while samples are taken and recorded: a collection waits for a batch in flight.
        self._recorded = threading.RLock()
        self._names: dict[str, int] = {}  # who is told of by a name, by token
        self._departed = RetiredPools(lambda: has_sole_reader(provider))
        self._retired: weakref.WeakSet[Instrumentation] = weakref.WeakSet()  # whose names others have now
        self._instruments = self._made(provider)

    def _made(self, provider: MeterProvider, *, renewed: bool = False) -> PoolInstruments:
        return PoolInstruments(
            provider,
            self._readings,
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

    def keep_samples(self, ledger: Ledger) -> None:
        """Let a ledger keep samples from its first count on, before its pool is added."""
        ledger.keep_samples(self._most_samples)

    def add(self, pool: Instrumentation) -> None:
        """Tell the provider of a pool from now on."""
        subject = self._subjects[pool._token] = ExportedPool(pool)
        snapshot = pool.snapshot()
        subject.told_as(snapshot, self._name_for(pool._token, subject, snapshot.name))
        self._departed.came_back(pool._token, subject.attributes)
        subject.keep(self._most_samples)
        pool._telemetry = self

    @property
    def _most_samples(self) -> int:
        return MAX_SAMPLES if self._recording else MAX_SAMPLES_UNASKED

    @property
    def _recording(self) -> bool:
        """Tell whether there is somebody who takes what is recorded."""
        return self._asked or not stands_for_none(self._provider)

    def remove(self, pool: Instrumentation, *, final: bool) -> None:
        """Tell the provider no more of a pool; what was counted so far is recorded.

        `final`: it counts no more either, so that another one may come by its name.
        """
        pool._telemetry = None
        subject = self._subjects.pop(pool._token, None)
        if subject is not None:
            self._depart(pool._token, subject, pool.snapshot(), final=final)

    def _depart(self, token: int, subject: ExportedPool, last: PoolSnapshot, *, final: bool) -> None:
        """Record what a pool has left, and keep what it had counted."""
        self._take_over(subject, subject.ledger.samples)
        subject.keep(0)
        self._departed.add(token, last, subject.attributes, subject.observed, final=final)

    def _readings(self) -> Iterator[Reading]:
        """Yield each pool as it is, its samples up to then recorded, in the course of a collection.

        Then those that are gone since the last one. A pool that fails costs only itself.
        """
        self._asked = True
        if any(serves_opentelemetry(registry) for registry in self._registries()):
            self._warn_once(
                "OpenTelemetry's PrometheusMetricReader serves a registry that has pools by their Prometheus names as well, "
                "so that a scrape has the same metrics twice; instrument() every engine with meter_provider and without "
                "registry, or give the reader a registry of its own"
            )
        for retired in tuple(self._retired):
            if not retired._over():
                self._retired.discard(retired)
                self.add(retired)
        present = set()
        for token, subject in tuple(self._subjects.items()):
            try:
                reading = self._reading(token, subject)
            except Exception as error:
                subject.ledger.faults.report("telemetry", error)
            else:
                if reading is not None:
                    present.add(frozenset(reading.attributes.items()))
                    yield reading
        try:
            yield from self._departed.farewells(present)
        except Exception as error:
            self.failed(error)

    def _reading(self, token: int, subject: ExportedPool) -> Reading | None:
        """Return a pool as it is; None where it is gone, and what it has left is recorded."""
        pool = subject.pool()
        if pool is None or pool._gone():
            self._subjects.pop(token, None)
            self._depart(token, subject, subject.ledger.snapshot(PoolState.unknown("")), final=True)
            return None
        subject.keep(MAX_SAMPLES)
        with self._waited():
            snapshot, samples = pool._sampled()
            snapshot = subject.told_as(snapshot, self._name_for(token, subject, snapshot.name))
            self._record(subject, samples)
        subject.observed = self._departed.counted_on(snapshot, subject.attributes)
        return Reading(subject.observed, subject.attributes)

    def _name_for(self, token: int, subject: ExportedPool, wanted: str) -> str:
        """Return a name that no other pool is told of by: those of two registries may have the same.

        A pool keeps it for as long as its own does not change, so that its series stay its own; one that is
        over gives it up, as in a registry.
        """
        if subject.named[0] != wanted:
            name, number = wanted, 1
            while self._names.get(name, token) != token and self._needs_name(self._names[name]):
                number += 1
                name = f"{wanted}-{number}"
            self._names[name] = token
            subject.named = (wanted, name)
        return subject.named[1]

    def _needs_name(self, token: int) -> bool:
        """Tell whether a pool goes on being told of; one that is over is told of no more, until it is used again."""
        subject = self._subjects.get(token)
        pool = subject.pool() if subject is not None else None
        if subject is None:
            return False
        if pool is not None and not pool._over():
            return True
        self._subjects.pop(token, None)
        last = subject.ledger.snapshot(PoolState.unknown("")) if pool is None else pool.snapshot()
        self._depart(token, subject, last, final=pool is None)
        if pool is not None:
            self._retired.add(pool)
        return False

    @contextlib.contextmanager
    def _waited(self) -> Iterator[None]:
        """Wait for who takes samples and records them; not for ever, since a fork may have cut him off."""
        taken = self._recorded.acquire(timeout=PATIENCE_SECONDS)
        try:
            yield
        finally:
            if taken:
                self._recorded.release()

    def _take_over(self, subject: ExportedPool, take: Callable[[], Samples]) -> None:
        with self._waited():
            samples = take()
            if samples:
                self._record(subject, samples)

    def _record(self, subject: ExportedPool, samples: Samples) -> None:
        samples = {name: values for name, values in samples.items() if name not in self._left_out}
        for name, values in samples.items():
            if self._recording and len(values) >= MAX_SAMPLES:
                error = OverflowError(f"{name}: samples come faster than OpenTelemetry records them")
                subject.ledger.faults.report("telemetry.samples", error)
        self._instruments.record(subject.attributes, samples)

    def _left_to_others(self) -> frozenset[str]:
        """Return the names that somebody else emits already, of whom we warn: two sums are worse than one."""
        others = self._others()
        for name, scope in others.items():
            self._warn_once(
                "%s is emitted by %r already, so pool_exporter leaves it out: a sum would count each connection twice; "
                "switch the other off to have the database's own numbers",
                name,
                scope,
            )
        return frozenset(others)

    def _others(self) -> dict[str, str]:
        others = other_scopes(self._provider, CONVENTIONAL, SCOPE)
        self._left_out = frozenset(m.name for m in CATALOGUE if m.opentelemetry_name in others)
        return others

    def relieve(self) -> float | None:
        """Record samples that have waited long enough; return the seconds until the next time.

        None where there is no pool.
        """
        if self._instruments.inherited:
            self._departed.clear()
            self._recorded = threading.RLock()
            if self._instruments.collected:
                self._instruments = self._made(real_provider(self._provider), renewed=True)
            else:
                self._instruments.adopt()
        if self._recording and not self._asked:
            self._others()  # as each collection does, once there are some
        for subject in tuple(self._subjects.values()) if self._recording else ():
            try:
                subject.keep(MAX_SAMPLES)
                self._take_over(subject, partial(subject.ledger.samples, WAITING_SAMPLES))
            except Exception as error:
                subject.ledger.faults.report("telemetry", error)
        return RELIEF_SECONDS if self._subjects else None
