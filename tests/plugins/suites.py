"""Hold the suites that the plugin is tried on, and say how each test plugin is to run them."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import entry_points

INSTALLED = any(point.name == "pool_exporter" for point in entry_points(group="pytest11"))


LOADED = () if INSTALLED else ("-p", "pool_exporter.plugins.pytest.plugin")
"""What loads the plugin; where it was installed by its entry point, pytest does so itself."""


HEADS = '''
import asyncio
import gc
import os
import tempfile
import threading
import unittest
import weakref

import pytest
from prometheus_client import CollectorRegistry
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

from pool_exporter import LeakPolicy, OwnerMiddleware, instrument, snapshots

held = []
"""What the application keeps, for as long as the process lives."""

directory = tempfile.TemporaryDirectory()


def new_engine(**options):
    return create_engine(f"sqlite:///{directory.name}/test.db", **options)


def new_async_engine(**options):
    return create_async_engine(f"sqlite+aiosqlite:///{directory.name}/test.db", **options)

'''
"""What every suite begins with."""


@dataclass(frozen=True)
class Flavour:
    """One way to run asynchronous tests: options, ini lines, and what a suite begins with."""

    name: str
    options: tuple[str, ...]
    ini: str
    head: str
    one_loop: bool
    """Whether one event loop serves the whole run."""

    def __str__(self) -> str:
        return self.name


def _asyncio(mode: str, scope: str) -> str:
    return (
        f"asyncio_mode = {mode}\n"
        f"asyncio_default_fixture_loop_scope = {scope}\nasyncio_default_test_loop_scope = {scope}\n"
    )


_AUTO = HEADS + "from pytest import fixture\n"


_STRICT = HEADS + "from pytest_asyncio import fixture\npytestmark = pytest.mark.asyncio\n"


_ANYIO = (
    _AUTO
    + """
pytestmark = pytest.mark.anyio


@fixture(scope="session")
def anyio_backend():
    return "asyncio"
"""
)


_ONE_LOOP = """

@fixture(scope="session", autouse=True)
async def loop():
    yield
"""


FLAVOURS = (
    Flavour("asyncio-function", (), _asyncio("auto", "function"), _AUTO, False),
    Flavour("asyncio-session", (), _asyncio("auto", "session"), _AUTO, True),
    Flavour("asyncio-strict", (), _asyncio("strict", "function"), _STRICT, False),
    Flavour("anyio", ("-p", "no:asyncio"), "", _ANYIO, False),
    Flavour("anyio-session", ("-p", "no:asyncio"), "", _ANYIO + _ONE_LOOP, True),
)


ENGINES = """

@fixture
async def engine(tmp_path):
    engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path}/test.db")
    yield engine
    await engine.dispose()


@fixture
async def postgres():
    engine = create_async_engine(os.environ["POSTGRES_URL"], pool_logging_name="orders")
    yield engine
    await engine.dispose()

"""


LEAKS = """
async def test_idle(engine):
    held.append(await engine.connect())  # idle


async def test_transaction(postgres):
    connection = await postgres.connect()  # transaction
    await connection.execute(text("select 1"))
    held.append(connection)


async def test_dropped(engine):
    connection = await engine.connect()  # dropped
    cycle = [connection]
    cycle.append(cycle)


async def test_forgotten(engine):
    await engine.connect()  # forgotten


async def test_stream(postgres):
    connection = await postgres.connect()  # stream
    result = await connection.stream(text("select generate_series(1, 100000)"))
    await result.fetchone()
    held.append((connection, result))


async def rows(engine):
    async with AsyncSession(engine) as session:
        result = await session.stream(text("select generate_series(1, 100000)"))  # response
        async for row in result:
            yield str(row[0])


async def test_response(postgres):
    from starlette.responses import StreamingResponse

    response = StreamingResponse(rows(postgres))
    await anext(response.body_iterator)
    held.append(response)


async def test_task(postgres):
    working = asyncio.Event()

    async def work():
        async with postgres.connect():  # task
            working.set()
            await asyncio.Event().wait()

    held.append(asyncio.create_task(work(), name="worker"))
    await working.wait()


async def test_raw(engine):
    held.append(await engine.raw_connection())  # raw


async def test_session(engine):
    session = AsyncSession(engine)
    await session.execute(text("select 1"))  # session
    held.append(session)


@fixture
async def unclosed(engine):
    connection = await engine.connect()  # fixture
    held.append(connection)
    return connection


async def test_fixture(unclosed):
    await unclosed.execute(text("select 1"))


async def test_disposed(engine):
    connection = await engine.connect()  # disposed
    held.append(connection)
    await engine.dispose()


async def test_innocent(engine):
    async with engine.connect() as connection:
        await connection.execute(text("select 1"))
"""


INNOCENT = """
@fixture
async def session(engine):
    session = AsyncSession(engine)
    await session.execute(text("select 1"))
    yield session
    await session.close()


async def test_fixture_that_closes(session):
    await session.execute(text("select 1"))


@pytest.fixture(scope="session")
def listener():
    engine = new_engine()
    connection = engine.connect()
    yield connection
    connection.close()
    engine.dispose()


async def test_wider_scope(listener):
    listener.execute(text("select 1"))


async def test_wider_scope_goes_on(listener):
    listener.execute(text("select 1"))


@pytest.fixture(scope="module")
def pooled():
    engine = new_engine(pool_size=3)
    connections = [engine.connect() for _ in range(3)]
    for connection in connections:
        connection.close()
    yield engine
    engine.dispose()


async def test_idle_pool(pooled):
    with pooled.connect():
        pass
    assert pooled.pool.checkedin() == 3


async def test_engine_of_its_own():
    engine = new_async_engine()
    async with engine.begin() as connection:
        await connection.execute(text("create table things (name text)"))
    await engine.dispose()


async def test_stream_to_its_end(postgres):
    async with postgres.connect() as connection:
        async for _ in await connection.stream(text("select generate_series(1, 100)")):
            pass


async def test_task_that_ends(engine):
    async def work():
        async with engine.connect() as connection:
            await connection.execute(text("select 1"))

    await asyncio.create_task(work())


async def test_task_that_is_cancelled(engine):
    working = asyncio.Event()

    async def work():
        async with engine.connect():
            working.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await working.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_invalidated(postgres):  # aiosqlite's thread may outlive the loop then
    connection = await postgres.connect()
    held.append(connection)
    await connection.invalidate()


async def test_detached(postgres):
    raw = await postgres.raw_connection()
    held.append(raw)
    driver_connection = raw.driver_connection
    raw.detach()
    await driver_connection.close()


@pytest.mark.pool_leaks_allowed
async def test_opted_out(postgres):
    connection = await postgres.connect()
    held.append(connection)
    await connection.close()
"""


ONE_LOOP = """
@fixture(scope="session")
async def subscriber():
    engine = create_async_engine(os.environ["POSTGRES_URL"])
    connection = await engine.connect()
    await connection.execute(text("select 1"))
    yield connection
    await connection.close()
    await engine.dispose()


async def test_wider_scope(subscriber):
    await subscriber.execute(text("select 1"))


async def test_leaks(postgres, subscriber):
    held.append(await postgres.connect())


async def test_wider_scope_goes_on(subscriber):
    await subscriber.execute(text("select 1"))
    await held[0].execute(text("select 1"))
"""
