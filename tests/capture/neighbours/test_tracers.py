"""Live beside OpenTelemetry's and Sentry's SQLAlchemy instrumentation, whoever came first."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import sentry_sdk
from opentelemetry.instrumentation.sqlalchemy import SQLAlchemyInstrumentor
from opentelemetry.instrumentation.sqlalchemy.engine import EngineTracer
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from sentry_sdk.integrations.sqlalchemy import SqlalchemyIntegration
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import AsyncAdaptedQueuePool, QueuePool

from tests.capture.engines.databases import PostgresDatabase, check, do, execute, watch
from tests.laws import assert_laws

before_and_after = pytest.mark.parametrize("first", ["theirs", "ours"])


class Spans:
    """The spans that a neighbour has finished."""

    def __init__(self, statements: Callable[[], list[str]]) -> None:
        self._statements = statements

    def new(self) -> list[str]:
        """Return the descriptions of the spans of statements since the last call."""
        return self._statements()


async def _life(engine: Any, database: PostgresDatabase, statements: int) -> None:
    """Use the engine twice, with a statement in the first use."""
    connection = await do(engine.connect)
    for _ in range(statements):
        await execute(connection)
    await do(connection.close)
    await do((await do(engine.connect)).close)


async def _both(database: PostgresDatabase, first: str, install: Callable[[Any], Spans]) -> None:
    """Install a neighbour before or after us; both see everything, and it survives us."""
    engine = database.engine(pool_size=1, max_overflow=0, pool_pre_ping=True)
    if first == "theirs":
        spans = install(engine)
        pool = watch(engine)
    else:
        pool = watch(engine)
        spans = install(engine)
    await _life(engine, database, statements=2)
    snapshot = check(pool, database, checkouts=2, checkins=2, connects=1, idle=1, statements=2)
    assert snapshot.pre_ping_seconds is not None
    assert snapshot.pre_ping_seconds.count == 1
    assert len(spans.new()) == 2

    connection = await do(engine.connect)
    with pytest.raises(DBAPIError):
        await execute(connection, "select broken")
    await do(connection.close)
    check(pool, database, checkouts=3, checkins=3, idle=1, statements=3)
    assert len(spans.new()) == 1

    pool.uninstrument()
    expected = AsyncAdaptedQueuePool if database.is_async else QueuePool
    assert type(getattr(engine, "sync_engine", engine).pool) is expected
    await _life(engine, database, statements=1)
    assert len(spans.new()) == 1
    assert pool.snapshot().checkouts == 3
    assert_laws(pool.snapshot())


class Telemetry:
    """OpenTelemetry's SDK, with everything in memory."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        self.tracers = TracerProvider()
        self.tracers.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.reader = InMemoryMetricReader()
        self.meters = MeterProvider([self.reader])

    def statements(self) -> list[str]:
        spans = self.exporter.get_finished_spans()
        self.exporter.clear()
        return [span.name for span in spans if span.name.startswith("select")]

    def connection_counts(self) -> dict[str, int]:
        """Return OpenTelemetry's own `db.client.connections.usage`, by state."""
        data = self.reader.get_metrics_data()
        points = [
            point
            for resource in (data.resource_metrics if data else [])
            for scope in resource.scope_metrics
            for metric in scope.metrics
            if metric.name == "db.client.connections.usage"
            for point in metric.data.data_points
        ]
        return {point.attributes["state"]: point.value for point in points}


@pytest.fixture
def telemetry() -> Iterator[Telemetry]:
    """An SDK of the test's own."""
    telemetry = Telemetry()
    yield telemetry
    telemetry.tracers.shutdown()
    telemetry.meters.shutdown()


@before_and_after
async def test_beside_opentelemetrys_engine_tracer(
    first: str, database: PostgresDatabase, telemetry: Telemetry
) -> None:
    """The listeners that OpenTelemetry puts on an engine work with ours, before and after."""
    kept: list[Any] = []

    def install(engine: Any) -> Spans:
        usage = telemetry.meters.get_meter("test").create_up_down_counter("db.client.connections.usage")
        tracer = telemetry.tracers.get_tracer("test")
        target = getattr(engine, "sync_engine", engine)
        kept.append(EngineTracer(tracer, target, usage))
        return Spans(telemetry.statements)

    await _both(database, first, install)
    assert telemetry.connection_counts() == {"idle": 1, "used": 0}


@before_and_after
async def test_beside_opentelemetrys_instrumentor(
    first: str, database: PostgresDatabase, telemetry: Telemetry
) -> None:
    """`SQLAlchemyInstrumentor` works with ours, before and after."""
    instrumentor = SQLAlchemyInstrumentor()

    def install(engine: Any) -> Spans:
        instrumentor.instrument(
            engine=getattr(engine, "sync_engine", engine),
            tracer_provider=telemetry.tracers,
            meter_provider=NoOpMeterProvider(),
            skip_dep_check=True,
        )
        return Spans(telemetry.statements)

    try:
        await _both(database, first, install)
    finally:
        instrumentor.uninstrument()


@pytest.fixture
def sentry() -> Iterator[Spans]:
    """Sentry with its SQLAlchemy integration, and a transport that keeps what it is given."""
    events: list[Any] = []

    def keep(event: Any, hint: Any) -> None:
        events.append(event)

    sentry_sdk.init(
        dsn="http://key@127.0.0.1:1/1",
        integrations=[SqlalchemyIntegration()],
        default_integrations=False,
        auto_enabling_integrations=False,
        traces_sample_rate=1.0,
        before_send_transaction=keep,
    )
    seen = 0

    def statements() -> list[str]:
        nonlocal seen
        recorder = getattr(sentry_sdk.get_current_span(), "_span_recorder", None)
        assert recorder is not None
        spans = [span.description for span in recorder.spans if span.op == "db"]
        fresh, seen = spans[seen:], len(spans)
        return fresh

    with sentry_sdk.start_transaction(name="test"):
        yield Spans(statements)
    sentry_sdk.get_client().close(timeout=0)
    # Not another init(): it would enable every integration, whose breadcrumbs keep cursors, and
    # with them connections that later tests drop.
    sentry_sdk.get_global_scope().set_client(None)
    sentry_sdk.get_isolation_scope().clear()


@before_and_after
async def test_beside_sentry(first: str, database: PostgresDatabase, sentry: Spans) -> None:
    """Sentry's integration listens to all engines; its spans come with ours, and after us."""
    await _both(database, first, lambda engine: sentry)


async def test_beside_all_of_them(database: PostgresDatabase, telemetry: Telemetry, sentry: Spans) -> None:
    """Everybody at once counts what is there, also when a connection is held and one dropped."""
    engine = database.engine(pool_size=1, max_overflow=1)
    target = getattr(engine, "sync_engine", engine)
    usage = telemetry.meters.get_meter("test").create_up_down_counter("db.client.connections.usage")
    tracer = EngineTracer(telemetry.tracers.get_tracer("test"), target, usage)
    pool = watch(engine)
    one, two = await do(engine.connect), await do(engine.connect)
    await execute(one)
    check(pool, database, used=2, uses=2, statements=1)
    await do(two.invalidate)
    check(pool, database, used=1, uses=1, closes={"invalidated": 1})
    await do(one.close)
    await do(two.close)
    await do(engine.dispose)
    check(pool, database, open=0, checkouts=2, checkins=2, closes={"invalidated": 1, "overflow": 1})
    assert len(telemetry.statements()) == 1
    assert len(sentry.new()) == 1
    with contextlib.suppress(AttributeError):
        tracer.remove_all_event_listeners()
