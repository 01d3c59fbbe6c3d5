"""One metric, as it is named and described in every vocabulary."""

from __future__ import annotations

from typing import Literal, NamedTuple

PREFIX = "sqlalchemy_pool_"
"""What every Prometheus name of this package starts with."""


Kind = Literal["gauge", "counter", "histogram", "info"]


OpenTelemetryKind = Literal[
    "observable_counter", "observable_up_down_counter", "observable_gauge", "histogram"
]


Detail = Literal["full", "basic"]


Merging = Literal["livesum", "livemax"]
"""How a gauge of several worker processes becomes one, in prometheus_client's words."""


_UNITS = {
    "seconds": "s",
    "connections": "{connection}",
    "uses": "{use}",
    "requests": "{request}",
    "processes": "{process}",
}


_CONVENTIONS_SAY = {
    "db.client.connection.count": "The number of connections that are currently in state described by the `state` attribute.",
    "db.client.connection.idle.max": "The maximum number of idle open connections allowed.",
    "db.client.connection.idle.min": "The minimum number of idle open connections allowed.",
    "db.client.connection.max": "The maximum number of open connections allowed.",
    "db.client.connection.pending_requests": "The number of current pending requests for an open connection.",
    "db.client.connection.timeouts": "The number of connection timeouts that have occurred trying to obtain a connection from the pool.",
    "db.client.connection.create_time": "The time it took to create a new connection.",
    "db.client.connection.wait_time": "The time it took to obtain an open connection from the pool.",
    "db.client.connection.use_time": "The time between borrowing a connection and returning it to the pool.",
}
"""Descriptions by the semantic conventions for database client metrics."""


class Metric(NamedTuple):
    """One metric, in every vocabulary.

    `name` is the Prometheus name without `PREFIX`, `_total` included. `unit` is what one step
    of the value is: "seconds" or a counted noun. `labels` come after `pool`; for a single
    bounded label `values` lists all its values, which are exported from the start. `open_label`
    marks a label whose values appear as they happen. `buckets` are upper bounds in seconds, the last one (+Inf) implied.
    `merging` says how a gauge of several worker processes becomes one. `convention_sums` says that
    OpenTelemetry's convention knows no labels: the instrument is the sum over `values`.
    """

    name: str
    kind: Kind
    unit: str
    help: str
    labels: tuple[str, ...] = ()
    values: tuple[str, ...] = ()
    open_label: bool = False
    buckets: tuple[float, ...] = ()
    convention: str | None = None
    convention_sums: bool = False
    basic: bool = False
    in_prometheus: bool = True
    attribute: str | None = None
    merging: Merging = "livesum"

    @property
    def field(self) -> str:
        """Return the attribute of `PoolSnapshot` that holds the value."""
        return self.attribute or self.name.removesuffix("_total")

    @property
    def prometheus_name(self) -> str:
        """Return the name of the metric family in the Prometheus text format, without suffixes."""
        return PREFIX + self.name

    @property
    def opentelemetry_name(self) -> str:
        """Return the instrument's name: the semantic convention's, or one made by its rules."""
        if self.convention is not None:
            return self.convention
        stem = self.name.removesuffix("_total")
        if stem.endswith("_seconds"):
            stem = stem.removesuffix("_seconds") + "_time"
        return "sqlalchemy.pool." + stem

    @property
    def opentelemetry_kind(self) -> OpenTelemetryKind:
        """Return the instrument: what can be added up over processes goes up and down."""
        if self.kind == "counter":
            return "observable_counter"
        if self.kind == "histogram":
            return "histogram"
        if self.unit in ("connections", "uses", "requests"):
            return "observable_up_down_counter"
        return "observable_gauge"

    @property
    def opentelemetry_help(self) -> str:
        """Return the instrument's description: the semantic convention's, or the help."""
        return _CONVENTIONS_SAY.get(self.opentelemetry_name, self.help)

    @property
    def opentelemetry_unit(self) -> str:
        """Return the instrument's unit in UCUM: `s`, or an annotation such as `{connection}`."""
        if self.kind == "info":
            return "1"
        return _UNITS.get(self.unit, "{" + self.unit.rstrip("s") + "}")

    @property
    def collector_name(self) -> str:
        """Return the name that an OpenTelemetry Collector writes to Prometheus.

        Source: the OpenTelemetry specification, "Prometheus and OpenMetrics Compatibility",
        with unit and type suffixes on (the default).
        """
        name = self.opentelemetry_name.replace(".", "_")
        if self.opentelemetry_unit == "s" and not name.endswith("_seconds"):
            name += "_seconds"
        if self.kind == "info":
            name += "_ratio"  # a gauge of unit 1
        if self.kind == "counter":
            name += "_total"
        return name
