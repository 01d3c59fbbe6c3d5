"""What OpenTelemetry's SDK really tells of a pool has the names and labels that the dashboards ask for."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Iterator

import promql_parser as promql
import pytest
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from prometheus_client import REGISTRY
from sqlalchemy import Engine, QueuePool, create_engine, text
from sqlalchemy.exc import DBAPIError, OperationalError

from pool_exporter import instrument
from pool_exporter.catalogue.vocabularies import OPENTELEMETRY
from pool_exporter.monitoring.dashboards import NAMES, Words, dashboard
from tests.monitoring.dashboards.expressions import parsed, walked
from tests.monitoring.dashboards.linter import panels_of

TARGET_LABELS = {"job", "instance"}
"""A Collector makes them of the resource's service.name and service.instance.id."""


@pytest.fixture(scope="module")
def told() -> Iterator[dict[str, set[str]]]:
    """Return the labels of each series that an engine's life tells of, its troubles included."""
    reader = PrometheusMetricReader()
    provider = MeterProvider([reader])
    engine = create_engine("sqlite://", poolclass=QueuePool, pool_pre_ping=True, pool_recycle=600)
    unreachable = create_engine("postgresql+psycopg://nobody@127.0.0.1:1/none")
    instrument(engine, name="told", meter_provider=provider)
    instrument(unreachable, name="unreachable", meter_provider=provider)
    live(engine)
    with contextlib.suppress(OperationalError):
        unreachable.connect()
    try:
        labels: dict[str, set[str]] = defaultdict(set)
        for family in REGISTRY.collect():
            for sample in family.samples:
                if "db_client_connection_pool_name" in sample.labels:
                    labels[sample.name] |= set(sample.labels)
        yield dict(labels)
    finally:
        provider.shutdown()


def live(engine: Engine) -> None:
    """Use a connection, find one dead at the pre-ping, and one dead in use."""
    with engine.connect() as connection:
        idle = connection.connection.dbapi_connection
    assert idle is not None
    idle.close()
    with engine.connect() as connection:
        dead = connection.connection.dbapi_connection
        assert dead is not None
        dead.close()
        with contextlib.suppress(DBAPIError):
            connection.execute(text("SELECT 1"))


@pytest.mark.parametrize("name", NAMES)
def test_every_series_of_the_dashboards_is_told(told: dict[str, set[str]], name: str) -> None:
    """Each selector's metric is there, with each label that it matches or is grouped by."""
    for panel in panels_of(dashboard(name, Words(OPENTELEMETRY))):
        for target in panel["targets"]:
            for node, above in walked(parsed(target["expr"])):
                if not isinstance(node, promql.VectorSelector) or node.name == "ALERTS":
                    continue
                # A gauge of unit 1 is a ratio to a Collector; Python's own exporter does not say so.
                series = str(node.name).removesuffix("_ratio")
                assert series in told, panel["title"]
                used = {matcher.name for matcher in node.matchers.matchers}
                nearest = next(
                    (one for one in reversed(above) if isinstance(one, promql.AggregateExpr)), None
                )
                if nearest is not None and nearest.modifier is not None:
                    used |= set(nearest.modifier.labels)
                assert used - told[series] - TARGET_LABELS == set(), (panel["title"], series)
