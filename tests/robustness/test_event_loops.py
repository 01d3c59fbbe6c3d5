"""One engine, several event loops: one after the other, at once, closed too early, of another make."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvloop
from prometheus_client import CollectorRegistry
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool, NullPool

from pool_exporter import Instrumentation, instrument
from tests.laws import assert_laws


@pytest.fixture(params=[AsyncAdaptedQueuePool, NullPool], ids=lambda pool: pool.__name__)
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncEngine:
    return create_async_engine(f"sqlite+aiosqlite:///{tmp_path}/database", poolclass=request.param)


@pytest.fixture
def pool(engine: AsyncEngine) -> Iterator[Instrumentation]:
    with instrument(engine, registry=CollectorRegistry(), name="orders") as made:
        yield made


async def use(engine: AsyncEngine, times: int) -> None:
    """Use the engine from several tasks at once."""

    async def one() -> None:
        async with engine.connect() as connection:
            await connection.execute(text("SELECT 1"))

    await asyncio.gather(*(one() for _ in range(times)))


async def use_and_dispose(engine: AsyncEngine, times: int) -> None:
    """Do as SQLAlchemy asks for where loops follow each other."""
    await use(engine, times)
    await engine.dispose()


def test_loops_one_after_the_other(engine: AsyncEngine, pool: Instrumentation) -> None:
    """`asyncio.run()` again and again: the books go on from loop to loop, and balance."""
    for number in range(1, 4):
        asyncio.run(use_and_dispose(engine, 5))
        now = pool.snapshot()
        assert_laws(now)
        assert (now.checkouts, now.statements, now.open) == (5 * number, 5 * number, 0)


def test_loops_of_another_make(engine: AsyncEngine, pool: Instrumentation) -> None:
    """uvloop's loops are loops."""
    loop = uvloop.new_event_loop()
    try:
        loop.run_until_complete(use_and_dispose(engine, 5))
    finally:
        loop.close()
    asyncio.run(use_and_dispose(engine, 3))
    now = pool.snapshot()
    assert_laws(now)
    assert (now.checkouts, now.open) == (8, 0)


def test_two_loops_at_once(tmp_path: Path) -> None:
    """Two threads with a loop each share an engine without a pool, as SQLAlchemy allows: exact totals."""
    engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path}/database", poolclass=NullPool)
    with instrument(engine, registry=CollectorRegistry(), name="orders") as pool:
        asyncio.run(use(engine, 1))  # SQLAlchemy initialises a dialect once, in one loop
        threads = [threading.Thread(target=asyncio.run, args=(use(engine, 30),)) for _ in range(2)]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            assert_laws(pool.snapshot())
        now = pool.snapshot()
        assert_laws(now)
        assert (now.checkouts, now.connects, now.open) == (61, 61, 0)


def test_a_snapshot_from_no_loop(engine: AsyncEngine, pool: Instrumentation) -> None:
    """Where a loop was closed with a connection out, what is asked later is answered, and names the holder."""
    kept = []

    async def leak() -> None:
        connection = await engine.connect()
        kept.append(connection)

    loop = asyncio.new_event_loop()
    loop.run_until_complete(leak())
    now = pool.snapshot()
    assert_laws(now)
    assert now.used == 1
    (held,) = pool.held()
    assert held.function is not None
    assert held.function.endswith("leak")
    loop.run_until_complete(kept.pop().close())
    loop.run_until_complete(engine.dispose())
    loop.close()
    assert pool.held() == []
    assert pool.snapshot().open == 0


@pytest.mark.parametrize("number", range(3))
async def test_a_loop_for_each_test(number: int, tmp_path: Path) -> None:
    """As a test suite does: each has a loop, an engine and an instrumentation of one name."""
    engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path}/database")
    with instrument(engine, registry=CollectorRegistry(), name="orders") as pool:
        await use_and_dispose(engine, number + 1)
        now = pool.snapshot()
        assert_laws(now)
        assert (now.name, now.checkouts) == ("orders", number + 1)
