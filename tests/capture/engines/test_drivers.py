"""Check what drivers tell of their connections without I/O, on real servers and against their answers."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import psutil
import pymysql
import pytest
from sqlalchemy import text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError

from pool_exporter.capture.drivers import backend_pid, busy, in_transaction, local_port
from tests.capture.engines.databases import (
    ASYNC,
    SYNC,
    Database,
    MariadbDatabase,
    PostgresDatabase,
    do,
    eventually,
    execute,
)
from tests.capture.engines.test_activity import Blocked
from tests.postgres import PostgresServer

MakeDatabase = Callable[[str], Database]
POSTGRES = ("asyncpg", "psycopg_async", "psycopg")
MYSQL = ("asyncmy", "pymysql")
SERVERS = (*POSTGRES, *MYSQL)

all_drivers = pytest.mark.parametrize("driver", [*ASYNC, *SYNC])


async def run(connection: Any, statement: str) -> None:
    """Execute a statement that returns no rows."""
    await do(connection.execute, text(statement))


@dataclass(frozen=True, slots=True)
class Opened:
    """A connection of SQLAlchemy, and the driver's own."""

    database: Database
    engine: Any
    connection: Any
    raw: Any


Connect = Callable[..., Awaitable[Opened]]


@pytest.fixture
async def connect(database_on: MakeDatabase) -> AsyncIterator[Connect]:
    """Return a function that connects to a database, or by a driver, with a table to write to."""
    made: list[Opened] = []

    async def make(where: str | Database, **options: Any) -> Opened:
        database = database_on(where) if isinstance(where, str) else where
        engine = database.engine(**options)
        connection = await do(engine.connect)
        raw = await connection.get_raw_connection() if database.is_async else connection.connection
        made.append(Opened(database, engine, connection, raw.driver_connection))
        await run(connection, "create temporary table numbers (n integer)")
        await do(connection.commit)
        return made[-1]

    yield make
    for opened in made:
        await do(opened.connection.close)
        await do(opened.engine.dispose)


def known(connection: Any) -> tuple[Any, ...]:
    """Return all that is told of a driver's connection."""
    return busy(connection), in_transaction(connection), backend_pid(connection), local_port(connection)


NOTHING = (False, None, None, None)


@all_drivers
async def test_a_transaction_lasts_from_its_first_statement_to_its_end(driver: str, connect: Connect) -> None:
    """In a transaction after a statement that writes, not before it and not after commit or rollback."""
    one = await connect(driver)
    seen = [in_transaction(one.raw)]
    for end in (one.connection.commit, one.connection.rollback):
        await do(one.connection.begin)  # for SQLAlchemy alone: nothing has reached the database yet
        seen.append(in_transaction(one.raw))
        await run(one.connection, "insert into numbers values (1)")
        seen.append(in_transaction(one.raw))
        await do(end)
        seen.append(in_transaction(one.raw))
    assert seen == [False, False, True, False, False, True, False]


@all_drivers
async def test_no_transaction_in_autocommit(driver: str, connect: Connect) -> None:
    """In autocommit a statement leaves no transaction behind, but an explicit BEGIN does."""
    one = await connect(driver, isolation_level="AUTOCOMMIT")
    seen = []
    for statement in ("insert into numbers values (1)", "begin", "insert into numbers values (1)", "commit"):
        await run(one.connection, statement)
        seen.append(in_transaction(one.raw))
    await execute(one.connection, "select n from numbers")
    seen.append(in_transaction(one.raw))
    assert seen == [False, True, True, False, False]


READING: dict[str, set[bool | None]] = {
    # The server's truth is True for all but SQLite, whose driver begins only to write.
    "asyncpg": {True},
    "psycopg_async": {True},
    "psycopg": {True},
    "aiosqlite": {False},
    "pysqlite": {False},
    "asyncmy": {True, None},  # like pymysql before it learnt of DEPRECATE_EOF
    "pymysql": {None},  # takes no status from the end of a result set
}


@all_drivers
async def test_a_transaction_that_only_reads(driver: str, connect: Connect) -> None:
    """After a first statement that reads the answer is never wrong, but not every driver can tell."""
    one = await connect(driver)
    await execute(one.connection, "select n from numbers")
    assert in_transaction(one.raw) in READING[driver]
    await do(one.connection.rollback)
    assert in_transaction(one.raw) is False


@all_drivers
async def test_a_failed_statement_ends_no_transaction(driver: str, connect: Connect) -> None:
    """A transaction that a statement failed in is still open, until it is rolled back."""
    one = await connect(driver)
    await run(one.connection, "insert into numbers values (1)")
    with pytest.raises(DBAPIError):
        await run(one.connection, "insert into missing values (1)")
    seen = [in_transaction(one.raw)]
    await do(one.connection.rollback)
    seen.append(in_transaction(one.raw))
    assert seen == [True, False]


@pytest.mark.parametrize(
    ("driver", "options", "expected"),
    [
        ("asyncpg", {}, True),
        ("asyncpg", {"isolation_level": "AUTOCOMMIT"}, False),
        ("psycopg_async", {}, True),
        ("psycopg_async", {"isolation_level": "AUTOCOMMIT"}, None),  # libpq tells only that it is busy
    ],
)
async def test_while_a_statement_runs(
    driver: str, options: dict[str, Any], expected: bool | None, connect: Connect
) -> None:
    """A statement in progress is work, in a transaction if there is one."""
    one = await connect(driver, **options)
    with Blocked(one.database) as blocked:
        task = asyncio.create_task(execute(one.connection, blocked.query))
        await eventually(blocked.waiting, "the statement waits for the database")
        seen = busy(one.raw), in_transaction(one.raw)
        blocked.release()
        await task
    assert seen == (True, expected)
    assert not busy(one.raw)


@pytest.mark.parametrize("driver", SERVERS)
async def test_the_pid_is_the_servers(driver: str, connect: Connect) -> None:
    """The pid is the one by which the server calls the connection."""
    one = await connect(driver)
    function = "connection_id()" if driver in MYSQL else "pg_backend_pid()"
    answer = (await do(one.connection.execute, text(f"select {function}"))).scalar()
    assert backend_pid(one.raw) == answer


async def ports_at_server(one: Opened) -> set[int]:
    """Return the port of the other end as the server sees it, maybe among those of others."""
    if isinstance(one.database, PostgresDatabase):
        answer = await do(one.connection.execute, text("select inet_client_port()"))
        return {answer.scalar()}
    # MariaDB forgets it where it checks no password, but the system knows its sockets.
    server = make_url(one.database.url).port
    return {
        other.raddr.port
        for other in psutil.net_connections("tcp4")
        if other.raddr and other.laddr and other.laddr.port == server
    }


@pytest.mark.parametrize("driver", SERVERS)
async def test_the_port_is_the_one_that_the_server_sees(driver: str, connect: Connect) -> None:
    """The local port is the client's port in the server's list, and asking opens and closes nothing."""
    one = await connect(driver)
    seen = await ports_at_server(one)
    descriptors = len(os.listdir("/proc/self/fd"))
    assert local_port(one.raw) in seen
    assert len(os.listdir("/proc/self/fd")) == descriptors
    await execute(one.connection)


@pytest.mark.parametrize("driver", POSTGRES)
async def test_a_unix_socket_of_postgresql_has_no_port(
    driver: str, postgres: PostgresServer, connect: Connect
) -> None:
    """On a Unix socket there is a pid and no port."""
    database = PostgresDatabase(driver, postgres)
    database.url = f"postgresql+{driver}://postgres@/postgres?host={postgres.socket}&port={postgres.port}"
    one = await connect(database)
    assert isinstance(backend_pid(one.raw), int)
    assert local_port(one.raw) is None
    await execute(one.connection)


@pytest.mark.parametrize("driver", MYSQL)
async def test_a_unix_socket_of_mariadb_has_no_port(driver: str, connect: Connect) -> None:
    """The same for the drivers of MySQL."""
    one = await connect(driver)
    path = (await do(one.connection.execute, text("select @@socket"))).scalar()
    one.database.url = f"mysql+{driver}://{one.database.name}@localhost/app?unix_socket={path}"
    other = await connect(one.database)
    assert isinstance(backend_pid(other.raw), int)
    assert local_port(other.raw) is None
    await execute(other.connection)


@pytest.mark.parametrize("driver", ["aiosqlite", "pysqlite"])
async def test_sqlite_has_neither_pid_nor_port(driver: str, connect: Connect) -> None:
    """A file has no server."""
    one = await connect(driver)
    assert backend_pid(one.raw) is None
    assert local_port(one.raw) is None


@pytest.mark.parametrize("close", ["dispose", "invalidate"])
@all_drivers
async def test_of_a_closed_connection_nothing_is_told(driver: str, close: str, connect: Connect) -> None:
    """A connection that was closed gracefully or terminated in a transaction tells nothing, and raises nothing."""
    one = await connect(driver)
    await run(one.connection, "insert into numbers values (1)")
    if close == "invalidate":
        await do(one.connection.invalidate)
        await do(one.connection.close)
    else:
        await do(one.connection.close)
        await do(one.engine.dispose)
    assert known(one.raw) == NOTHING


async def kill(database: Database, pid: int) -> None:
    """Let the server close a connection, and return when it has."""
    if isinstance(database, MariadbDatabase):
        url = make_url(database.url)
        with contextlib.closing(
            pymysql.connect(host=url.host, port=url.port or 0, user="observer")
        ) as observer:
            observer.cursor().execute(f"kill {pid}")
        await eventually(lambda: database.connections() == 0, "the server has no connection any more")
    else:
        assert isinstance(database, PostgresDatabase)
        assert database.server.terminate(database.name) == 1


@pytest.mark.parametrize("driver", SERVERS)
async def test_a_connection_that_the_server_killed(driver: str, connect: Connect) -> None:
    """A dead connection tells what was last known until its driver notices, and then nothing."""
    one = await connect(driver)
    await run(one.connection, "insert into numbers values (1)")
    alive = known(one.raw)
    pid = backend_pid(one.raw)
    assert pid is not None
    await kill(one.database, pid)
    assert known(one.raw) in (alive, NOTHING)  # asyncpg notices by itself
    with pytest.raises(DBAPIError):
        await execute(one.connection)
    assert known(one.raw) == NOTHING


@all_drivers
async def test_another_thread_may_ask(driver: str, connect: Connect) -> None:
    """A thread that did not make the connection gets the same answers."""
    one = await connect(driver)
    await run(one.connection, "insert into numbers values (1)")
    told = await asyncio.to_thread(known, one.raw)
    assert told == known(one.raw)
    assert told[:2] == (False, True)
    await do(one.connection.close)
    await asyncio.to_thread(known, one.raw)


async def test_another_thread_may_ask_a_connection_of_one_thread(tmp_path: Path) -> None:
    """A SQLite connection that refuses other threads still tells them whether it is in a transaction."""
    with contextlib.closing(sqlite3.connect(tmp_path / "database")) as connection:
        connection.execute("create table numbers (n integer)")
        assert await asyncio.to_thread(in_transaction, connection) is False
        connection.execute("insert into numbers values (1)")
        assert await asyncio.to_thread(in_transaction, connection) is True
        with pytest.raises(sqlite3.ProgrammingError):
            await asyncio.to_thread(connection.execute, "select 1")


class Mine(sqlite3.Connection):
    """An application's own kind of connection."""


def test_a_subclass_is_known(tmp_path: Path) -> None:
    """A driver's connection class that the application has extended is known all the same."""
    with contextlib.closing(sqlite3.connect(tmp_path / "database", factory=Mine)) as connection:
        assert in_transaction(connection) is False


async def test_a_connection_of_the_drivers_own_pool(database_on: MakeDatabase) -> None:
    """A proxy of asyncpg's pool tells what its connection tells, and nothing once it is given back."""
    database = database_on("asyncpg")
    url = make_url(database.url)
    async with asyncpg.create_pool(
        host=url.host, port=url.port, user=url.username, database=url.database, min_size=1, max_size=1
    ) as pool:
        async with pool.acquire() as proxy:
            assert backend_pid(proxy) == await proxy.fetchval("select pg_backend_pid()")
            assert local_port(proxy) == await proxy.fetchval("select inet_client_port()")
            async with proxy.transaction():
                assert in_transaction(proxy) is True
            assert in_transaction(proxy) is False
            assert not busy(proxy)
        assert known(proxy) == NOTHING


class Hostile:
    """An object that raises whatever it is asked."""

    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError(name)


@pytest.mark.parametrize("kind", [lambda: None, object, Hostile, lambda: sqlite3.Connection])
def test_what_is_no_connection_of_a_known_driver_tells_nothing(kind: Callable[[], Any]) -> None:
    """Of an object of another kind nothing is told, however it behaves."""
    assert known(kind()) == NOTHING
