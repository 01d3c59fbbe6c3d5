"""Map the catalogue's names to those that a Prometheus server has, by the road that they came.

Dashboards and rules are written once, in the catalogue's words, and spelled in either vocabulary.
"""

from __future__ import annotations

from typing import NamedTuple

from pool_exporter.catalogue.metric import Metric
from pool_exporter.catalogue.metrics import CATALOGUE

_METRICS = {metric.name: metric for metric in CATALOGUE}

POOL_ATTRIBUTE = "db.client.connection.pool.name"
_ATTRIBUTES = {
    "pool": POOL_ATTRIBUTE,
    "state": "db.client.connection.state",
    "error": "error.type",
}


def attribute_of(label: str) -> str:
    """Return the OpenTelemetry attribute of a label: the conventions' where they have one."""
    return _ATTRIBUTES.get(label, "sqlalchemy.pool." + label)


class Vocabulary(NamedTuple):
    """Spell metrics and labels of the catalogue as one kind of source writes them to Prometheus.

    `through_collector` stands for names that an OpenTelemetry Collector writes, with unit and type
    suffixes (its default); else they are those of `/metrics`.
    """

    name: str
    through_collector: bool

    @property
    def presence(self) -> str:
        """Return what is 1 for each instance that is there, whether or not it has pools.

        `up` is Prometheus's own, of a scrape; `target_info` comes with what is pushed.
        """
        return "target_info" if self.through_collector else "up"

    def metric(self, name: str) -> str:
        """Return the full name of a metric; of a histogram without `_bucket`, `_count` or `_sum`.

        Raises `KeyError` for what the catalogue does not have, or this vocabulary does not.
        """
        metric = _METRICS[name]
        if not self.through_collector:
            if not metric.in_prometheus:
                raise KeyError(f"{name}: exported to OpenTelemetry only")
            return metric.prometheus_name
        return _with_labels(metric).collector_name

    def label(self, label: str) -> str:
        """Return the name of a label of the catalogue's, or of `pool`; others, such as `job`, stay."""
        if not self.through_collector or label not in _LABELS:
            return label
        return attribute_of(label).replace(".", "_")


def _with_labels(metric: Metric) -> Metric:
    """Return what has the labels in OpenTelemetry, where the convention has a sum only."""
    if not metric.convention_sums:
        return metric
    return next(other for other in CATALOGUE if other.field == metric.field and not other.in_prometheus)


_LABELS = {"pool", *(label for metric in CATALOGUE for label in metric.labels)}

PROMETHEUS = Vocabulary("prometheus", through_collector=False)
OPENTELEMETRY = Vocabulary("opentelemetry", through_collector=True)
VOCABULARIES = {vocabulary.name: vocabulary for vocabulary in (PROMETHEUS, OPENTELEMETRY)}
