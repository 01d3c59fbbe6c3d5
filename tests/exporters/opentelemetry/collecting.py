"""Read what a reader of OpenTelemetry's SDK collects, by names and attributes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from opentelemetry.sdk.metrics.export import InMemoryMetricReader, Metric

POOL = "db.client.connection.pool.name"
STATE = "db.client.connection.state"


class Collected(NamedTuple):
    """One collection of one reader: metrics of our scope by name."""

    metrics: Mapping[str, Metric]

    def points(self, name: str) -> list[Any]:
        """Return the data points of a metric; none if it was not collected."""
        return list(self.metrics[name].data.data_points) if name in self.metrics else []

    def point(self, name: str, **attributes: str) -> Any:
        """Return the one data point that has these attributes, whose dots are written as two underscores."""
        wanted = {key.replace("__", "."): value for key, value in attributes.items()}
        found = [point for point in self.points(name) if wanted.items() <= dict(point.attributes).items()]
        assert len(found) == 1, (name, wanted, found)
        return found[0]

    def value(self, name: str, **attributes: str) -> Any:
        """Return the one value that has these attributes."""
        return self.point(name, **attributes).value

    def pools(self) -> set[Any]:
        """Return the names of all pools that are told of."""
        return {point.attributes[POOL] for name in self.metrics for point in self.points(name)}


def collect(reader: InMemoryMetricReader, scope: str = "pool_exporter") -> Collected:
    """Let a reader collect now; return what it got of one scope."""
    data = reader.get_metrics_data()
    metrics: dict[str, Metric] = {}
    if data is not None:
        for resource in data.resource_metrics:
            for of_scope in resource.scope_metrics:
                if of_scope.scope.name == scope:
                    metrics.update({metric.name: metric for metric in of_scope.metrics})
    return Collected(metrics)
