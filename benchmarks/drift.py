"""Compare what two instrumentations say of a pool with what its database says, fault by fault.

One PostgreSQL server, asyncpg, and for each scenario a new engine that both watch, over one meter
provider of OpenTelemetry's SDK:

- ours, `instrument(engine, meter_provider=…)`: `db.client.connection.count` by state
- opentelemetry-instrumentation-sqlalchemy, `SQLAlchemyInstrumentor().instrument(engine=…)`:
  `db.client.connections.usage` by state, which is the name that the conventions have deprecated
- the truth: the backends that `pg_stat_activity` lists of this application; used are those whose
  process ids the program holds at that moment, idle the others

A scenario begins with one connection held and one idle, lets one fault happen `--times` times, and
is read when the server lists exactly the sockets that this process has open to it. Printed is
used/idle by each, and how far each is off. "nothing" is no such metric at all: the instrumentor of
OpenTelemetry refuses a SQLAlchemy outside of its range, by a line in the log.

Exits with 1 if ours is off in any scenario; else with 0.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import sys
import time
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import psutil
import psycopg
from _common import arguments, budget, machine, positive, report, table
from opentelemetry.instrumentation.sqlalchemy import SQLAlchemyInstrumentor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.trace import NoOpTracerProvider
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, SAWarning
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from pool_exporter import instrument
from pool_exporter_lab.demo.database import temporary_directory
from pool_exporter_lab.demo.postgresql import USER, Server, initialise
from pool_exporter_lab.drill.processes import HOST, free_port

OURS, THEIRS = "db.client.connection.count", "db.client.connections.usage"
STATES = {OURS: "db.client.connection.state", THEIRS: "state"}
POOL_SIZE, MAX_OVERFLOW = 5, 1
SETTLE_SECONDS = 20.0
FAULTS = (DBAPIError, OSError)
"""What an application gets of a dead connection, and of a server that is down."""


class Counted(NamedTuple):
    """Connections by state, as somebody says."""

    used: int
    idle: int


@dataclass(frozen=True, slots=True)
class Database:
    """A PostgreSQL server that is reached by TCP: it lists the port of each client."""

    server: Server
    port: int

    @property
    def address(self) -> str:
        """Return `user@host:port/database`."""
        return f"{USER}@{HOST}:{self.port}/postgres"

    def observer(self) -> psycopg.Connection:
        """Return a connection beside the application's."""
        return psycopg.connect(f"postgresql://{self.address}", autocommit=True, connect_timeout=5)

    def backends(self, name: str) -> list[int]:
        """Return the process ids of an application's backends."""
        with self.observer() as observer:
            found = observer.execute("SELECT pid FROM pg_stat_activity WHERE application_name = %s", [name])
            return [pid for (pid,) in found]


@contextlib.asynccontextmanager
async def running_database() -> AsyncIterator[Database]:
    """Run a server in a temporary directory; leave no process and no file."""
    with temporary_directory() as directory, contextlib.ExitStack() as life:
        port = free_port()
        settings = (f"listen_addresses={HOST}", f"port={port}")
        server = Server(await initialise(directory), life, settings)
        await server.start()
        yield Database(server, port)


class Application:
    """One engine, and the connections that are held of it, by the backend that each is."""

    def __init__(self, engine: AsyncEngine, database: Database, name: str, times: int) -> None:
        self.engine = engine
        self.database = database
        self.name = name
        self.times = times
        self._held: dict[int, AsyncConnection] = {}

    async def acquire(self) -> AsyncConnection:
        """Acquire a connection and hold it."""
        connection = await self.engine.connect()
        pid = (await connection.execute(text("SELECT pg_backend_pid()"))).scalar_one()
        self._held[pid] = connection
        return connection

    def pid(self, connection: AsyncConnection) -> int:
        """Return the backend of a held connection."""
        return next(pid for pid, held in self._held.items() if held is connection)

    def forget(self, connection: AsyncConnection) -> None:
        """Hold a connection no more, without closing it."""
        del self._held[self.pid(connection)]

    async def give_back(self, connection: AsyncConnection) -> None:
        """Close a held connection, as its user does."""
        self.forget(connection)
        await connection.close()

    async def begin(self) -> AsyncConnection:
        """Hold one connection and leave another one idle; return the one that is held."""
        held, other = await self.acquire(), await self.acquire()
        await self.give_back(other)
        return held

    def terminate(self, *pids: int) -> None:
        """Terminate backends, and return when they are gone."""
        with self.database.observer() as observer:
            for pid in pids:
                observer.execute("SELECT pg_terminate_backend(%s, 20000)", [pid])

    def idle_pids(self) -> list[int]:
        """Return the backends that nobody holds."""
        return [pid for pid in self.database.backends(self.name) if pid not in self._held]

    async def truth(self) -> Counted:
        """Return what the database lists, once that is what this process has open, twice in a row.

        What nobody refers to any more is collected before, and the loop has time to close it.
        """
        deadline = time.monotonic() + SETTLE_SECONDS
        before = None
        while True:
            gc.collect()
            await asyncio.sleep(0.02)
            with self.database.observer() as observer:
                listed = observer.execute(
                    "SELECT pid, client_port, application_name FROM pg_stat_activity WHERE client_port > 0"
                ).fetchall()
                sockets = {
                    one.laddr.port
                    for one in psutil.Process().net_connections("tcp")
                    if one.raddr and one.raddr.port == self.database.port and one.status == "ESTABLISHED"
                }
            pids = {pid for pid, _, name in listed if name == self.name}
            if {port for _, port, _ in listed} == sockets and pids == before:
                break
            if time.monotonic() > deadline:
                raise SystemExit(f"{self.name}: the server lists {listed}, this process has {sockets}")
            before = pids
        used = len(pids & self._held.keys())
        return Counted(used, len(pids) - used)


async def healthy(app: Application) -> None:
    """Use connections and give each back."""
    await app.begin()
    for _ in range(app.times):
        await app.give_back(await app.acquire())


async def leaked(app: Application) -> None:
    """Drop connections without closing them; the garbage collector takes them."""
    await app.begin()
    for _ in range(app.times):
        app.forget(await app.acquire())
        gc.collect()


async def detached(app: Application) -> None:
    """Take connections out of the pool with detach(), and close them."""
    await app.begin()
    for _ in range(app.times):
        connection = await app.acquire()
        await connection.run_sync(lambda held: held.detach())
        await app.give_back(connection)


async def dead_in_use(app: Application) -> None:
    """Lose the backend of a held connection; a statement fails, and the connection is given back."""
    await app.begin()
    for _ in range(app.times):
        connection = await app.acquire()
        app.terminate(app.pid(connection))
        with contextlib.suppress(*FAULTS):
            await connection.execute(text("SELECT 1"))
        await app.give_back(connection)


async def dead_idle(app: Application) -> None:
    """Lose the backends of idle connections, which the next pre-ping finds."""
    await app.begin()
    for _ in range(app.times):
        app.terminate(*app.idle_pids())
        await app.give_back(await app.acquire())


async def disposed(app: Application) -> None:
    """Dispose the engine while connections are out, which come back later."""
    held = await app.begin()
    for _ in range(app.times):
        out = [await app.acquire() for _ in range(2)]
        await app.engine.dispose()
        for connection in [held, *out]:
            await app.give_back(connection)
        held = await app.begin()


async def server_down(app: Application) -> None:
    """Stop the server, so that pre-ping and reconnect fail; start it again, and go on."""
    await app.give_back(await app.begin())
    app.database.server.stop()
    for _ in range(app.times):
        with contextlib.suppress(*FAULTS):
            await app.acquire()
    await app.database.server.start()
    await app.begin()


async def invalidated(app: Application) -> None:
    """Give up connections with invalidate()."""
    await app.begin()
    for _ in range(app.times):
        connection = await app.acquire()
        await connection.invalidate()
        await app.give_back(connection)


async def timed_out(app: Application) -> None:
    """Hold the whole pool, so that others run into its timeout."""
    held = [await app.acquire() for _ in range(POOL_SIZE + MAX_OVERFLOW)]
    for _ in range(app.times):
        with contextlib.suppress(PoolTimeoutError):
            await app.acquire()
    for connection in held[1:]:
        await app.give_back(connection)


SCENARIOS: dict[str, Callable[[Application], Awaitable[None]]] = {
    "healthy (control)": healthy,
    "dropped, then collected": leaked,
    "detach(), then closed": detached,
    "backend dies in use": dead_in_use,
    "backend dies idle, pre-ping finds it": dead_idle,
    "dispose() under load": disposed,
    "pre-ping fails, server down": server_down,
    "invalidate()": invalidated,
    "pool timeout": timed_out,
}


class Words(logging.Handler):
    """Keep what OpenTelemetry's instrumentor logs."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.getMessage() not in self.said:
            self.said.append(record.getMessage())


@contextlib.asynccontextmanager
async def watched(database: Database, name: str) -> AsyncIterator[tuple[AsyncEngine, InMemoryMetricReader]]:
    """Yield an engine that both watch, and the reader of both."""
    reader = InMemoryMetricReader()
    provider = MeterProvider(metric_readers=[reader], shutdown_on_exit=False)
    engine = create_async_engine(
        f"postgresql+asyncpg://{database.address}",
        pool_size=POOL_SIZE,
        max_overflow=MAX_OVERFLOW,
        pool_timeout=0.05,
        pool_pre_ping=True,
        connect_args={"server_settings": {"application_name": name}},
    )
    theirs = SQLAlchemyInstrumentor()
    theirs.instrument(
        engine=engine.sync_engine, meter_provider=provider, tracer_provider=NoOpTracerProvider()
    )
    ours = instrument(engine, name=name, meter_provider=provider)
    try:
        yield engine, reader
    finally:
        ours.uninstrument()
        if theirs.is_instrumented_by_opentelemetry:
            theirs.uninstrument()
        await engine.dispose()
        provider.shutdown()


def read(reader: InMemoryMetricReader) -> dict[str, Counted | None]:
    """Return connections by state as each metric says; None where there is no such metric."""
    found: dict[str, Counted | None] = {OURS: None, THEIRS: None}
    data = reader.get_metrics_data()
    for resource in data.resource_metrics if data else ():
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                if metric.name in found:
                    counts = {"used": 0, "idle": 0}
                    for point in metric.data.data_points:
                        counts[point.attributes[STATES[metric.name]]] += point.value
                    found[metric.name] = Counted(**counts)
    return found


def compared(said: Counted | None, truth: Counted) -> dict[str, Any] | None:
    """Return what somebody says, and how far that is off the truth."""
    if said is None:
        return None
    drift = {"used": said.used - truth.used, "idle": said.idle - truth.idle}
    return {**said._asdict(), "drift": drift}


async def scenario(database: Database, number: int, times: int) -> dict[str, Any]:
    """Let one scenario happen; return who says what of its end."""
    name, happen = f"drift-{number}", list(SCENARIOS.values())[number]
    async with watched(database, name) as (engine, reader):
        app = Application(engine, database, name, times)
        await happen(app)
        truth = await app.truth()
        said = read(reader)
        result = {
            "truth": truth._asdict(),
            "pool_exporter": compared(said[OURS], truth),
            "opentelemetry": compared(said[THEIRS], truth),
        }
        for connection in list(app._held.values()):
            await app.give_back(connection)
    return result


def off(found: dict[str, Any]) -> float:
    """Return by how many connections ours is off; a metric that is missing is off by all."""
    ours = found["pool_exporter"]
    return sum(found["truth"].values()) if ours is None else sum(map(abs, ours["drift"].values()))


async def run(options: Any) -> dict[str, Any]:
    """Let every scenario happen."""
    found = machine()
    words = Words()
    logging.getLogger("opentelemetry.instrumentation.instrumentor").addHandler(words)
    logging.getLogger().addHandler(logging.NullHandler())  # SQLAlchemy and we log faults that are on purpose
    warnings.simplefilter("ignore", SAWarning)  # of dropped connections
    async with running_database() as database:
        scenarios = {
            name: await scenario(database, number, options.times) for number, name in enumerate(SCENARIOS)
        }
    return {
        "program": "drift",
        "machine": found,
        "times": options.times,
        "scenarios": scenarios,
        "opentelemetry_said": words.said,
        "budgets": [budget(f"drift of ours, {name}", off(one), 0) for name, one in scenarios.items()],
    }


def shown(result: dict[str, Any]) -> str:
    """Return the table."""

    def cells(said: dict[str, Any] | None) -> tuple[str, str]:
        if said is None:
            return "nothing", ""
        drift = said["drift"]
        exact = not any(drift.values())
        return (
            f"{said['used']}/{said['idle']}",
            "exact" if exact else f"{drift['used']:+d}/{drift['idle']:+d}",
        )

    rows = [
        (
            name,
            f"{one['truth']['used']}/{one['truth']['idle']}",
            *cells(one["pool_exporter"]),
            *cells(one["opentelemetry"]),
        )
        for name, one in result["scenarios"].items()
    ]
    head = (f"used/idle after {result['times']} times", "database", "ours", "off", "OpenTelemetry's", "off")
    said = "".join(f"OpenTelemetry's instrumentor said: {one}\n" for one in result["opentelemetry_said"])
    return f"{table(head, rows)}\n\nours: {OURS}; OpenTelemetry's: {THEIRS}, a deprecated name\n{said}"


def main() -> int:
    parser = arguments(__doc__)
    parser.add_argument(
        "--times", type=positive, default=5, help="how often each fault happens (%(default)s)"
    )
    options = parser.parse_args()
    result = asyncio.run(run(options))
    report(result, shown(result), as_json=options.as_json)
    return 0 if all(one["holds"] for one in result["budgets"]) else 1


if __name__ == "__main__":
    sys.exit(main())
