"""Check what a database URL can ask for: `?plugin=pool_exporter` and what belongs to it."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from prometheus_client import REGISTRY, CollectorRegistry
from sqlalchemy import Engine, create_engine, event
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import QueuePool

from pool_exporter import instrument
from pool_exporter.capture.attach import active_tap
from pool_exporter.plugins.opentelemetry_instrumentor import PoolInstrumentor
from tests.exporters.opentelemetry.collecting import POOL, STATE, collect


@pytest.fixture(autouse=True)
def a_global_provider(provider: MeterProvider, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let OpenTelemetry's global meter provider be the test's."""
    monkeypatch.setattr("opentelemetry.metrics.get_meter_provider", lambda: provider)


@pytest.fixture
def engines() -> Iterator[list[Any]]:
    """Engines, with everything taken off again at the end."""
    made: list[Any] = []
    yield made
    for engine in made:
        if active_tap(getattr(engine, "sync_engine", engine)) is not None:
            instrument(engine).uninstrument()


def checkouts(registry: CollectorRegistry, pool: str) -> float | None:
    return registry.get_sample_value("sqlalchemy_pool_checkouts_total", {"pool": pool})


@pytest.mark.parametrize(
    ("query", "options"),
    [
        ("?plugin=pool_exporter&pool_exporter_name=url-orders", {}),
        ("?pool_exporter_name=url-orders", {"plugins": ["pool_exporter"]}),
        ("", {"plugins": ["pool_exporter"], "pool_exporter": {"name": "url-orders"}}),
        ("?pool_exporter_group=url-orders", {"plugins": ["pool_exporter"]}),
        (
            "?plugin=pool_exporter&pool_exporter_name=url-orders",
            {"pool_exporter": {"name": "is overruled", "statements": False}},
        ),
    ],
)
def test_a_url_asks_for_it(
    query: str, options: dict[str, Any], engines: list[Any], reader: InMemoryMetricReader
) -> None:
    """The engine is in prometheus_client's registry and told of to OpenTelemetry, until it is taken off."""
    engine = create_engine(f"sqlite://{query}", poolclass=QueuePool, **options)
    engines.append(engine)
    with engine.connect():
        pass
    assert checkouts(REGISTRY, "url-orders") == 1
    assert collect(reader).pools() == {"url-orders"}
    instrument(engine).uninstrument()
    assert active_tap(engine) is None
    assert type(engine.pool) is QueuePool
    assert checkouts(REGISTRY, "url-orders") is None
    collect(reader)
    assert collect(reader).points("sqlalchemy.pool.checkouts") == []


async def test_an_async_url_asks_for_it(engines: list[Any], reader: InMemoryMetricReader) -> None:
    """So it is with create_async_engine()."""
    engine = create_async_engine("sqlite+aiosqlite://?plugin=pool_exporter&pool_exporter_name=url-async")
    engines.append(engine)
    async with engine.connect():
        count = collect(reader).value("db.client.connection.count", db__client__connection__state="used")
    assert (count, checkouts(REGISTRY, "url-async")) == (1, 1)
    await engine.dispose()


def test_options_say_where_it_goes(engines: list[Any], reader: InMemoryMetricReader) -> None:
    """With a registry of its own it goes there and nowhere else, with less detail where that is asked for."""
    registry = CollectorRegistry()
    engine = create_engine(
        "sqlite://?plugin=pool_exporter&pool_exporter_detail=basic",
        poolclass=QueuePool,
        pool_exporter={"registry": registry, "name": "url-own"},
    )
    engines.append(engine)
    with engine.connect():
        pass
    assert checkouts(registry, "url-own") == 1
    assert checkouts(REGISTRY, "url-own") is None
    assert registry.get_sample_value("sqlalchemy_pool_size", {"pool": "url-own"}) == 5
    assert registry.get_sample_value("sqlalchemy_pool_statements_total", {"pool": "url-own"}) is None
    assert collect(reader).pools() == set()


def test_a_registry_that_opentelemetry_serves_is_left_to_it(
    engines: list[Any], reader: InMemoryMetricReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where PrometheusMetricReader serves prometheus_client's registry, only OpenTelemetry is told."""
    default = CollectorRegistry()
    default.register(PrometheusMetricReader(registry=CollectorRegistry())._collector)
    monkeypatch.setattr("pool_exporter.plugins.sqlalchemy_url.REGISTRY", default)
    engine = create_engine(
        "sqlite://?plugin=pool_exporter&pool_exporter_name=url-served", poolclass=QueuePool
    )
    engines.append(engine)
    with engine.connect():
        pass
    assert collect(reader).pools() == {"url-served"}
    assert checkouts(default, "url-served") is None
    assert checkouts(REGISTRY, "url-served") is None


def test_the_driver_never_sees_what_is_ours(engines: list[Any]) -> None:
    """What the URL says to us is not in the engine's URL, nor among what the driver is called with."""
    seen: list[tuple[Any, Any]] = []
    engine = create_engine(
        "sqlite:///file::memory:?uri=true&plugin=pool_exporter&pool_exporter_name=url-seen",
        poolclass=QueuePool,
    )
    engines.append(engine)

    def see(dialect: Any, record: Any, arguments: Any, options: Any) -> None:
        seen.append((list(arguments), dict(options)))

    event.listen(engine, "do_connect", see)
    with engine.connect():
        pass
    assert set(engine.url.query) == {"uri"}
    assert "pool_exporter" not in str(seen)
    assert len(seen) == 1


@pytest.mark.parametrize(
    ("query", "option", "error", "message"),
    [
        ("&pool_exporter_nmae=x", None, ValueError, r"pool_exporter_nmae='x'.*pool_exporter_name, pool_"),
        ("&pool_exporter_registry=x", None, ValueError, "give others to create_engine"),
        ("&pool_exporter_name=a&pool_exporter_name=b", None, ValueError, r"\('a', 'b'\).*each once"),
        (
            "&pool_exporter_detail=some",
            None,
            ValueError,
            "pool_exporter_detail='some' in the database URL: detail='some'",
        ),
        ("&pool_exporter_name=a&pool_exporter_group=b", None, ValueError, "a group has one name"),
        ("", "orders", TypeError, r"pool_exporter='orders': expected a dict"),
        ("", ["name"], TypeError, r"pool_exporter=\['name'\]: expected a dict"),
        ("", {"name": 7}, TypeError, "name=7"),
        (
            "",
            {"nmae": "orders"},
            TypeError,
            r"pool_exporter={'nmae': 'orders'}: instrument\(\) has no .* name, ",
        ),
        ("", {"engine": None}, TypeError, "pool_exporter={'engine': None}: instrument"),
    ],
)
def test_what_cannot_be_right_is_an_error_of_create_engine(
    query: str, option: object, error: type[Exception], message: str
) -> None:
    """Each mistake is one error that names what was given; no engine is made of it."""
    options = {} if option is None else {"pool_exporter": option}
    with pytest.raises(error, match=message):
        create_engine(f"sqlite://?plugin=pool_exporter{query}", **options)
    gc.collect()


def test_beside_the_instrumentor_a_pool_is_told_of_once(
    engines: list[Any], provider: MeterProvider, reader: InMemoryMetricReader
) -> None:
    """An engine that asks by its URL, while all are instrumented anyway, is one pool, as its URL says."""
    gc.collect()
    instrumentor = PoolInstrumentor()
    instrumentor.instrument(meter_provider=provider)
    try:
        engine = create_engine(
            "sqlite://?plugin=pool_exporter&pool_exporter_name=url-both", poolclass=QueuePool
        )
        engines.append(engine)
        with engine.connect():
            points = collect(reader).points("db.client.connection.count")
        used = {point.attributes[POOL]: point.value for point in points if point.attributes[STATE] == "used"}
        assert {name: count for name, count in used.items() if count} == {"url-both": 1}
        assert checkouts(REGISTRY, "url-both") == 1
    finally:
        instrumentor.uninstrument()
    still = collect(reader).points("sqlalchemy.pool.checkouts")
    assert {point.attributes[POOL]: point.value for point in still} == {"url-both": 1}


def test_without_the_plugin_nothing_is_done() -> None:
    """A plain URL leaves an engine alone."""
    engine: Engine = create_engine("sqlite://", poolclass=QueuePool)
    assert active_tap(engine) is None
