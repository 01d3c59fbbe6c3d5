"""Hold what a pool has done since it was instrumented: counters, distributions, spent seconds."""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Mapping
from typing import Any

from pool_exporter.catalogue import (
    CATALOGUE,
    CLOSE_REASONS,
    INVALIDATION_KINDS,
    MAX_ERROR_LABELS,
    MAX_OWNERS,
    OTHER,
    SUSPICION_KINDS,
)
from pool_exporter.records import Exemplar, HistogramSnapshot, Sample

HISTOGRAMS = tuple(metric.name for metric in CATALOGUE if metric.kind == "histogram")


class Histogram:
    """Count seconds into buckets; one increment found by bisection, no lock of its own.

    `samples` are the single samples that were counted and not yet taken, where somebody wants them.
    """

    __slots__ = ("_exemplars", "bounds", "counts", "samples", "sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0
        self.samples: deque[Sample] | None = None
        self._exemplars: dict[int, tuple[float, Any, float]] = {}  # by bucket, with the clock's reading

    def observe(self, seconds: float, span: Any = None, at: float = 0.0) -> None:
        """Count one sample; a sample equal to a bound falls at that bound.

        `span` is the context of OpenTelemetry's current span, if there was one, and `at` the time.
        """
        self.counts[bisect_left(self.bounds, seconds)] += 1
        self.sum += seconds
        if span is not None or self.samples is not None:
            self.keep(seconds, span, at)

    def keep(self, seconds: float, span: Any, at: float) -> None:
        """Keep a sample that was counted for whoever wants single ones, and as its bucket's exemplar."""
        if span is not None and span.trace_flags.sampled:
            self._exemplars[bisect_left(self.bounds, seconds)] = (seconds, span, at)
            if self.samples is not None:
                self.samples.append((seconds, span))
        elif self.samples is not None:
            self.samples.append(seconds)

    def take(self) -> deque[Sample]:
        """Return the samples that were kept, and keep no longer those."""
        taken = self.samples
        if not taken:
            return deque()
        self.samples = deque(maxlen=taken.maxlen)
        return taken

    def snapshot(self, epoch: float = 0.0) -> HistogramSnapshot:
        """Return a frozen copy; `epoch` is the Unix time at which the clock read 0."""
        exemplars = {
            bucket: Exemplar(seconds, f"{span.trace_id:032x}", f"{span.span_id:016x}", epoch + at)
            for bucket, (seconds, span, at) in self._exemplars.items()
        }
        return HistogramSnapshot(self.bounds, tuple(self.counts), self.sum, exemplars)


class ErrorCounts:
    """Count by error name, with a bounded number of names; later ones count under `other`."""

    __slots__ = ("counts",)

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}

    def add(self, name: str) -> None:
        """Count one error."""
        if name not in self.counts and len(self.counts) >= MAX_ERROR_LABELS:
            name = OTHER
        self.counts[name] = self.counts.get(name, 0) + 1


class Account:
    """What one owner has done with the pool's connections."""

    __slots__ = ("leaks", "name", "used_seconds")

    def __init__(self, name: str) -> None:
        self.name = name
        self.leaks = 0  # uses suspected or collected, each once
        self.used_seconds = 0.0  # of uses that ended


class Accounts:
    """Keep the accounts of a bounded number of owners; what later ones do goes to `other`."""

    __slots__ = ("by_owner",)

    def __init__(self) -> None:
        self.by_owner: dict[str, Account] = {}

    def of(self, owner: str) -> Account:
        """Return an owner's account, opened at its first use."""
        account = self.by_owner.get(owner)
        if account is None:
            if len(self.by_owner) >= MAX_OWNERS and owner != OTHER:
                return self.of(OTHER)
            account = self.by_owner[owner] = Account(owner)
        return account


class Counts:
    """Every cumulative number of one pool, by its catalogue name."""

    __slots__ = (
        "accounts",
        "adopted",
        "cancelled_acquires",
        "checkins",
        "checkouts",
        "closes",
        "connect_errors",
        "connect_seconds",
        "connects",
        "detaches",
        "disconnects",
        "failed_acquires",
        "invalidations",
        "leaks_collected",
        "leaks_recovered",
        "leaks_suspected",
        "pre_ping_failures",
        "pre_ping_seconds",
        "queued_seconds",
        "reset_failures",
        "stale_age_seconds",
        "stale_idle_seconds",
        "statements",
        "stranded_waits",
        "timeouts",
        "use_seconds",
        "used_seconds",
        "wait_seconds",
        "waits",
    )

    def __init__(self, bounds: Mapping[str, tuple[float, ...]]) -> None:
        self.checkouts = self.adopted = self.checkins = self.detaches = self.leaks_collected = 0
        self.timeouts = self.cancelled_acquires = self.failed_acquires = 0
        self.waits = self.stranded_waits = 0
        self.connects = self.statements = self.pre_ping_failures = self.reset_failures = 0
        self.queued_seconds = 0.0  # of waits that ended
        self.used_seconds = 0.0  # of uses that ended
        self.closes = dict.fromkeys(CLOSE_REASONS, 0)
        self.invalidations = dict.fromkeys(INVALIDATION_KINDS, 0)
        self.leaks_suspected = dict.fromkeys(SUSPICION_KINDS, 0)
        self.leaks_recovered = dict.fromkeys(SUSPICION_KINDS, 0)
        self.accounts = Accounts()
        self.connect_errors = ErrorCounts()
        self.disconnects = ErrorCounts()
        self.wait_seconds = Histogram(bounds["wait_seconds"])
        self.use_seconds = Histogram(bounds["use_seconds"])
        self.connect_seconds = Histogram(bounds["connect_seconds"])
        self.pre_ping_seconds = Histogram(bounds["pre_ping_seconds"])
        self.stale_idle_seconds = Histogram(bounds["stale_idle_seconds"])
        self.stale_age_seconds = Histogram(bounds["stale_age_seconds"])

    @property
    def histograms(self) -> dict[str, Histogram]:
        """Return the distributions by their catalogue names."""
        return {name: getattr(self, name) for name in HISTOGRAMS}

    def keep_samples(self, most: int) -> None:
        """Keep single samples from now on, the last `most` of each histogram; none where that is 0."""
        for histogram in self.histograms.values():
            histogram.samples = deque(histogram.samples or (), maxlen=most) if most else None
