"""Check that no number is emitted twice: by another scope, or by a registry that OpenTelemetry serves too."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.metrics import Observation
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from prometheus_client import CollectorRegistry, generate_latest
from sqlalchemy import Engine, create_engine

from pool_exporter import instrument
from pool_exporter.instrumentation.runtime import RUNTIME
from tests.exporters.opentelemetry.collecting import collect

CONVENTIONS = json.loads(Path(__file__).with_name("conventions.json").read_text())
NAMES = {metric["name"] for metric in CONVENTIONS["metrics"]}
COUNT = "db.client.connection.count"


def observed(provider: MeterProvider, scope: str) -> None:
    """Let another scope emit the number of connections, from a callback."""
    provider.get_meter(scope).create_observable_up_down_counter(COUNT, [lambda options: [Observation(7)]])


def added(provider: MeterProvider, scope: str) -> None:
    """Let another scope emit it by adding."""
    provider.get_meter(scope).create_up_down_counter(COUNT).add(7)


rivals = pytest.mark.parametrize("emit", [observed, added])
first = pytest.mark.parametrize("first", ["theirs", "ours"])


@pytest.fixture(autouse=True)
def nothing_said_yet(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Let what was said once in this process be said again."""
    monkeypatch.setattr(RUNTIME, "_said", set())
    with caplog.at_level(logging.WARNING, "pool_exporter"):
        yield


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "pool_exporter"]


@first
@pytest.mark.parametrize("collected_before", [True, False])
def test_a_histogram_that_another_scope_has_is_left_to_it(
    first: str, collected_before: bool, engine: Engine, provider: MeterProvider, reader: InMemoryMetricReader
) -> None:
    """Two of one name would count each wait twice; the other histograms are there."""

    def theirs() -> None:
        provider.get_meter("myapp.pools").create_histogram("db.client.connection.wait_time").record(1)

    if first == "theirs":
        theirs()
    with instrument(engine, meter_provider=provider):
        if first == "ours":
            theirs()
        if collected_before:
            collect(reader)
        for _ in range(300):
            engine.connect().close()
        RUNTIME.check()  # as the background thread does
        collected = collect(reader)
    assert collected.points("db.client.connection.wait_time") == []
    assert collected.point("db.client.connection.use_time").count == 300


@rivals
@first
def test_what_another_scope_emits_is_left_to_it(
    emit: Callable[[MeterProvider, str], None],
    first: str,
    engine: Engine,
    provider: MeterProvider,
    reader: InMemoryMetricReader,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """There is one sum of that name, not two, and one warning; the other eight of ours are there."""
    if first == "theirs":
        emit(provider, "myapp.pools")
    with instrument(engine, meter_provider=provider), engine.connect():
        with engine.connect():
            pass
        if first == "ours":
            assert set(collect(reader).metrics) >= NAMES
            emit(provider, "myapp.pools")
        for _ in range(2):
            ours, theirs = collect(reader), collect(reader, "myapp.pools")
            assert ours.points(COUNT) == []
            assert theirs.value(COUNT) == 7
            assert {name for name in NAMES if ours.points(name)} >= NAMES - {
                COUNT,
                "db.client.connection.timeouts",
            }
            assert ours.value("db.client.connection.timeouts") == 0
    (warning,) = said(caplog)
    assert warning.startswith(f"{COUNT} is emitted by 'myapp.pools' already, so pool_exporter leaves it out")
    assert "switch the other off" in warning


@pytest.mark.parametrize(
    ("scope", "rival"),
    [
        ("opentelemetry.instrumentation.redis", False),
        ("opentelemetry.instrumentation.asyncpg", False),
        ("redis-py", False),
        ("org.mongodb.driver", False),
        ("opentelemetry.instrumentation.sqlalchemy", True),
        ("opentelemetry_instrumentation_of_mine", True),
    ],
)
def test_another_clients_instrumentation_is_no_rival(
    scope: str,
    rival: bool,
    engine: Engine,
    provider: MeterProvider,
    reader: InMemoryMetricReader,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """OpenTelemetry's instrumentation of Redis counts Redis's connections, and SQLAlchemy's counts ours."""
    observed(provider, scope)
    with instrument(engine, meter_provider=provider), engine.connect():
        points = collect(reader).points(COUNT)
    assert len(points) == (0 if rival else 2)
    assert len(said(caplog)) == rival


def test_a_deprecated_name_is_no_rival(
    engine: Engine, provider: MeterProvider, reader: InMemoryMetricReader, caplog: pytest.LogCaptureFixture
) -> None:
    """What OpenTelemetry's own instrumentation emits has another name, so both are there."""
    meter = provider.get_meter("opentelemetry.instrumentation.sqlalchemy")
    meter.create_up_down_counter("db.client.connections.usage").add(1, {"state": "used"})
    with instrument(engine, meter_provider=provider), engine.connect():
        assert collect(reader).value(COUNT, db__client__connection__state="used") == 1
        assert "db.client.connections.usage" in collect(reader, meter.name).metrics
    assert said(caplog) == []


def served(registry: CollectorRegistry) -> tuple[Any, MeterProvider]:
    """Return a reader of OpenTelemetry's that serves a registry, and its provider."""
    # It has no argument for the registry in every version; what it registers is what counts.
    reader = PrometheusMetricReader(registry=registry)
    return reader, MeterProvider([reader], shutdown_on_exit=False)


def test_a_registry_that_opentelemetry_serves_already_is_refused(engine: Engine) -> None:
    """With a meter provider too, every pool would be there twice: the error names the cure."""
    registry = CollectorRegistry()
    _, provider = served(registry)
    with pytest.raises(ValueError, match="leave registry out, or give one of them a registry of its own"):
        instrument(engine, meter_provider=provider, registry=registry)
    with instrument(engine, meter_provider=provider), engine.connect():
        text = generate_latest(registry).decode()
    assert 'db_client_connection_state="used"' in text
    assert "sqlalchemy_pool_connections{" not in text
    provider.shutdown()


def test_a_reader_that_serves_the_registry_later_is_warned_of(
    engine: Engine, provider: MeterProvider, reader: InMemoryMetricReader, caplog: pytest.LogCaptureFixture
) -> None:
    """Where it comes after us there is one warning at the next collection, which names the cure."""
    registry = CollectorRegistry()
    with instrument(engine, meter_provider=provider, registry=registry):
        collect(reader)
        assert said(caplog) == []
        _, later = served(registry)
        for _ in range(2):
            collect(reader)
        later.shutdown()
    (warning,) = said(caplog)
    assert warning.startswith("OpenTelemetry's PrometheusMetricReader serves a registry that has pools")
    assert "give the reader a registry of its own" in warning


def test_two_vocabularies_in_one_registry_are_warned_of(
    engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    """One engine told of through a reader, another in that reader's registry: metrics of one name from both."""
    registry = CollectorRegistry()
    _, provider = served(registry)
    other = create_engine("sqlite://", pool_logging_name="other")
    with instrument(engine, name="one", meter_provider=provider), instrument(other, registry=registry):
        assert said(caplog) == []
        for _ in range(2):
            generate_latest(registry)
    provider.shutdown()
    (warning,) = said(caplog)
    assert "so that a scrape has the same metrics twice" in warning


def test_a_registry_served_by_who_is_told_of_no_pool_is_no_matter(
    engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    """Metrics of other things may come into the same registry from OpenTelemetry."""
    registry = CollectorRegistry()
    _, provider = served(registry)
    provider.get_meter("mine").create_counter("orders").add(1)
    with instrument(engine, registry=registry):
        assert "orders_total" in generate_latest(registry).decode()
    provider.shutdown()
    assert said(caplog) == []
