"""Run one engine under observation: what it counts against what its database sees."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from prometheus_client import CollectorRegistry
from sqlalchemy import Engine, create_engine, event, text
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.util import greenlet_spawn

from pool_exporter import Instrumentation, PoolSnapshot, instrument
from tests.capture.scenarios.drivers import PostgresDatabase, SqliteDatabase
from tests.capture.scenarios.waiting import Gate, eventually
from tests.laws import assert_laws

Database = PostgresDatabase | SqliteDatabase

_NUMBERS = (
    *("used", "idle", "uses", "checkouts", "checkins", "detaches", "leaks_collected", "adopted"),
    *("timeouts", "cancelled_acquires", "failed_acquires", "waits", "stranded_waits"),
    *("connects", "pre_ping_failures", "reset_failures", "orphaned_connections", "unaccounted_slots"),
    "telemetry_errors",
)
_BY_LABEL = ("pending_requests", "closes", "invalidations", "disconnects", "connect_errors")
_POOL_EVENTS = (
    *("connect", "checkout", "checkin", "reset", "invalidate", "soft_invalidate"),
    *("close", "detach", "close_detached"),
)


def observed(snapshot: PoolSnapshot) -> dict[str, Any]:
    """Return what a scenario counts; of the labelled counters what is not 0."""
    seen: dict[str, Any] = {name: getattr(snapshot, name) for name in _NUMBERS}
    for name in _BY_LABEL:
        seen[name] = {label: count for label, count in getattr(snapshot, name).items() if count}
    seen["pings"] = snapshot.pre_ping_seconds.count if snapshot.pre_ping_seconds else None
    return seen


class Rig:
    """An instrumented engine, its database, and what its counters should say at this moment."""

    def __init__(self, driver: str, database: Database, engine: AsyncEngine | Engine) -> None:
        self.driver = driver
        self.database = database
        self.engine: Any = engine
        self.sync_engine: Engine = engine.sync_engine if isinstance(engine, AsyncEngine) else engine
        self.dialect: Any = self.sync_engine.dialect
        self.detached = 0
        """Connections that were detached and not closed yet: the database's, no more the pool's."""
        self.instrumentation: Any = None  # an Instrumentation, once there is one
        self._expected: dict[str, Any] = {}
        self._last: PoolSnapshot | None = None
        self._violations: list[BaseException] = []

    @property
    def pool(self) -> Any:
        """Return the pool that the engine has now."""
        return self.sync_engine.pool

    def instrument(self) -> Instrumentation:
        """Instrument the engine, with a registry of its own."""
        self.registry = CollectorRegistry()  # instrument() holds it weakly
        self.instrumentation = instrument(self.engine, registry=self.registry, name=self.database.name)
        self._last = self.instrumentation.snapshot()
        assert self._last.mode == "full"
        self._expected = observed(self._last)
        return self.instrumentation

    def scrape_at_every_event(self) -> None:
        """Assert the laws in the midst of everything that the pool does."""
        for name in _POOL_EVENTS:
            event.listen(self.sync_engine, name, lambda *arguments: self._glance())
        event.listen(self.sync_engine, "do_connect", lambda *arguments: self._glance())
        event.listen(self.sync_engine, "handle_error", lambda context: self._glance())

    def _glance(self) -> None:
        if self.instrumentation is None or self.instrumentation._ledger._lock.locked():
            return  # the collector runs us inside of one of the ledger's own operations
        try:
            assert_laws(self.instrumentation.snapshot())
        except Exception as error:
            self._violations.append(error)

    # --- what the application does -------------------------------------------------------

    async def do(self, function: Callable[..., Any], *arguments: Any, **keywords: Any) -> Any:
        """Call a method of an engine, a connection or a session, and await it where it is async."""
        result = function(*arguments, **keywords)
        return await result if inspect.isawaitable(result) else result

    async def within(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call something synchronous as the driver needs it: under asyncio in a greenlet."""
        if isinstance(self.engine, AsyncEngine):
            return await greenlet_spawn(function, *arguments)
        return function(*arguments)

    async def connect(self) -> Any:
        """Acquire a connection."""
        return await self.do(self.engine.connect)

    async def raw(self) -> Any:
        """Acquire a connection without a `Connection` around it."""
        return await self.do(self.engine.raw_connection)

    async def execute(self, connection: Any, statement: str = "select 1") -> None:
        """Execute a statement and read its result."""
        (await self.do(connection.execute, text(statement))).close()

    def begin(self, fairy: Any) -> None:
        """Open a transaction on a raw connection, so that its return has something to roll back."""
        cursor = fairy.cursor()
        cursor.execute("begin immediate" if self.driver == "aiosqlite" else "select 1")
        cursor.close()

    async def warm(self, count: int = 1) -> None:
        """Leave this many connections idle in the pool; expect just that."""
        held = [await self.connect() for _ in range(count)]
        for connection in held:
            await self.do(connection.close)
        del held, connection
        await self.check(checkouts=count, checkins=count, connects=count, idle=count)

    async def fairy_of(self, connection: Any) -> Any:
        """Return the pool's proxy below a connection."""
        if isinstance(self.engine, AsyncEngine):
            return await connection.get_raw_connection()
        return connection.connection

    def age(self, fairy: Any, seconds: float = 3600.0) -> None:
        """Let a connection be this much older than it is."""
        fairy._connection_record.starttime -= seconds

    # --- what is asserted ----------------------------------------------------------------

    def snapshot(self) -> PoolSnapshot:
        """Return a snapshot that keeps the laws and goes on from the one before."""
        snapshot = self.instrumentation.snapshot()
        assert_laws(snapshot, self._last)
        self._last = snapshot
        return snapshot

    async def check(self, *, backends: int | None = None, **changes: Any) -> PoolSnapshot:
        """Assert that just these counts changed since the last check, to these values.

        `uses` follows `used` unless given. `backends` is what the database sees; by default the
        open connections and the detached ones (law 5).
        """
        assert not self._violations, self._violations
        assert changes.keys() <= self._expected.keys(), changes.keys() - self._expected.keys()
        if "used" in changes:
            changes.setdefault("uses", changes["used"])
        self._expected.update(changes)
        snapshot = self.snapshot()
        assert observed(snapshot) == self._expected
        wanted = snapshot.open + self.detached if backends is None else backends
        await eventually(lambda: self.database.backends() == wanted, f"{wanted} backends")
        return snapshot

    def pool_says(self) -> dict[str, int]:
        """Return the pool's own numbers, which are not the database's."""
        pool = self.pool
        return {"checkedin": pool.checkedin(), "checkedout": pool.checkedout(), "overflow": pool.overflow()}

    async def pending(self, **phases: int) -> None:
        """Wait until just so many acquires are in these phases."""
        await eventually(lambda: self._phases() == phases, f"pending {phases}")

    def _phases(self) -> Mapping[str, int]:
        phases = self.snapshot().pending_requests
        assert phases is not None
        return {phase: count for phase, count in phases.items() if count}

    # --- where to stop -------------------------------------------------------------------

    @contextmanager
    def entered(self, method: str) -> Iterator[asyncio.Event]:
        """Give an event that is set when SQLAlchemy has called this method of the dialect.

        With a frozen database the caller is then suspended in it and can be cancelled there.
        """
        seen = asyncio.Event()
        original = getattr(self.dialect, method)

        def entering(*arguments: Any, **keywords: Any) -> Any:
            seen.set()
            return original(*arguments, **keywords)

        self.dialect.__dict__[method] = entering
        try:
            yield seen
        finally:
            self.dialect.__dict__[method] = original

    def gate_connects(self) -> Gate:
        """Let attempts to connect wait in front of a gate."""
        gate = Gate()
        event.listen(self.sync_engine, "do_connect", gate.pass_through)
        return gate


@asynccontextmanager
async def open_rig(
    driver: str, database: Database, *, scraped: bool = False, instrumented: bool = True, **options: Any
) -> AsyncIterator[Rig]:
    """Run an engine with these options of `create_engine`; at the end nothing may be left open."""
    make: Any = create_engine if driver == "psycopg" else create_async_engine
    if not {"creator", "async_creator"} & options.keys():
        options.setdefault("connect_args", database.connect_args)
    engine = make(options.pop("url", database.url), **options)
    rig = Rig(driver, database, engine)
    database.follow(rig.sync_engine)
    if instrumented:
        rig.instrument()
    if scraped:
        rig.scrape_at_every_event()
    try:
        yield rig
        assert not rig._violations, rig._violations
        rig.snapshot()
    finally:
        database.thaw()
        await rig.do(engine.dispose)
        database.close()


OpenRig = Callable[..., Any]
