"""Turn pool snapshots into OpenTelemetry instruments: counts observed, histograms recorded at collection.

What can be counted is observed, all of one collection from one snapshot of each pool. Histograms have
no observable instrument, so their single samples wait until then, and are recorded before the SDK
collects them: it runs the callbacks of observable instruments first.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from importlib.metadata import version
from operator import attrgetter
from typing import TYPE_CHECKING, Any, NamedTuple

from pool_exporter.catalogue import Detail, Metric, opentelemetry_metrics
from pool_exporter.catalogue.vocabularies import attribute_of
from pool_exporter.exporters.families import as_text
from pool_exporter.exporters.opentelemetry.attributes import Attributes
from pool_exporter.records import PoolSnapshot, Samples

if TYPE_CHECKING:
    from opentelemetry.metrics import CallbackOptions, Meter, MeterProvider, Observation

SCOPE = "pool_exporter"
"""The name of the instrumentation scope."""
SCHEMA_URL = "https://opentelemetry.io/schemas/1.44.0"
"""The semantic conventions by which the names, units and attributes are."""

Point = tuple[Attributes, float]
Points = Callable[[PoolSnapshot, Attributes], list[Point]]


class Reading(NamedTuple):
    """What one collection observes of a pool; of one that is gone, only what it had counted."""

    snapshot: PoolSnapshot
    attributes: Attributes
    gone: bool = False


class PoolInstruments:
    """The instruments of one meter provider, for all of its pools.

    `read` gives the pools, once in each collection, and records what there is to record. `bounds` are
    advice: a view overrules them. `without` gives the OpenTelemetry names of what is not to be observed;
    `failed` is told what went wrong in a callback, which the SDK would only log. In a process that was forked
    after something was collected or recorded they do nothing: their storage has the parent's numbers, so it
    needs `renewed` ones.
    """

    def __init__(
        self,
        provider: MeterProvider,
        read: Callable[[], Iterable[Reading]],
        bounds: Mapping[str, Sequence[float]],
        *,
        detail: Detail = "full",
        without: Callable[[], frozenset[str]] = frozenset,
        failed: Callable[[Exception], None] = lambda error: None,
        renewed: bool = False,
    ) -> None:
        from opentelemetry.metrics import Observation  # noqa: PLC0415 - an optional dependency

        self._observation = Observation
        self._without_span = _context(None)  # what is counted is of no span, also not of that which collects
        self.collected = False  # whether the SDK has something in its storage
        self._pid = os.getpid()
        self._read = read
        self._without = without
        self._failed = failed
        self._thread = _Thread()
        scope = {"process.pid": self._pid} if renewed else None
        meter = provider.get_meter(SCOPE, version(SCOPE), SCHEMA_URL, scope)
        metrics = opentelemetry_metrics(detail)
        self._histograms = {
            metric.name: meter.create_histogram(
                metric.opentelemetry_name,
                metric.opentelemetry_unit,
                metric.opentelemetry_help,
                explicit_bucket_boundaries_advisory=list(bounds[metric.name]),
            )
            for metric in metrics
            if metric.kind == "histogram"
        }
        self._observed = [metric for metric in metrics if metric.kind != "histogram"]
        self._instruments = [self._observable(meter, metric) for metric in self._observed]

    @property
    def inherited(self) -> bool:
        """Tell whether they were made in a process from which this one was forked."""
        return self._pid != os.getpid()

    def adopt(self) -> None:
        """Go on in a forked process, where nothing of the parent's is in their storage."""
        self._pid = os.getpid()
        self._thread = _Thread()

    def record(self, attributes: Attributes, samples: Samples) -> None:
        """Record single samples of a pool's histograms, each with the span that was current."""
        self.collected = self.collected or bool(samples)
        for name, values in samples.items():
            histogram = self._histograms.get(name)
            if histogram is None:  # left out of the basic ones
                continue
            record, without_span = histogram.record, self._without_span
            for value in values:
                if isinstance(value, tuple):
                    record(value[0], attributes, _context(value[1]))
                else:
                    record(value, attributes, without_span)

    def _observable(self, meter: Meter, metric: Metric) -> Any:
        create = getattr(meter, "create_" + metric.opentelemetry_kind)
        callback = partial(self._observe, metric, _points_of(metric))
        return create(
            metric.opentelemetry_name,
            [callback],
            unit=metric.opentelemetry_unit,
            description=metric.opentelemetry_help,
        )

    def _observe(self, metric: Metric, points: Points, _options: CallbackOptions) -> Iterator[Observation]:
        try:
            if self.inherited:
                if self.collected:
                    return
                self.adopt()  # nothing of the parent's is in their storage
            collection = self._collection(metric)
            if metric.opentelemetry_name in collection.without:
                return
            for reading in collection.pools:
                if reading.gone and metric.kind != "counter":
                    continue
                for labelled, value in points(reading.snapshot, reading.attributes):
                    yield self._observation(value, labelled, self._without_span)
        except Exception as error:
            self._failed(error)

    def _collection(self, metric: Metric) -> _Collection:
        """Return what this collection observes: the first callback of it reads, by which the others go.

        Which one that is, is the SDK's affair; but each is called once.
        """
        thread = self._thread
        current = thread.collection
        if current is None or metric.name in current.asked:
            self.collected = True
            without = self._without()
            current = thread.collection = _Collection(without, list(self._read()))
        current.asked.add(metric.name)
        if len(current.asked) == len(self._observed):
            thread.collection = None
        return current


class _Collection:
    """What one collection observes, and which metrics have asked for it."""

    def __init__(self, without: frozenset[str], pools: list[Reading]) -> None:
        self.without = without
        self.pools = pools
        self.asked: set[str] = set()


class _Thread(threading.local):
    """The collection that goes on in a thread: several readers may collect at the same time."""

    collection: _Collection | None = None


def _points_of(metric: Metric) -> Points:
    """Return what makes the values of a metric, each with its attributes, from a pool's snapshot."""
    value_of = attrgetter(metric.field)
    if metric.kind == "info":
        keys = {label: attribute_of(label) for label in metric.labels}

        def info(snapshot: PoolSnapshot, pool: Attributes) -> list[Point]:
            said = {keys[label]: as_text(snapshot.info[label]) for label in keys if snapshot.info.get(label)}
            return [({**pool, **said}, 1)]

        return info
    if not metric.labels or metric.convention_sums:

        def single(snapshot: PoolSnapshot, pool: Attributes) -> list[Point]:
            value = value_of(snapshot)
            if value is None:
                return []
            return [(pool, sum(value.values()) if metric.convention_sums else value)]

        return single
    (label,) = metric.labels
    key = attribute_of(label)

    def labelled(snapshot: PoolSnapshot, pool: Attributes) -> list[Point]:
        counts = value_of(snapshot)
        if counts is None:
            return []
        return [
            ({**pool, key: as_text(value)}, counts[value])
            for value in metric.values or counts
            if value in counts
        ]

    return labelled


def _context(span: Any) -> Any:
    """Return the context in which a sample is recorded: the span's that was current then, or none's.

    An empty one will not do, in whose place the SDK takes that of whoever collects.
    """
    from opentelemetry.context import Context  # noqa: PLC0415 - an optional dependency
    from opentelemetry.trace import (  # noqa: PLC0415
        INVALID_SPAN,
        NonRecordingSpan,
        set_span_in_context,
    )

    return set_span_in_context(INVALID_SPAN if span is None else NonRecordingSpan(span), Context())
