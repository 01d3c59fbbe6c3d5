"""Make prometheus_client's samples of one metric of the catalogue from one pool's snapshot."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from operator import attrgetter
from typing import NamedTuple

from prometheus_client.core import Exemplar as PrometheusExemplar
from prometheus_client.core import Metric as Family
from prometheus_client.core import Sample
from prometheus_client.utils import floatToGoString

from pool_exporter.catalogue import Metric
from pool_exporter.records import Exemplar, HistogramSnapshot, PoolSnapshot

Make = Callable[[PoolSnapshot], list[Sample]]
"""Return the samples of one pool: none where the snapshot holds None."""


class PoolFamily(NamedTuple):
    """Hold how one metric of the catalogue looks to prometheus_client, and how its samples are made."""

    name: str
    help: str
    kind: str
    unit: str
    sample_names: tuple[str, ...]
    make: Make

    @classmethod
    def of(cls, metric: Metric) -> PoolFamily:
        """Return the family of a metric of the catalogue."""
        name = metric.prometheus_name
        sample_names: tuple[str, ...] = (name,)
        make: Make
        if metric.kind == "histogram":
            sample_names = (name + "_bucket", name + "_count", name + "_sum")
            make = _histogram(metric)
        elif metric.kind == "info":
            make = _info(metric)
        elif metric.labels:
            make = _labelled(metric)
        else:
            make = _single(metric)
        # A family's own name has no suffix: prometheus_client puts it on again for the text format.
        name = name.removesuffix({"counter": "_total", "info": "_info"}.get(metric.kind, ""))
        unit = "seconds" if name.endswith("_seconds") else ""
        return cls(name, metric.help, metric.kind, unit, sample_names, make)

    def with_samples(self, samples: list[Sample]) -> Family:
        """Return a new family of prometheus_client that holds `samples`."""
        family = Family(self.name, self.help, self.kind, self.unit)
        family.samples = samples
        return family


def _single(metric: Metric) -> Make:
    name, value_of = metric.prometheus_name, attrgetter(metric.field)

    def make(snapshot: PoolSnapshot) -> list[Sample]:
        value = value_of(snapshot)
        return [] if value is None else [Sample(name, {"pool": as_text(snapshot.name)}, value)]

    return make


def _labelled(metric: Metric) -> Make:
    """Make one sample per value of the only label; a bounded value that the mapping lacks is unknown."""
    name, value_of, values = metric.prometheus_name, attrgetter(metric.field), metric.values
    (label,) = metric.labels

    def make(snapshot: PoolSnapshot) -> list[Sample]:
        counts = value_of(snapshot)
        if counts is None:
            return []
        pool = as_text(snapshot.name)
        return [
            Sample(name, {"pool": pool, label: as_text(value)}, counts[value])
            for value in values or counts
            if value in counts
        ]

    return make


def _histogram(metric: Metric) -> Make:
    value_of = attrgetter(metric.field)
    bucket, count, total = (metric.prometheus_name + suffix for suffix in ("_bucket", "_count", "_sum"))

    def make(snapshot: PoolSnapshot) -> list[Sample]:
        histogram: HistogramSnapshot | None = value_of(snapshot)
        if histogram is None:
            return []
        pool = as_text(snapshot.name)
        samples = []
        cumulative = 0
        exemplars = histogram.exemplars
        for number, (le, within) in enumerate(
            zip(bucket_labels(histogram.bounds), histogram.counts, strict=True)
        ):
            cumulative += within
            exemplar = _exemplar(exemplars[number]) if number in exemplars else None
            samples.append(Sample(bucket, {"pool": pool, "le": le}, cumulative, None, exemplar))
        samples.append(Sample(count, {"pool": pool}, cumulative))
        samples.append(Sample(total, {"pool": pool}, histogram.sum))
        return samples

    return make


def _exemplar(exemplar: Exemplar) -> PrometheusExemplar:
    labels = {"trace_id": exemplar.trace_id, "span_id": exemplar.span_id}
    return PrometheusExemplar(labels, exemplar.seconds, exemplar.unix_time)


def _info(metric: Metric) -> Make:
    def make(snapshot: PoolSnapshot) -> list[Sample]:
        labels = {"pool": as_text(snapshot.name)}
        for label in metric.labels:
            if label in snapshot.info:
                labels[label] = as_text(snapshot.info[label])
        return [Sample(metric.prometheus_name, labels, 1)]

    return make


_le_of: Callable[[float], str] = floatToGoString  # untyped upstream


@lru_cache(maxsize=64)  # buckets are given per registry, so there are only a few
def bucket_labels(bounds: tuple[float, ...]) -> tuple[str, ...]:
    return (*(_le_of(bound) for bound in bounds), "+Inf")


def as_text(value: str) -> str:
    """Return a label value that UTF-8 can carry: a lone surrogate would fail the whole scrape."""
    return value if value.isascii() else value.encode("utf-8", "replace").decode("utf-8")
