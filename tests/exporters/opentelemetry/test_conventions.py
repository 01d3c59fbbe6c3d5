"""Hold the instruments against the semantic conventions, of which `conventions.json` is a copy: facts only.

A change of the conventions is a change of that file, and then of the catalogue.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.semconv import schemas
from opentelemetry.semconv._incubating.attributes.db_attributes import DbSystemNameValues
from opentelemetry.semconv._incubating.metrics import db_metrics
from sqlalchemy import Engine
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from pool_exporter import instrument
from pool_exporter.catalogue import CATALOGUE
from pool_exporter.exporters.opentelemetry.attributes import _SYSTEMS
from pool_exporter.exporters.opentelemetry.instruments import SCHEMA_URL
from tests.exporters.opentelemetry.collecting import Collected, collect

CONVENTIONS = json.loads((Path(__file__).parent / "conventions.json").read_text())
METRICS = CONVENTIONS["metrics"]
VALUES = CONVENTIONS["attribute_values"]
each = pytest.mark.parametrize("convention", METRICS, ids=lambda convention: convention["name"])


@pytest.fixture
def collected(provider: MeterProvider, reader: InMemoryMetricReader, engine: Engine) -> Collected:
    """Return what is collected of a real pool in use, with connections in both states."""
    with instrument(engine, meter_provider=provider), engine.connect():
        with engine.connect():
            pass
        return collect(reader)


def instrument_of(data: Any) -> str:
    """Return the conventions' word for the kind of instrument that data comes of."""
    if type(data).__name__ == "Histogram":
        return "histogram"
    return "counter" if data.is_monotonic else "updowncounter"


@each
def test_each_convention_is_met(convention: dict[str, Any], collected: Collected) -> None:
    """Kind, unit, description and required attributes are the conventions' own."""
    metric = collected.metrics[convention["name"]]
    assert instrument_of(metric.data) == convention["instrument"]
    assert metric.unit == convention["unit"]
    assert metric.description == convention["description"]
    points = collected.points(convention["name"])
    assert points
    for point in points:
        own = set(point.attributes) - set(CONVENTIONS["identity_attributes"])
        assert own == set(convention["attributes"])


def test_there_is_no_other_name_in_the_conventions_space() -> None:
    """Nothing of ours is called `db.client.…` that the conventions do not define; the nine are all there."""
    ours = {m.opentelemetry_name for m in CATALOGUE if m.opentelemetry_name.startswith("db.")}
    assert ours == {convention["name"] for convention in METRICS}
    assert len(METRICS) == 9


def test_states_are_the_conventions(collected: Collected) -> None:
    """A connection is `used` or `idle`, and both are there."""
    states = {
        point.attributes["db.client.connection.state"]
        for point in collected.points("db.client.connection.count")
    }
    assert states == set(VALUES["db.client.connection.state"])


def test_database_systems_are_the_conventions() -> None:
    """Every value of `db.system.name` that we can write is one that the conventions know."""
    assert {*_SYSTEMS.values(), "other_sql"} <= set(VALUES["db.system.name"])


def test_the_copy_is_that_of_the_installed_conventions() -> None:
    """The package that OpenTelemetry publishes of its conventions says the same as our copy of them."""
    published = {
        value
        for name, value in vars(db_metrics).items()
        if name.startswith("DB_CLIENT_CONNECTION_") and isinstance(value, str)
    }
    assert published == {convention["name"] for convention in METRICS}
    assert {system.value for system in DbSystemNameValues} == set(VALUES["db.system.name"])
    assert SCHEMA_URL in {schema.value for schema in schemas.Schemas}
    assert SCHEMA_URL.rpartition("/")[2] in CONVENTIONS["source"]


def test_timeouts_are_counted_by_their_conventional_name(
    provider: MeterProvider, reader: InMemoryMetricReader, engine: Engine
) -> None:
    """A pool timeout is one `db.client.connection.timeouts`, and while it lasts a pending request."""
    engine.pool._timeout = 0.01  # type: ignore[attr-defined]  # seconds
    with instrument(engine, meter_provider=provider):
        held = [engine.connect() for _ in range(5)]
        with pytest.raises(PoolTimeoutError):
            engine.connect()
        collected = collect(reader)
        for connection in held:
            connection.close()
    assert collected.value("db.client.connection.timeouts") == 1
    assert collected.value("db.client.connection.pending_requests") == 0
    assert collected.value("db.client.connection.count", db__client__connection__state="used") == 5
