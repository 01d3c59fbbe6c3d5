"""Check who acquires through an engine, a session or run_sync()."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession, async_scoped_session
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool, QueuePool, SingletonThreadPool, StaticPool
from sqlalchemy.util import await_only, greenlet_spawn

from tests.capture.callers.applications import (
    Application,
    Thing,
    assert_held,
    name_of,
    place_of,
)
from tests.capture.callers.conftest import MakeApplication
from tests.capture.callers.ways import SELECT
from tests.capture.engines.databases import eventually


async def test_connect_that_is_awaited(app: Application) -> None:
    """The line that awaits `engine.connect()` has the connection."""
    connection = await app.engine.connect()  # acquires
    app.assert_held_by(test_connect_that_is_awaited)
    await connection.close()


@pytest.mark.parametrize("driver", ["asyncpg", "psycopg_async", "aiosqlite"])
async def test_connect_as_a_context(driver: str, make: MakeApplication) -> None:
    """The line of `async with engine.connect()` has it, on every driver."""
    app = make(driver)
    async with app.engine.connect() as connection:  # acquires
        app.assert_held_by(test_connect_as_a_context)
        await connection.execute(SELECT)
        app.assert_held_by(test_connect_as_a_context)


async def test_begin(app: Application) -> None:
    """The line of `async with engine.begin()` has it."""
    async with app.engine.begin():  # acquires
        app.assert_held_by(test_begin)


async def test_start(app: Application) -> None:
    """It is the line that starts a connection that has it, not the one that made it."""
    connection = app.engine.connect()
    await connection.start()  # acquires
    app.assert_held_by(test_start)
    await connection.close()


async def test_a_line_of_a_statement_of_several_lines(app: Application) -> None:
    """In a statement of several lines it is the line of the call."""
    connections = [
        None,
        await app.engine.connect(),  # acquires
    ]
    app.assert_held_by(test_a_line_of_a_statement_of_several_lines)
    await connections[1].close()


async def test_an_exit_stack(app: Application) -> None:
    """The function that gives its connection to an exit stack has it."""
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(app.engine.connect())  # acquires
        app.assert_held_by(test_an_exit_stack)


async def test_an_option_engine(app: Application) -> None:
    """A connection of an option engine is found like one of its root."""
    async with app.engine.execution_options(isolation_level="AUTOCOMMIT").connect():  # acquires
        app.assert_held_by(test_an_option_engine)


@pytest.mark.parametrize("driver", ["asyncpg", "psycopg_async", "aiosqlite"])
async def test_raw_connection(driver: str, make: MakeApplication) -> None:
    """The line of `engine.raw_connection()` has it."""
    app = make(driver)
    connection = await app.engine.raw_connection()  # acquires
    app.assert_held_by(test_raw_connection)
    await greenlet_spawn(connection.close)


async def test_the_pool_itself(app: Application) -> None:
    """A function that asks the pool itself, in a greenlet, has it."""

    def asks() -> Any:
        return app.engine.sync_engine.pool.connect()  # acquires

    connection = await greenlet_spawn(asks)
    app.assert_held_by(asks)
    await greenlet_spawn(connection.close)


@pytest.mark.parametrize("pre_ping", [False, True])
async def test_new_and_reused(pre_ping: bool, make: MakeApplication) -> None:
    """A new connection, a reused one, and one that is pinged before, all have the right holder."""
    app = make("asyncpg", pool_pre_ping=pre_ping)
    for _ in range(3):
        async with app.engine.connect():  # acquires
            app.assert_held_by(test_new_and_reused)
    snapshot = app.pool.snapshot()
    assert (snapshot.connects, snapshot.checkouts) == (1, 3)
    assert snapshot.pre_ping_seconds is not None
    assert snapshot.pre_ping_seconds.count == 2 * pre_ping


async def test_again_after_an_invalidation(app: Application) -> None:
    """A connection that reconnects belongs to the line that made it do so."""
    async with app.engine.connect() as connection:
        await connection.invalidate()
        await connection.rollback()
        assert app.pool.held() == []
        await connection.execute(SELECT)  # acquires
        app.assert_held_by(test_again_after_an_invalidation)


@pytest.mark.parametrize("driver", ["asyncpg", "aiosqlite"])
async def test_a_wait_in_the_queue(driver: str, make: MakeApplication) -> None:
    """Whoever waited in the queue has what it was given, and not whoever gave it back."""
    app = make(driver, pool_size=1, max_overflow=0)
    acquired, released = asyncio.Event(), asyncio.Event()

    async def waits() -> None:
        async with app.engine.connect():  # acquires
            acquired.set()
            await released.wait()

    holder = await app.engine.connect()
    waiter = asyncio.create_task(waits(), name="waiter")
    await eventually(lambda: app.pool.snapshot().pending == 1, "the waiter waits")
    await holder.close()
    await acquired.wait()
    held = app.held()
    released.set()
    await waiter
    assert_held(held, place_of(waits), task="waiter")
    assert app.pool.snapshot().waits == 1


@pytest.mark.parametrize("kind", [StaticPool, NullPool, SingletonThreadPool, QueuePool])
def test_every_kind_of_pool(kind: Any, make: MakeApplication) -> None:
    """The holder is found in pools that share, keep nothing or have one connection for each thread."""
    app = make("pysqlite", poolclass=kind)
    with app.engine.connect():  # acquires
        app.assert_held_by(test_every_kind_of_pool)


def test_a_shared_connection(make: MakeApplication) -> None:
    """Each use of one connection has a holder of its own."""
    app = make("pysqlite", poolclass=StaticPool)

    def other() -> Any:
        return app.engine.connect()  # acquires

    with app.engine.connect(), other():
        first, second = app.pool.held()
        assert (first.function, second.function) == (name_of(test_a_shared_connection), name_of(other))


@pytest.mark.parametrize("driver", ["asyncpg", "psycopg_async", "aiosqlite"])
async def test_the_first_execute_of_a_session(driver: str, make: MakeApplication) -> None:
    """A session acquires when it first executes, and that line has the connection from then on."""
    app = make(driver)
    async with app.session() as session:
        assert app.pool.held() == []
        await session.execute(SELECT)  # acquires
        await session.execute(SELECT)
        app.assert_held_by(test_the_first_execute_of_a_session)


async def test_a_session_that_begins(app: Application) -> None:
    """To begin acquires nothing yet."""
    async with app.session() as session, session.begin():
        assert app.pool.held() == []
        await session.execute(SELECT)  # acquires
        app.assert_held_by(test_a_session_that_begins)


async def test_the_next_transaction_of_a_session(app: Application) -> None:
    """Each transaction has the holder that began it."""
    async with app.session() as session:
        await session.execute(SELECT)
        await session.commit()
        await session.execute(SELECT)  # acquires
        app.assert_held_by(test_the_next_transaction_of_a_session)


async def test_the_connection_of_a_session(app: Application) -> None:
    """The line of `session.connection()` has it."""
    async with app.session() as session:
        await session.connection()  # acquires
        app.assert_held_by(test_the_connection_of_a_session)


async def test_get(app: Application) -> None:
    """The line of `session.get()` has it."""
    async with app.session() as session:
        assert await session.get(Thing, 1) is not None  # acquires
        app.assert_held_by(test_get)


async def test_scalars(app: Application) -> None:
    """The line of `session.scalars()` has it."""
    async with app.session() as session:
        (await session.scalars(select(Thing))).all()  # acquires
        app.assert_held_by(test_scalars)


async def test_stream(app: Application) -> None:
    """The line of `session.stream()` has it, while the stream is read too."""
    async with app.session() as session:
        result = await session.stream(select(Thing))  # acquires
        async for _ in result:
            app.assert_held_by(test_stream)


async def test_refresh(app: Application) -> None:
    """The line of `session.refresh()` after a commit has it."""
    async with app.session() as session:
        thing = await session.get(Thing, 1)
        await session.commit()
        await session.refresh(thing)  # acquires
        app.assert_held_by(test_refresh)


async def test_an_awaited_attribute(app: Application) -> None:
    """The line that awaits an expired attribute has it."""
    async with app.session() as session:
        thing = await session.get(Thing, 1)
        assert thing is not None
        await session.commit()
        await thing.awaitable_attrs.id  # acquires
        app.assert_held_by(test_an_awaited_attribute)


async def test_a_sessionmaker_that_begins(app: Application) -> None:
    """A session of `async_sessionmaker.begin()` acquires where it first executes."""
    async with app.sessions.begin() as session:
        await session.execute(SELECT)  # acquires
        app.assert_held_by(test_a_sessionmaker_that_begins)


async def test_a_scoped_session(app: Application) -> None:
    """The line that executes through `async_scoped_session` has it."""
    scoped = async_scoped_session(app.sessions, scopefunc=asyncio.current_task)
    await scoped.execute(SELECT)  # acquires
    app.assert_held_by(test_a_scoped_session)
    await scoped.remove()


@pytest.mark.parametrize("driver", ["asyncpg", "psycopg_async", "aiosqlite"])
async def test_run_sync(driver: str, make: MakeApplication) -> None:
    """The function within `run_sync()` that executes has it, not the coroutine around it."""
    app = make(driver)

    def executes(session: Session) -> None:
        session.execute(SELECT)  # acquires

    async with app.session() as session:
        await session.run_sync(executes)
        app.assert_held_by(executes)


async def test_a_function_called_within_run_sync(app: Application) -> None:
    """It is the innermost function that has it."""

    def innermost(session: Session) -> None:
        session.scalars(select(Thing)).all()  # acquires

    def outer(session: Session) -> None:
        innermost(session)

    async with app.session() as session:
        await session.run_sync(outer)
        app.assert_held_by(innermost)


async def test_run_sync_of_a_method_of_sqlalchemy(app: Application) -> None:
    """Where all within `run_sync()` is SQLAlchemy's, the coroutine around it has it."""
    async with app.session() as session:
        await session.run_sync(Session.connection)  # acquires
        app.assert_held_by(test_run_sync_of_a_method_of_sqlalchemy)


async def test_a_coroutine_awaited_within_run_sync(app: Application) -> None:
    """A coroutine that a synchronous function waits for has what it acquires."""

    async def executes(session: AsyncSession) -> None:
        await session.execute(SELECT)  # acquires

    async with app.session() as session:
        await session.run_sync(lambda _: await_only(executes(session)))
        app.assert_held_by(executes)
