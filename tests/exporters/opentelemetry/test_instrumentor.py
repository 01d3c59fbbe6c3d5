"""Check what `PoolInstrumentor` takes in, what it leaves to the application, and that it undoes all of it."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from importlib import import_module
from typing import Any

import pytest
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from prometheus_client import CollectorRegistry, generate_latest
from sqlalchemy import URL, Engine, create_engine
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import QueuePool

from pool_exporter import instrument, instrument_all
from pool_exporter.capture.attach import active_tap
from pool_exporter.instrumentation.instrument_all import _CURRENT
from pool_exporter.plugins.opentelemetry_instrumentor import PoolInstrumentor
from tests.exporters.opentelemetry.collecting import collect

CHECKOUTS = "sqlalchemy.pool.checkouts"


@pytest.fixture
def instrumentor() -> Iterator[PoolInstrumentor]:
    """The one instrumentor of the process, off again at the end; engines of other tests are gone."""
    gc.collect()
    made = PoolInstrumentor()
    yield made
    if made.is_instrumented_by_opentelemetry:
        made.uninstrument()
    for current in tuple(_CURRENT):
        current.uninstrument()


def made(name: str) -> Engine:
    return create_engine("sqlite://", poolclass=QueuePool, pool_logging_name=name)


def owner(engine: Engine) -> Any:
    tap = active_tap(engine)
    assert tap is not None
    return tap.owner


def use(engine: Engine) -> None:
    with engine.connect():
        pass


def checkouts(registry: CollectorRegistry, pool: str) -> float | None:
    return registry.get_sample_value(f"{CHECKOUTS.replace('.', '_')}_total", {"pool": pool})


def told(reader: InMemoryMetricReader) -> dict[str, int]:
    """Return what a reader is told of checkouts, by pool."""
    return {
        point.attributes["db.client.connection.pool.name"]: point.value
        for point in collect(reader).points(CHECKOUTS)
    }


def test_engines_before_and_after_are_told_of(
    instrumentor: PoolInstrumentor, provider: MeterProvider, reader: InMemoryMetricReader
) -> None:
    """An engine that was there and one that is made later are both told of, and in no registry."""
    before = made("before")
    instrumentor.instrument(meter_provider=provider)
    after = made("after")
    for engine in (before, after, after):
        use(engine)
    assert {"before": 1, "after": 2}.items() <= told(reader).items()
    for engine in (before, after):
        tap = active_tap(engine)
        assert tap is not None
        assert tap.owner.options.registry is None


async def test_async_engines_are_told_of(
    instrumentor: PoolInstrumentor, provider: MeterProvider, reader: InMemoryMetricReader
) -> None:
    """So are async ones."""
    instrumentor.instrument(meter_provider=provider)
    engine = create_async_engine("sqlite+aiosqlite://", pool_logging_name="async")
    async with engine.connect():
        assert told(reader)["async"] == 1
    await engine.dispose()


def test_it_undoes_cleanly(
    instrumentor: PoolInstrumentor, provider: MeterProvider, reader: InMemoryMetricReader
) -> None:
    """Afterwards engines and SQLAlchemy are as they were, nobody is told, and it can be done again."""
    original = URL.__dict__["_instantiate_plugins"]
    before = made("before")
    for name in ("first", "second"):
        instrumentor.instrument(meter_provider=provider)
        after = made(name)
        use(after)
        assert told(reader)[name] == 1
        instrumentor.uninstrument()
        for engine in (before, after, made("later")):
            assert active_tap(engine) is None
            assert type(engine.pool) is QueuePool
            use(engine)
        collect(reader)  # what was counted last
        assert told(reader) == {}
        assert URL.__dict__["_instantiate_plugins"] is original


@pytest.mark.parametrize("when", ["before", "after"])
def test_what_the_application_instruments_keeps_prometheus_and_is_told_too(
    when: str, instrumentor: PoolInstrumentor, provider: MeterProvider, reader: InMemoryMetricReader
) -> None:
    """An engine with an `instrument()` of its own is in its registry and told of; afterwards only the former."""
    registry = CollectorRegistry()
    engine = made("orders")
    if when == "before":
        instrument(engine, registry=registry)
    instrumentor.instrument(meter_provider=provider)
    if when == "after":
        instrument(engine, registry=registry)
    use(engine)
    assert checkouts(registry, "orders") == 1
    assert told(reader)["orders"] == 1
    instrumentor.uninstrument()
    use(engine)
    assert checkouts(registry, "orders") == 2
    assert told(reader) == {}
    instrument(engine).uninstrument()
    assert active_tap(engine) is None


@pytest.mark.parametrize("first", ["instrumentor", "application"])
def test_instrument_all_of_the_application_keeps_prometheus_and_is_told_too(
    first: str, instrumentor: PoolInstrumentor, provider: MeterProvider, reader: InMemoryMetricReader
) -> None:
    """An application's own `instrument_all()` has its options whichever comes first, and can end first or last."""
    registry = CollectorRegistry()
    original = URL.__dict__["_instantiate_plugins"]
    before = made("before")
    if first == "instrumentor":
        instrumentor.instrument(meter_provider=provider)
    everything = instrument_all(registry=registry, statements=False)
    if first == "application":
        instrumentor.instrument(meter_provider=provider)
    after = made("after")
    for engine in (before, after):
        use(engine)
    for name in ("before", "after"):
        assert checkouts(registry, name) == told(reader)[name] == 1
    assert owner(after).options.statements is False
    if first == "instrumentor":
        everything.uninstrument()
        for engine in (before, after, made("later")):
            use(engine)
            assert owner(engine).options.statements is True
        assert checkouts(registry, "before") is None
        assert {"before": 2, "after": 2, "later": 1}.items() <= told(reader).items()
        instrumentor.uninstrument()
    else:
        instrumentor.uninstrument()
        use(before)
        assert checkouts(registry, "before") == 2
        collect(reader)
        assert told(reader) == {}
        everything.uninstrument()
    assert active_tap(before) is active_tap(after) is None
    assert URL.__dict__["_instantiate_plugins"] is original


def test_an_engine_instrumented_again_is_told_again(
    instrumentor: PoolInstrumentor, provider: MeterProvider, reader: InMemoryMetricReader
) -> None:
    """What the application takes off and puts on again goes on being told of."""
    registry = CollectorRegistry()
    engine = made("orders")
    instrumentor.instrument(meter_provider=provider)
    for number in (1, 2):
        with instrument(engine, registry=registry):
            use(engine)
            assert told(reader)["orders"] == number
            assert checkouts(registry, "orders") == 1


def test_a_call_that_fails_leaves_the_engine_as_it_was(
    instrumentor: PoolInstrumentor, provider: MeterProvider, reader: InMemoryMetricReader
) -> None:
    """An `instrument()` that is refused takes nothing off."""
    registry = CollectorRegistry()
    instrument(made("other"), registry=registry, detail="basic")
    engine = made("orders")
    instrumentor.instrument(meter_provider=provider)
    with pytest.raises(ValueError, match="detail='full': this registry's pools"):
        instrument(engine, registry=registry)
    use(engine)
    assert told(reader)["orders"] == 1


def test_where_opentelemetry_serves_the_default_registry_an_instrument_of_its_own_goes_on_there(
    instrumentor: PoolInstrumentor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With OTEL_METRICS_EXPORTER=prometheus a call that names no registry is served by that reader, once."""
    registry = CollectorRegistry()
    for name in ("instrumentation.instrument", "instrumentation.options"):
        monkeypatch.setattr(import_module(f"pool_exporter.{name}"), "REGISTRY", registry)
    reader = PrometheusMetricReader(registry=registry)
    provider = MeterProvider([reader], shutdown_on_exit=False)
    engine = made("orders")
    instrumentor.instrument(meter_provider=provider)
    instrument(engine, name="mine")
    use(engine)
    text = generate_latest(registry).decode()
    (line,) = (
        line
        for line in text.splitlines()
        if line.startswith("sqlalchemy_pool_checkouts_total") and '="mine"' in line
    )
    assert 'db_client_connection_pool_name="mine"' in line
    assert line.endswith(" 1.0")
    provider.shutdown()


@pytest.mark.parametrize(
    ("option", "remedy"),
    [
        ("engine", r"call pool_exporter\.instrument\(engine, meter_provider="),
        ("bogus", "there are registry, meter_provider"),
    ],
)
def test_an_option_that_there_is_not_is_an_error(
    option: str, remedy: str, instrumentor: PoolInstrumentor
) -> None:
    """OpenTelemetry's own SQLAlchemyInstrumentor takes an engine; here the error says what to call instead."""
    with pytest.raises(TypeError, match=f"{option}=1: .*{remedy}"):
        instrumentor.instrument(**{option: 1})


def test_options_are_those_of_instrument_all(
    instrumentor: PoolInstrumentor, provider: MeterProvider, reader: InMemoryMetricReader
) -> None:
    """A registry and a group are passed on; what every instrumentor is given is not."""
    registry = CollectorRegistry()
    instrumentor.instrument(
        meter_provider=provider, registry=registry, group="all", tracer_provider=None, skip_dep_check=True
    )
    for name in ("one", "two"):
        use(made(name))
    assert checkouts(registry, "all") == told(reader)["all"] == 2


def test_without_a_provider_it_is_the_global_one(
    instrumentor: PoolInstrumentor,
    provider: MeterProvider,
    reader: InMemoryMetricReader,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`PoolInstrumentor().instrument()` tells the meter provider that `get_meter_provider()` returns."""
    monkeypatch.setattr(
        "pool_exporter.plugins.opentelemetry_instrumentor.get_meter_provider", lambda: provider
    )
    instrumentor.instrument()
    use(made("orders"))
    assert told(reader)["orders"] == 1  # besides what other tests have left in the process


def test_an_option_that_cannot_be_right_is_an_error(
    instrumentor: PoolInstrumentor, provider: MeterProvider
) -> None:
    """What `instrument_all()` refuses is refused here, and nothing is instrumented."""
    with pytest.raises(ValueError, match="detail='some'"):
        instrumentor.instrument(meter_provider=provider, detail="some")
    assert active_tap(made("orders")) is None
