"""Use the public interface as an application would; the type checker reads this file, nothing runs it."""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client import CollectorRegistry
from sqlalchemy import Engine, create_engine
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from typing_extensions import assert_type

from pool_exporter import (
    Attribution,
    HeldConnection,
    HistogramSnapshot,
    Instrumentation,
    LeakPolicy,
    MetricsServer,
    OwnerMiddleware,
    PoolSnapshot,
    instrument,
    metrics_app,
    owner,
    snapshots,
    start_server,
)

registry = CollectorRegistry()
engine: Engine = create_engine("sqlite://")
async_engine: AsyncEngine = create_async_engine("sqlite+aiosqlite://")

assert_type(instrument(engine), Instrumentation)
assert_type(
    instrument(
        async_engine,
        name="orders",
        registry=registry,
        buckets={"wait_seconds": [0.1, 1], "use_seconds": (0.5, 5.0)},
        attribution=Attribution(skip=["orders.database"], sql_text=True),
        leaks=LeakPolicy(idle_seconds=60, idle_in_transaction_seconds=30.0, exempt=["listener", "batch:*"]),
        statements=False,
        detail="basic",
    ),
    Instrumentation,
)
instrument(engine, registry=None)

with instrument(engine) as instrumentation:
    assert_type(instrumentation, Instrumentation)
    assert_type(instrumentation.name, str)
    assert_type(instrumentation.snapshot(), PoolSnapshot)
    assert_type(instrumentation.uninstrument(), None)

snapshot = instrumentation.snapshot()
assert_type(snapshot.used, int)
assert_type(snapshot.open, int)
assert_type(snapshot.max, int | None)
assert_type(snapshot.pending, int | None)
assert_type(snapshot.closes, Mapping[str, int])
assert_type(snapshot.wait_seconds, HistogramSnapshot | None)
assert_type(snapshot.use_seconds.count, int)
assert_type(snapshots(), list[PoolSnapshot])

with start_server(0, addr="127.0.0.1", registry=registry) as server:
    assert_type(server, MetricsServer)
    assert_type(server.address, tuple[str, int])
    assert_type(server.url, str)
app = metrics_app(registry, disable_compression=True)

# Each ignore must be needed: the checker is told to warn about one that is not.
instrument("postgresql://db/app")  # type: ignore[arg-type]
instrument(engine, "orders")  # type: ignore[call-arg]
instrument(engine, name=1)  # type: ignore[arg-type]
instrument(engine, detail="everything")  # type: ignore[arg-type]
instrument(engine, unknown=True)  # type: ignore[call-arg]
snapshot.used = 1  # type: ignore[misc]

for held in instrument(engine, attribution=False, leaks=None).held():
    assert_type(held, HeldConnection)
    assert_type(held.owner, str)
    assert_type(held.lineno, int | None)
    assert_type(held.in_transaction, bool | None)

with owner("nightly-billing"):
    pass

OwnerMiddleware(metrics_app())
