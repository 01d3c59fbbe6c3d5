"""A state machine that drives a real pool and checks the laws of counting at each step."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import time
import warnings
from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession, create_async_engine
from sqlalchemy.pool import NullPool

from pool_exporter import PoolSnapshot, instrument
from tests.laws import ROUNDING_SECONDS, assert_laws
from tests.ledger.jobs import ROUND_SECONDS, CountingSelector, Job, fairy_of, is_out
from tests.postgres import PostgresServer
from tests.servers import until

DEADLINE_SECONDS = 20.0


MAX_JOBS = 8


MAX_WAITING = 4


EXPECTED = (
    *(SQLAlchemyError, OSError, asyncio.CancelledError),
    *(asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError),
)
"""What an application must reckon with where backends die and tasks are cancelled."""


STATEMENTS = ("select 1", "select pg_sleep(0.01)", "select 1/0", "select generate_series(1, 5000)", "commit")


class PoolMachine(RuleBasedStateMachine):
    """An application that does everything at once with one small pool."""

    dropped = False

    server: PostgresServer
    restarts: bool
    numbers = iter(range(10**9))

    @initialize(
        pre_ping=st.booleans(),
        lifo=st.booleans(),
        unpooled=st.sampled_from([False] * 7 + [True]),
        overflow=st.integers(0, 2),
        timeout=st.sampled_from([0.05, 0.1, 0.2]),
        recycle=st.sampled_from([-1, 3600]),
        late=st.booleans(),
    )
    def create(
        self,
        pre_ping: bool,
        lifo: bool,
        unpooled: bool,
        overflow: int,
        timeout: float,
        recycle: int,
        late: bool,
    ) -> None:
        """Create an engine and instrument it, before its first connection or after."""
        gc.collect()
        gc.disable()  # collections are a rule of their own
        self.selector = CountingSelector()
        self.loop = asyncio.SelectorEventLoop(self.selector)
        self.application = f"machine-{next(self.numbers)}"
        options: dict[str, Any] = {"poolclass": NullPool}
        if not unpooled:
            options = {
                "pool_size": 2,
                "max_overflow": overflow,
                "pool_timeout": timeout,
                "pool_use_lifo": lifo,
            }
        self.engine = create_async_engine(
            f"postgresql+asyncpg://{self.server.address}",
            pool_pre_ping=pre_ping,
            pool_recycle=recycle,
            connect_args={"timeout": 5, "server_settings": {"application_name": self.application}},
            **options,
        )
        self.unpooled = unpooled
        self.capacity = 3 if unpooled else 2 + overflow
        self.jobs: list[Job] = []
        self.held: list[AsyncConnection] = []
        self.detached: set[int] = set()
        self.one_generation = True
        self.slots_lost = False
        self.before: PoolSnapshot | None = None
        if late:
            self.begin_acquire()
            self.finish(0)
        self.instrumentation = instrument(self.engine, registry=None)

    # --- steps -----------------------------------------------------------------------------

    def run(self, work: Callable[[], Awaitable[Any]]) -> Any:
        """Run the loop until some work of the machine's own is done."""
        return self.loop.run_until_complete(work())

    def start(self, work: Awaitable[Any], connection: AsyncConnection | None = None) -> None:
        """Begin a job; its connection is nobody else's until it is done."""
        self.jobs.append(Job(self.loop.create_task(work), connection))  # type: ignore[arg-type]
        if connection is not None:
            self.held.remove(connection)

    @rule(turns=st.integers(0, 8), rounds=st.integers(0, 6))
    def advance(self, turns: int, rounds: int) -> None:
        """Let the loop turn, then let it see so many rounds of I/O."""

        async def turn() -> None:
            for _ in range(turns):
                await asyncio.sleep(0)
            last, deadline = self.selector.rounds + rounds, self.loop.time() + ROUND_SECONDS
            while self.selector.rounds < last and self.loop.time() < deadline and self._under_way():
                await asyncio.sleep(0)

        self.run(turn)
        self.harvest()

    def _under_way(self) -> bool:
        return any(not job.task.done() for job in self.jobs)

    def harvest(self) -> None:
        """Take the connections of the jobs that are done."""
        for job in [job for job in self.jobs if job.task.done()]:
            self.jobs.remove(job)
            connection = job.connection
            if job.task.cancelled():
                error: BaseException | None = asyncio.CancelledError()
            else:
                error = job.task.exception()
            if error is None:
                connection = connection or job.task.result()
            elif not isinstance(error, EXPECTED):
                raise error
            if isinstance(connection, AsyncConnection) and not connection.closed:
                self.held.append(connection)

    @rule(number=st.integers(0, MAX_JOBS))
    def finish(self, number: int) -> None:
        """Wait for one of the jobs."""
        if self.jobs:
            self.await_jobs([self.jobs[number % len(self.jobs)]])

    def await_jobs(self, jobs: list[Job]) -> None:
        """Wait for jobs; fail after the deadline."""

        async def wait() -> None:
            _, late = await asyncio.wait([job.task for job in jobs], timeout=DEADLINE_SECONDS)
            assert not late

        self.run(wait)
        self.harvest()

    def pick(self, number: int) -> AsyncConnection | None:
        """Return one of the connections that no job works on; acquire one if there is none."""
        if not self.held and self.may_acquire():
            self.begin_acquire()
            self.await_jobs(self.jobs[-1:])
        return self.held[number % len(self.held)] if self.held else None

    # --- what the application does ------------------------------------------------------------

    def may_acquire(self) -> bool:
        """Tell whether another acquire is wanted: a server has only so many connections."""
        return len(self.jobs) < MAX_JOBS and len(self.jobs) + len(self.held) < self.capacity + MAX_WAITING

    def begin_acquire(self) -> None:
        """Begin to acquire a connection."""

        async def work() -> AsyncConnection:
            return await self.engine.connect()

        self.start(work())

    @rule(count=st.integers(1, 5), turns=st.integers(0, 4), rounds=st.integers(0, 6))
    def acquire(self, count: int, turns: int, rounds: int) -> None:
        """Begin to acquire connections, and leave them where they are after some turns."""
        for _ in range(count):
            if self.may_acquire():
                self.begin_acquire()
        self.advance(turns, rounds)

    @rule(rounds=st.integers(0, 6))
    def leak(self, rounds: int) -> None:
        """Begin to acquire a connection that is dropped as soon as it is there."""
        if self.may_acquire():

            async def work() -> None:
                fairy: Any = await self.engine.raw_connection()
                del fairy

            self.start(work())
            self.advance(0, rounds)

    @rule(number=st.integers(0, 3), kind=st.sampled_from(STATEMENTS), rounds=st.integers(0, 3))
    def execute(self, number: int, kind: str, rounds: int) -> None:
        """Begin a statement, or a commit, on a connection."""
        connection = self.pick(number)
        if connection is None:
            return

        async def work() -> None:
            if kind == "commit":
                await connection.commit()
            else:
                await connection.execute(text(kind))

        self.start(work(), connection)
        self.advance(1, rounds)

    @rule(number=st.integers(0, 3), rounds=st.integers(0, 3))
    def stream(self, number: int, rounds: int) -> None:
        """Begin a server-side cursor and leave it unread."""
        connection = self.pick(number)
        if connection is None:
            return

        async def work() -> None:
            await connection.stream(text("select generate_series(1, 2000)"))

        self.start(work(), connection)
        self.advance(1, rounds)

    @rule(number=st.integers(0, 3), rounds=st.integers(0, 3))
    def release(self, number: int, rounds: int) -> None:
        """Begin to close a connection."""
        connection = self.pick(number)
        if connection is not None:
            self.start(connection.close(), connection)
            self.advance(1, rounds)

    @rule(number=st.integers(0, 3), soft=st.booleans(), rounds=st.integers(0, 2))
    def invalidate(self, number: int, soft: bool, rounds: int) -> None:
        """Invalidate a connection; a soft invalidation shows at its next acquire."""
        connection = self.pick(number)
        if connection is not None and fairy_of(connection) is not None:

            async def work() -> None:
                if soft:
                    await connection.run_sync(lambda sync: sync.connection.invalidate(soft=True))
                else:
                    await connection.invalidate()

            self.start(work(), connection)
            self.advance(1, rounds)

    @rule(number=st.integers(0, 3), close=st.booleans())
    def detach(self, number: int, close: bool) -> None:
        """Detach a connection, and close it or go on with it."""
        connection = self.pick(number)
        fairy = fairy_of(connection)
        if connection is None or fairy is None or fairy.is_detached:
            return
        self.detached.add(fairy.driver_connection.get_server_pid())

        async def work() -> None:
            await connection.run_sync(lambda sync: sync.detach())

        self.start(work(), connection)
        self.finish(len(self.jobs) - 1)
        if close and connection in self.held:
            self.start(connection.close(), connection)

    @rule(number=st.integers(0, 3))
    def drop(self, number: int) -> None:
        """Drop a connection without closing it, and let the collector take it."""
        connection = self.pick(number)
        if connection is not None:
            self.held.remove(connection)
            self.dropped = True
            del connection
            self.collect()

    def collect(self) -> None:
        """Collect garbage, of which SQLAlchemy and the driver warn."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            gc.collect()

    @rule(number=st.integers(0, MAX_JOBS), turns=st.integers(0, 4), rounds=st.integers(0, 2))
    def cancel(self, number: int, turns: int, rounds: int) -> None:
        """Cancel a job wherever it is: in the queue, connecting, pinging, executing, resetting, closing."""
        if self.jobs:
            self.jobs[number % len(self.jobs)].task.cancel()
            self.advance(turns, rounds)

    @rule(rounds=st.integers(0, 6))
    def use_session(self, rounds: int) -> None:
        """Begin a transaction of a session of its own."""
        if self.may_acquire():

            async def work() -> None:
                async with AsyncSession(self.engine) as session:
                    await session.execute(text("select 1"))
                    await session.commit()
                    await session.execute(text("select 2"))

            self.start(work())
            self.advance(0, rounds)

    @rule(close=st.booleans(), rounds=st.integers(0, 2), rarely=st.integers(0, 2))
    def dispose(self, close: bool, rounds: int, rarely: int) -> None:
        """Begin to dispose of the pool."""
        if rarely == 0:

            async def work() -> None:
                try:
                    await self.engine.dispose(close=close)
                except asyncio.CancelledError:
                    self.slots_lost = True  # truth table, 13i
                    raise

            self.one_generation = False
            self.start(work())
            self.advance(1, rounds)

    # --- what happens to it ----------------------------------------------------------------------

    @rule(number=st.integers(0, 5))
    def kill(self, number: int) -> None:
        """Terminate one of the backends, held or idle."""
        backends = self.server.backends(self.application)
        if backends:
            pid = backends[number % len(backends)]
            with self.server.observer() as observer:
                observer.execute("select pg_terminate_backend(%s)", [pid])
            until(lambda: pid not in self.server.backends(self.application), "the backend is gone")

    @rule(number=st.integers(0, 3))
    def grow_old(self, number: int) -> None:
        """Make a connection older than `pool_recycle`."""
        fairy = fairy_of(self.pick(number))
        if fairy is not None and fairy._connection_record is not None:
            fairy._connection_record.starttime -= 7200

    @rule(rarely=st.integers(0, 5))
    def restart(self, rarely: int) -> None:
        """Restart the server: every connection is dead."""
        if rarely == 0 and self.restarts:
            self.server.stop()
            self.advance(1, 3)
            self.server.start()

    @rule(rarely=st.integers(0, 3))
    def instrument_again(self, rarely: int) -> None:
        """Uninstrument and instrument again, on the pool as it is."""
        if rarely == 0 and self.one_generation:
            self.instrumentation.uninstrument()
            self.instrumentation = instrument(self.engine, registry=None)
            self.before = None

    # --- what must hold -----------------------------------------------------------------------------

    @invariant()
    def laws_hold(self) -> None:
        """Laws 1 to 4, and as many uses as there are connections out."""
        self.harvest()
        now = self.instrumentation.snapshot()
        assert_laws(now, self.before)
        if self.before is not None:
            elapsed = now.occupancy_seconds - self.before.occupancy_seconds
            assert elapsed >= -ROUNDING_SECONDS
        out = sum(1 for connection in self.held if is_out(connection))
        if now.uses > out + len(self.jobs):
            self.collect()  # what a cancelled job acquired may be garbage already
            now = self.instrumentation.snapshot()
            assert_laws(now, self.before)
        assert out <= now.uses <= out + len(self.jobs), (out, now.uses, self.jobs)
        if not self.jobs and not self.slots_lost and not self.unpooled:
            assert now.unaccounted_slots == 0
            assert now.pending == 0
        assert sum((now.pending_requests or {}).values()) <= len(self.jobs)
        self.before = now

    @rule()
    def rest(self) -> None:
        """Law 5: with everything done and the dead noticed, open is what the database sees."""
        if self.jobs:
            self.await_jobs(list(self.jobs))
        self.notice_the_dead()
        deadline = time.monotonic() + DEADLINE_SECONDS
        while True:
            self.collect()
            self.advance(3, 0)
            backends = [pid for pid in self.server.backends(self.application) if pid not in self.detached]
            now = self.instrumentation.snapshot()
            # What was dropped, the driver itself may still hold open for a while: then the server
            # has more than the application, and never less.
            least = 0 if self.dropped else len(backends)
            if least <= now.open <= len(backends) + self.unnoticed(now):
                break
            assert time.monotonic() < deadline, f"open {now.open}, backends {backends}: {counted(now)}"
        out = sum(1 for connection in self.held if is_out(connection))
        assert (now.uses, now.pending) == (out, 0)

    def unnoticed(self, now: PoolSnapshot) -> int:
        """Return how many dead connections nobody can notice: idle ones in a pool that is disposed of.

        They stay there until the last connection that is out of that pool comes back.
        """
        if not self.held:
            return 0
        out = [fairy_of(connection) for connection in self.held if is_out(connection)]
        pool = self.engine.pool
        return now.orphaned_connections - sum(1 for fairy in out if fairy._pool is not pool)

    def notice_the_dead(self) -> None:
        """Use every connection once: those that are held, then the idle ones."""

        async def use(connection: AsyncConnection) -> None:
            with contextlib.suppress(*EXPECTED):
                await connection.execute(text("select 1"))

        async def use_all() -> None:
            for connection in self.held:
                await use(connection)
            idle = []
            for _ in range(0 if self.unpooled else self.engine.pool.checkedin()):  # type: ignore[attr-defined]
                with contextlib.suppress(*EXPECTED):
                    idle.append(await self.engine.connect())
            for connection in idle:
                await use(connection)
                with contextlib.suppress(*EXPECTED):
                    await connection.close()

        self.run(use_all)

    def teardown(self) -> None:
        """Close everything; nothing is left, here or in the database."""
        if not hasattr(self, "instrumentation"):
            gc.enable()
            return
        try:
            if self.jobs:
                self.await_jobs(list(self.jobs))
            for _ in range(2):
                for connection in list(self.held):
                    self.start(connection.close(), connection)
                if self.jobs:
                    self.await_jobs(list(self.jobs))
            self.held.clear()
            self.rest()
            self.start(self.engine.dispose())
            self.await_jobs(list(self.jobs))
            self.rest()
            self.laws_hold()
            now = self.instrumentation.snapshot()
            assert (now.open, now.uses, now.pending) == (0, 0, 0)
        finally:
            self.instrumentation.uninstrument()
            for job in self.jobs:
                job.task.cancel()
            self.advance(3, 0)
            self.jobs.clear()
            self.held.clear()
            self.collect()
            self.run(self.loop.shutdown_asyncgens)
            self.loop.close()
            gc.enable()


def counted(snapshot: PoolSnapshot) -> dict[str, Any]:
    """Return what a snapshot counts, without the zeros, for a message."""
    found = {name: getattr(snapshot, name) for name in PoolSnapshot.__slots__ if "seconds" not in name}
    found["closes"] = {reason: count for reason, count in snapshot.closes.items() if count}
    return {name: value for name, value in found.items() if value}
