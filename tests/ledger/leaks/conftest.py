"""Give each test a PostgreSQL and engines whose uses age by a clock that the test moves."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from pool_exporter import Attribution, Instrumentation, LeakPolicy, instrument
from tests.postgres import PostgresServer

POLICY = LeakPolicy(idle_in_transaction_seconds=60, idle_seconds=300, busy_seconds=400, orphaned_seconds=500)


class Clock:
    """A monotonic clock that the test can move on."""

    def __init__(self) -> None:
        self.moved = 0.0

    def __call__(self) -> float:
        """Return the time in seconds."""
        return time.monotonic() + self.moved

    def move(self, seconds: float) -> None:
        """Let so many seconds go by at once."""
        self.moved += seconds


class Pool:
    """An engine, its instrumentation and the clock by which its uses age."""

    def __init__(self, engine: AsyncEngine, instrumentation: Instrumentation, clock: Clock) -> None:
        self.engine = engine
        self.instrumentation = instrumentation
        self.clock = clock
        instrumentation._ledger.clock = clock

    def move(self, seconds: float) -> None:
        """Let seconds go by, and look as the background check does."""
        self.clock.move(seconds)
        self.check()

    def check(self) -> None:
        """Look and report, as the background check does."""
        self.instrumentation._check()


Pools = Callable[..., Pool]


@pytest.fixture
async def pools(postgres: PostgresServer) -> AsyncIterator[Pools]:
    """Make instrumented pools on the server; options go to the engine, `leaks` to `instrument()`."""
    made: list[Pool] = []

    def make(
        leaks: LeakPolicy | None = POLICY, *, attribution: bool | Attribution = True, **options: Any
    ) -> Pool:
        engine = create_async_engine(
            f"postgresql+asyncpg://{postgres.address}",
            connect_args={"server_settings": {"application_name": f"leaks-{len(made)}"}},
            **options,
        )
        instrumentation = instrument(
            engine, name=f"leaks {len(made)}", registry=None, leaks=leaks, attribution=attribution
        )
        pool = Pool(engine, instrumentation, Clock())
        made.append(pool)
        return pool

    yield make
    for pool in made:
        pool.instrumentation.uninstrument()
        await pool.engine.dispose()
