"""Do once everything that an application does with a pool, and write down how it ended."""

from __future__ import annotations

import asyncio
import gc
import re
import threading
import warnings
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import psycopg
from sqlalchemy import Engine, create_engine, event, text
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool, NullPool, QueuePool, SingletonThreadPool, StaticPool
from sqlalchemy.util import greenlet_spawn

from tests.postgres import PostgresServer
from tests.servers import until

Transcript = list[tuple[str, str]]


class Application:
    """An application whose every step is written down: its result or its exception."""

    def __init__(self, postgres: PostgresServer, observer: psycopg.Connection, name: str) -> None:
        self.observer = observer
        self.name = name
        self.steps: Transcript = []
        self.refuses = ""
        """What fails on purpose: `connect` or `initialise`."""
        self.engine: AsyncEngine = create_async_engine(
            f"postgresql+psycopg://{postgres.address}",
            pool_size=1,
            max_overflow=1,
            pool_timeout=0.02,
            pool_pre_ping=True,
            pool_recycle=3600,
            connect_args={"application_name": name},
        )
        event.listen(self.engine.sync_engine, "do_connect", self._do_connect)
        event.listen(self.engine.sync_engine, "connect", self._initialise)

    def _do_connect(self, *arguments: Any) -> None:
        if self.refuses == "connect":
            raise ConnectionRefusedError("on purpose")

    def _initialise(self, *arguments: Any) -> None:
        if self.refuses == "initialise":
            raise ValueError("on purpose")

    async def step(self, name: str, work: Callable[[], Awaitable[Any]]) -> None:
        """Do one step and write down how it ended."""
        try:
            outcome = repr(await work())
        except (Exception, asyncio.CancelledError) as error:
            outcome = f"{type(error).__qualname__}: {error}"
        pool: Any = self.engine.pool
        self.steps.append((name, re.sub(r"0x[0-9a-f]+", "0x", f"{outcome} {pool.status()}")))

    async def run(self) -> Transcript:
        """Do every step."""
        for name in (
            *("use", "recycle", "time_out", "wait", "cancel_in_queue", "strand", "cancel_executing"),
            *("fail_statement", "stream", "invalidate", "invalidate_softly", "find_dead_by_ping"),
            *("find_dead_in_use", "fail_reset", "refuse_connect", "refuse_initialise", "detach", "leak"),
            *("dispose_under_use", "use", "assign_recreated", "assign_fresh", "use"),
        ):
            await self.step(name, getattr(self, name))
        return self.steps

    def terminate(self) -> None:
        """Terminate the application's backends."""
        mine = "from pg_stat_activity where application_name = %s"
        self.observer.execute(f"select pg_terminate_backend(pid) {mine}", [self.name])
        until(lambda: not self.observer.execute(f"select 1 {mine}", [self.name]).fetchall(), "they are gone")

    async def use(self) -> Any:
        """Execute, commit, roll back."""
        async with self.engine.connect() as connection:
            await connection.execute(text("select :x"), [{"x": "1"}, {"x": "2"}])
            await connection.commit()
            result = (await connection.execute(text("select 1"))).scalar()
            await connection.rollback()
            return result

    async def recycle(self) -> None:
        """Let a connection grow older than `pool_recycle`, and use it again."""
        async with self.engine.connect() as connection:
            record: Any = (await connection.get_raw_connection())._connection_record
            record.starttime -= 7200
        await self.use()

    async def time_out(self) -> None:
        """Ask for one connection too many; then give one back that is closed as overflow."""
        async with self.engine.connect(), self.engine.connect():
            await self.engine.connect()

    async def wait(self) -> Any:
        """Wait in the queue until a connection comes back."""
        async with self.engine.connect():
            first = await self.engine.connect()
            second = asyncio.ensure_future(self.use())
            await asyncio.sleep(0)
            await first.close()
            return await second

    async def cancel_in_queue(self) -> None:
        """Cancel an acquire that queues."""
        async with self.engine.connect(), self.engine.connect():
            task = asyncio.ensure_future(self.use())
            await asyncio.sleep(0)
            task.cancel()
            await task

    async def strand(self) -> Any:
        """Cancel an acquire that connects, while another one waits in the queue."""
        await self.engine.dispose()
        async with self.engine.connect():
            connecting = asyncio.ensure_future(self.engine.connect())  # type: ignore[arg-type]
            await asyncio.sleep(0)
            waiting = asyncio.ensure_future(self.use())
            await asyncio.sleep(0)
            connecting.cancel()
            return await waiting

    async def cancel_executing(self) -> None:
        """Cancel a statement."""
        async with self.engine.connect() as connection:
            await connection.execute(text("select 1"))
            task = asyncio.ensure_future(connection.execute(text("select pg_sleep(10)")))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            task.cancel()
            await task

    async def fail_statement(self) -> None:
        """Execute a statement that fails."""
        async with self.engine.connect() as connection:
            await connection.execute(text("select 1/0"))

    async def stream(self) -> int:
        """Read a part of a server-side cursor."""
        async with self.engine.connect() as connection:
            result = await connection.stream(text("select generate_series(1, 200)"))
            return len(await result.fetchmany(10))

    async def invalidate(self) -> None:
        """Invalidate a connection."""
        async with self.engine.connect() as connection:
            await connection.execute(text("select 1"))
            await connection.invalidate()

    async def invalidate_softly(self) -> None:
        """Invalidate a connection for its next acquire."""
        async with self.engine.connect() as connection:
            await connection.run_sync(lambda sync: sync.connection.invalidate(soft=True))
        await self.use()

    async def find_dead_by_ping(self) -> None:
        """Acquire a connection whose backend died."""
        await self.use()
        self.terminate()
        await self.use()

    async def find_dead_in_use(self) -> None:
        """Execute on a connection whose backend died."""
        async with self.engine.connect() as connection:
            await connection.execute(text("select 1"))
            self.terminate()
            await connection.execute(text("select 2"))

    async def fail_reset(self) -> None:
        """Give a connection back whose backend died."""
        fairy: Any = await self.engine.raw_connection()
        await greenlet_spawn(lambda: fairy.cursor().execute("select 1"))
        self.terminate()
        await greenlet_spawn(fairy.close)

    async def refuse_connect(self) -> None:
        """Fail to connect."""
        await self.engine.dispose()
        await self._refused("connect")

    async def refuse_initialise(self) -> None:
        """Connect, and fail in a listener of the connect event."""
        await self._refused("initialise")

    async def _refused(self, what: str) -> None:
        self.refuses = what
        try:
            await self.use()
        finally:
            self.refuses = ""

    async def detach(self) -> Any:
        """Detach a connection and close it."""
        connection = await self.engine.connect()
        await connection.run_sync(lambda sync: sync.detach())
        result = (await connection.execute(text("select 1"))).scalar()
        await connection.close()
        return result

    async def leak(self) -> None:
        """Drop a connection and let the collector take it."""
        fairy: Any = await self.engine.raw_connection()
        del fairy
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            gc.collect()
        await asyncio.sleep(0)

    async def dispose_under_use(self) -> Any:
        """Dispose of the pool with one connection idle and one out."""
        async with self.engine.connect() as connection:
            await self.use()
            await self.engine.dispose()
            return (await connection.execute(text("select 1"))).scalar()

    async def assign_recreated(self) -> Any:
        """Replace the pool by hand, as the documentation of `recreate()` says."""
        pool = self.engine.pool
        self.engine.sync_engine.pool = pool.recreate()
        await greenlet_spawn(pool.dispose)
        return await self.use()

    async def assign_fresh(self) -> Any:
        """Replace the pool by another one, that knows no listener."""
        pool: Any = self.engine.pool
        await self.engine.dispose()
        self.engine.sync_engine.pool = AsyncAdaptedQueuePool(
            pool._creator, pool_size=2, max_overflow=0, dialect=pool._dialect
        )
        return await self.use()


def other_pools(directory: Path) -> list[tuple[Engine, Any]]:
    """Return engines on SQLite with each other kind of pool, each with a connection that is out."""
    engines = []
    for kind, options in (
        (NullPool, {}),
        (StaticPool, {}),
        (SingletonThreadPool, {"pool_size": 1}),
        (QueuePool, {"pool_size": 1, "max_overflow": 0}),
    ):
        engine = create_engine(f"sqlite:///{directory}/{kind.__name__}", poolclass=kind, **options)
        engines.append((engine, engine.connect()))
    return engines


def use_pools(engines: list[tuple[Engine, Any]]) -> Transcript:
    """Use what `other_pools` returned."""
    steps: Transcript = []
    for engine, early in engines:
        kind = type(engine.pool)
        if isinstance(engine.pool, QueuePool):
            early.close()
        try:
            with engine.connect() as outer:
                steps.append((kind.__name__, repr(outer.execute(text("select 1")).scalar())))
                if not isinstance(engine.pool, QueuePool):
                    with engine.connect() as inner:
                        steps.append(("inner", repr(inner.execute(text("select 2")).scalar())))
            thread = threading.Thread(target=lambda engine: engine.connect().close(), args=[engine])
            thread.start()
            thread.join()
        except Exception as error:
            steps.append((kind.__name__, repr(error)))
        early.close()
        engine.dispose()
        steps.append(("status", re.sub("id:[0-9]+", "", engine.pool.status())))
    return steps
