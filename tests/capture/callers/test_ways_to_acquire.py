"""Check that a connection belongs to the line that acquired it, whatever the way.

Each test has the mark `# acquires` on that line, in the function that the connection belongs to.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import importlib
import itertools
import operator
import sys
import textwrap
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, ExitStack, aclosing, asynccontextmanager, contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import anyio
import anyio.to_thread
import httpx
import pytest
from fastapi import BackgroundTasks, Depends, FastAPI
from opentelemetry.sdk.trace import TracerProvider
from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession, async_scoped_session
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool, QueuePool, SingletonThreadPool, StaticPool
from sqlalchemy.util import await_only, greenlet_spawn
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from pool_exporter import Attribution, HeldConnection, owner
from pool_exporter.capture import privates
from pool_exporter.capture.callers.middleware import OwnerMiddleware
from tests.capture.callers.applications import (
    MARK,
    NOWHERE,
    QUALIFIED,
    Application,
    Place,
    Thing,
    assert_held,
    marked_line,
    name_of,
    need_module,
    place,
    place_of,
)
from tests.capture.callers.conftest import MakeApplication
from tests.capture.engines.databases import eventually

SELECT = text("select 1")
MakeModule = Callable[[str, str], ModuleType]

# --- engine ------------------------------------------------------------------------------


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


# --- AsyncSession ------------------------------------------------------------------------


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


# --- run_sync ----------------------------------------------------------------------------


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


# --- tasks -------------------------------------------------------------------------------


class Worker:
    """A coroutine that acquires, says so, and waits to be released."""

    def __init__(self, app: Application) -> None:
        self.app = app
        self.acquired = asyncio.Event()
        self.released = asyncio.Event()

    async def work(self) -> None:
        """Hold a connection."""
        async with self.app.engine.connect():  # acquires
            self.acquired.set()
            await self.released.wait()

    async def check(self, name: str) -> None:
        """Assert that the coroutine has the connection, in a task of that name."""
        await self.acquired.wait()
        try:
            self.app.assert_held_by(self.work, task=name)
        finally:
            self.released.set()


async def test_a_background_task(app: Application) -> None:
    """A task's connection has the task's name."""
    worker = Worker(app)
    task = asyncio.create_task(worker.work(), name="nightly billing")
    await worker.check("nightly billing")
    await task


async def test_a_task_that_is_renamed(app: Application) -> None:
    """The name is that of the acquire."""
    worker = Worker(app)
    task = asyncio.create_task(worker.work(), name="before")
    await worker.acquired.wait()
    task.set_name("after")
    await worker.check("before")
    await task


@pytest.mark.skipif(sys.version_info < (3, 11), reason="TaskGroup came with Python 3.11")
async def test_a_task_group(app: Application) -> None:
    """A task of a group is found."""
    worker = Worker(app)
    async with asyncio.TaskGroup() as group:  # type: ignore[attr-defined,unused-ignore]  # not on 3.10
        group.create_task(worker.work(), name="member")
        await worker.check("member")


async def test_a_task_group_of_anyio(app: Application) -> None:
    """A task of a group of anyio's is found by its coroutine, not by what anyio wraps around it."""
    worker = Worker(app)
    async with anyio.create_task_group() as group:
        group.start_soon(worker.work, name="soon")
        await worker.check("soon")


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came with Python 3.12")
async def test_an_eager_task(app: Application) -> None:
    """A task that begins to run within the call that makes it is found by its own coroutine."""
    loop = asyncio.get_running_loop()
    factory: Any = getattr(asyncio, "eager_task_factory", None)
    loop.set_task_factory(factory)
    try:
        worker = Worker(app)
        task = asyncio.create_task(worker.work(), name="eager")
        await worker.check("eager")
        await task
    finally:
        loop.set_task_factory(None)


async def test_gather(app: Application) -> None:
    """Each of several coroutines that are gathered has its own, in a task of its own."""
    first, second = Worker(app), Worker(app)
    gathered = asyncio.gather(first.work(), second.work())
    await first.acquired.wait()
    await second.acquired.wait()
    held = app.pool.held()
    first.released.set()
    second.released.set()
    await gathered
    assert [place(one) for one in held] == [place_of(Worker.work)] * 2
    assert len({one.task_name for one in held}) == 2


async def test_wait_for(app: Application) -> None:
    """A coroutine under `wait_for()`, which some Pythons run in a task of its own, has it."""

    async def acquires() -> Any:
        return await app.engine.connect()  # acquires

    connection = await asyncio.wait_for(acquires(), 60)
    assert place(app.held()) == place_of(acquires)
    await connection.close()


@pytest.mark.parametrize("way", ["ensure_future", "gather", "shield"])
async def test_a_task_without_the_application(way: str, app: Application) -> None:
    """A task that is nothing but `engine.connect()` has no frame of the application: unknown."""
    if way == "gather":
        [connection] = await asyncio.gather(app.engine.connect())
    elif way == "shield":
        connection = await asyncio.shield(app.engine.connect())
    else:
        task = asyncio.ensure_future(app.engine.connect())
        task.set_name("bare")
        connection = await task
        assert app.held().task_name == "bare"
    assert place(app.held()) == NOWHERE
    assert app.held().owner == "unknown"
    assert app.held().task_name != asyncio.current_task().get_name()  # type: ignore[union-attr]
    await connection.close()


def new_loop(kind: str) -> asyncio.AbstractEventLoop:
    """Make an event loop; skip where it is missing."""
    loop: asyncio.AbstractEventLoop
    loop = asyncio.new_event_loop() if kind == "asyncio" else need_module(kind).new_event_loop()
    return loop


@pytest.mark.parametrize("kind", ["asyncio", "uvloop"])
def test_who_runs_the_loop(kind: str, make: MakeApplication) -> None:
    """On any event loop the coroutine has it; without one, whoever runs the loop has it not."""
    app = make("asyncpg", poolclass=NullPool)
    loop = new_loop(kind)

    async def acquires() -> Any:
        return await app.engine.connect()  # acquires

    async def bare() -> Any:
        return await asyncio.ensure_future(app.engine.connect())

    async def closes(connection: AsyncConnection) -> None:
        await connection.close()

    holders = []
    for awaitable in (acquires(), bare(), app.engine.connect()):
        connection = loop.run_until_complete(awaitable)
        holders.append(place(app.held()))
        loop.run_until_complete(closes(connection))
    loop.close()
    assert holders == [place_of(acquires), NOWHERE, NOWHERE]


def test_a_coroutine_from_another_thread(make: MakeApplication) -> None:
    """A coroutine given to a loop of another thread has it; the thread that waits for it has not."""
    app = make("asyncpg", poolclass=NullPool)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    async def acquires() -> Any:
        return await app.engine.connect()  # acquires

    connection = asyncio.run_coroutine_threadsafe(acquires(), loop).result()
    held = app.held()
    asyncio.run_coroutine_threadsafe(connection.close(), loop).result()
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()
    assert place(held) == place_of(acquires)


# --- kinds of functions ------------------------------------------------------------------


async def test_an_async_generator(app: Application) -> None:
    """A generator has what it acquires, not whoever iterates."""

    async def rows() -> AsyncIterator[int]:
        async with app.engine.connect():  # acquires
            yield 1

    async with aclosing(rows()) as iterator:  # type: ignore[type-var]  # an iterator with aclose()
        async for _ in iterator:
            app.assert_held_by(rows)


async def test_an_async_context_manager(app: Application) -> None:
    """A context manager has what it acquires, not whoever enters it."""

    @asynccontextmanager
    async def transaction() -> AsyncIterator[AsyncConnection]:
        async with app.engine.begin() as connection:  # acquires
            yield connection

    async with transaction():
        app.assert_held_by(transaction.__wrapped__)  # type: ignore[attr-defined]


def test_a_context_manager(sync_app: Application) -> None:
    """The same where it is synchronous, also in an exit stack."""

    @contextmanager
    def transaction() -> Iterator[Any]:
        with sync_app.engine.begin() as connection:  # acquires
            yield connection

    with ExitStack() as stack:
        stack.enter_context(transaction())
        sync_app.assert_held_by(transaction.__wrapped__)  # type: ignore[attr-defined]


def transparent(function: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    """Decorate a function without doing anything."""

    @functools.wraps(function)
    async def wrapper(*arguments: Any) -> Any:
        return await function(*arguments)

    return wrapper


def with_connection(function: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    """Decorate a function with a connection."""

    @functools.wraps(function)
    async def wrapper(app: Application) -> Any:
        async with app.engine.connect() as connection:  # acquires
            return await function(app, connection)

    return wrapper


async def test_a_decorated_function(app: Application) -> None:
    """A function that acquires has it, whatever is wrapped around it."""

    @transparent
    @transparent
    async def acquires() -> Any:
        return await app.engine.connect()  # acquires

    connection = await acquires()
    app.assert_held_by(acquires.__wrapped__.__wrapped__)  # type: ignore[attr-defined]
    await connection.close()


async def test_a_decorator_that_acquires(app: Application) -> None:
    """A wrapper that acquires for what it wraps has it, under its own name."""

    @with_connection
    async def uses(app: Application, connection: AsyncConnection) -> HeldConnection:
        return app.held()

    held = await uses(app)
    assert held.function is not None
    assert held.function.startswith(f"{__name__}:")
    assert held.function.rpartition(".")[2].rpartition(":")[2] == "wrapper"
    assert held.lineno == place_of(with_connection).lineno


async def test_a_partial_function(app: Application) -> None:
    """A partial of a function has no frame; the function has it."""

    async def acquires(engine: Any) -> Any:
        return await engine.connect()  # acquires

    connection = await functools.partial(acquires, app.engine)()
    app.assert_held_by(acquires)
    await connection.close()


CALLABLES: dict[str, Callable[[Any], Callable[[], Any]]] = {
    "partial": lambda engine: functools.partial(engine.connect),
    "methodcaller": lambda engine: functools.partial(operator.methodcaller("connect"), engine),
    "starmap": lambda engine: itertools.starmap(engine.connect, [()]).__next__,
    "cached": lambda engine: functools.cache(engine.connect),
    "context": lambda engine: functools.partial(contextvars.copy_context().run, engine.connect),
}
"""Ways to call `engine.connect` that have no frame, as they are written in C."""


@pytest.mark.parametrize("way", CALLABLES)
def test_a_callable_without_a_frame(way: str, sync_app: Application) -> None:
    """Whoever calls something that is written in C and calls `engine.connect` has it."""
    connect = CALLABLES[way](sync_app.engine)
    with connect():  # acquires
        sync_app.assert_held_by(test_a_callable_without_a_frame)


def test_a_lambda(sync_app: Application) -> None:
    """A lambda has what it acquires."""
    connect: Any = lambda: sync_app.engine.connect()  # noqa: E731, PLW0108  # acquires
    with connect():
        assert place(sync_app.held()) == Place(name_of(connect), __file__, place_of(test_a_lambda).lineno)


class Repository:
    """Something whose methods acquire."""

    def __init__(self, app: Application) -> None:
        self.app = app

    async def method(self) -> Any:
        """Acquire in a method."""
        return await self.app.engine.connect()  # acquires

    @classmethod
    async def of_class(cls, app: Application) -> Any:
        """Acquire in a class method."""
        return await app.engine.connect()  # acquires

    @staticmethod
    async def static(app: Application) -> Any:
        """Acquire in a static method."""
        return await app.engine.connect()  # acquires

    async def __call__(self) -> Any:
        """Acquire where the object is called."""
        return await self.app.engine.connect()  # acquires

    @property
    async def attribute(self) -> Any:
        """Acquire where an attribute is read."""
        return await self.app.engine.connect()  # acquires

    def __await__(self) -> Any:
        """Acquire where the object is awaited."""
        return (yield from self.app.engine.connect().__await__())  # acquires

    async def __aenter__(self) -> Any:
        """Acquire where the object is entered."""
        self.connection = await self.app.engine.connect()  # acquires
        return self.connection

    async def __aexit__(self, *error: object) -> None:
        """Do nothing."""


class Heir(Repository):
    """Something that inherits its methods."""


async def enters(app: Application) -> Any:
    """Enter a repository."""
    async with Repository(app) as connection:
        return connection


METHODS: dict[str, tuple[Any, Callable[[Application], Awaitable[Any]]]] = {
    "method": (Repository.method, lambda app: Repository(app).method()),
    "inherited": (Repository.method, lambda app: Heir(app).method()),
    "class method": (Repository.of_class, Heir.of_class),
    "static method": (Repository.static, Repository.static),
    "call": (Repository.__call__, lambda app: Repository(app)()),
    "attribute": (Repository.attribute.fget, lambda app: Repository(app).attribute),  # type: ignore[attr-defined]
    "await": (Repository.__await__, Repository),
    "enter": (Repository.__aenter__, enters),
}


@pytest.mark.parametrize("way", METHODS)
async def test_methods(way: str, app: Application) -> None:
    """Methods of all kinds are found, under the class that defines them."""
    method, call = METHODS[way]
    connection = await call(app)
    app.assert_held_by(method)
    await connection.close()


def test_recursion(sync_app: Application) -> None:
    """The innermost call of a recursion has it."""

    def descends(depth: int) -> Any:
        if depth:
            return descends(depth - 1)
        return sync_app.engine.connect()  # acquires

    with descends(50):
        sync_app.assert_held_by(descends)


def test_a_comprehension(sync_app: Application) -> None:
    """A comprehension, which has a frame of its own on some Pythons, belongs to its function on all."""
    [connection] = [sync_app.engine.connect() for _ in range(1)]  # acquires
    sync_app.assert_held_by(test_a_comprehension)
    connection.close()
    connections = {key: sync_app.engine.connect() for key in range(1)}
    assert sync_app.held().function == name_of(test_a_comprehension)
    connections[0].close()


async def test_a_comprehension_that_awaits(app: Application) -> None:
    """The same in asynchronous code."""
    [connection] = [await app.engine.connect() for _ in range(1)]  # acquires
    app.assert_held_by(test_a_comprehension_that_awaits)
    await connection.close()


def test_a_generator_expression(sync_app: Application) -> None:
    """An expression that is a generator has what it acquires, under its own name."""
    connections: Any = (sync_app.engine.connect() for _ in range(1))  # acquires
    connection = next(connections)
    held = sync_app.held()
    assert held.function == f"{__name__}:{connections.__qualname__ if QUALIFIED else connections.__name__}"
    assert held.lineno == place_of(test_a_generator_expression).lineno
    connection.close()


# --- code that is not in a module that was imported -----------------------------------------

MADE = f"""
def acquires(engine):
    answer = 42
    return engine.connect()  {MARK}
"""


@pytest.mark.parametrize("name", ["made.by.exec", None])
def test_code_made_by_exec(name: str | None, sync_app: Application) -> None:
    """Code made by `exec` belongs to the module that it says it is of, without one to its file."""
    namespace: dict[str, Any] = {} if name is None else {"__name__": name}
    exec(compile(MADE, "<made>", "exec"), namespace)
    with namespace["acquires"](sync_app.engine):
        sync_app.assert_held_by(Place(f"{name or '<made>'}:acquires", "<made>", marked_line(MADE)))


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MakeModule]:
    """A function that writes a module to disk and imports it; when the test is over it is forgotten."""
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)

    def make(name: str, source: str) -> ModuleType:
        file = tmp_path.joinpath(*name.split(".")).with_suffix(".py")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(textwrap.dedent(source))
        importlib.invalidate_caches()
        return importlib.import_module(name)

    yield make
    for name in sys.modules.keys() - before:
        if str(tmp_path) in str(sys.modules[name].__spec__):
            del sys.modules[name]


HELPERS = f"""
    from contextlib import contextmanager

    def connect(engine):
        return engine.connect()  {MARK}

    @contextmanager
    def transaction(engine):
        with engine.begin() as connection:
            yield connection
"""


@pytest.mark.parametrize("skip", [(), ("my",), ("my.helpers",), ("my.helper",), ("helpers",)])
def test_modules_that_are_skipped(skip: tuple[str, ...], make: MakeApplication, module: MakeModule) -> None:
    """What a module acquires belongs to whoever called it if it is to be skipped, and only then."""
    helpers = module("my.helpers", HELPERS)
    app = make("psycopg", attribution=Attribution(skip=skip))
    skipped = skip in [("my",), ("my.helpers",)]
    with helpers.connect(app.engine):  # acquires
        app.assert_held_by(test_modules_that_are_skipped if skipped else helpers.connect)
    with helpers.transaction(app.engine):
        expected = test_modules_that_are_skipped if skipped else helpers.transaction.__wrapped__
        assert app.held().function == name_of(expected)


def test_a_module_that_acquires_when_it_is_imported(
    sync_app: Application, module: MakeModule, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The code of a module itself is found, past the import system."""
    source = f"from builtins import engine_for_a_test\nconnection = engine_for_a_test.connect()  {MARK}\n"
    monkeypatch.setattr("builtins.engine_for_a_test", sync_app.engine, raising=False)
    imported = module("importing_module", source)
    with imported.connection:
        sync_app.assert_held_by(Place("importing_module:<module>", imported.__file__, marked_line(source)))


# --- synchronous engines -------------------------------------------------------------------


@pytest.mark.parametrize("driver", ["psycopg", "pysqlite"])
def test_synchronous_connect(driver: str, make: MakeApplication) -> None:
    """The line of `with engine.connect()` has it."""
    app = make(driver)
    with app.engine.connect() as connection:  # acquires
        connection.execute(SELECT)
        app.assert_held_by(test_synchronous_connect)


def test_synchronous_begin(sync_app: Application) -> None:
    """The line of `with engine.begin()` has it."""
    with sync_app.engine.begin():  # acquires
        sync_app.assert_held_by(test_synchronous_begin)


def test_synchronous_session(sync_app: Application) -> None:
    """A session acquires where it first executes."""
    with sync_app.sync_session() as session:
        session.get(Thing, 1)  # acquires
        session.execute(SELECT)
        sync_app.assert_held_by(test_synchronous_session)


def test_synchronous_raw_connection(sync_app: Application) -> None:
    """The line of `engine.raw_connection()` has it."""
    connection = sync_app.engine.raw_connection()  # acquires
    sync_app.assert_held_by(test_synchronous_raw_connection)
    connection.close()


def test_the_synchronous_pool_itself(sync_app: Application) -> None:
    """The line of `pool.connect()` has it."""
    connection = sync_app.engine.pool.connect()  # acquires
    sync_app.assert_held_by(test_the_synchronous_pool_itself)
    connection.close()


class Thread:
    """A function that holds a connection in a thread, until it is released."""

    def __init__(self, app: Application) -> None:
        self.app = app
        self.acquired, self.released = threading.Event(), threading.Event()

    def work(self) -> None:
        """Hold a connection."""
        with self.app.engine.connect():  # acquires
            self.acquired.set()
            self.released.wait()

    def check(self) -> None:
        """Assert that the function has it, in no task."""
        self.acquired.wait()
        try:
            self.app.assert_held_by(self.work, task=None)
        finally:
            self.released.set()


def test_a_thread(sync_app: Application) -> None:
    """A thread's function has it."""
    worker = Thread(sync_app)
    thread = threading.Thread(target=worker.work)
    thread.start()
    worker.check()
    thread.join()


def test_an_executor(sync_app: Application) -> None:
    """A function submitted to an executor has it."""
    worker = Thread(sync_app)
    with ThreadPoolExecutor(1) as executor:
        future = executor.submit(worker.work)
        worker.check()
        future.result()


async def test_to_thread(sync_app: Application) -> None:
    """A function that runs in a thread of asyncio's has it, outside of the task that waits for it."""
    worker = Thread(sync_app)
    task = asyncio.create_task(asyncio.to_thread(worker.work))
    await eventually(worker.acquired.is_set, "the thread has a connection")
    worker.check()
    await task


@pytest.mark.parametrize("way", ["executor", "thread", "to_thread", "anyio"])
async def test_a_thread_without_the_application(way: str, sync_app: Application) -> None:
    """A thread that runs nothing but `engine.connect` has no frame of the application: unknown."""
    connect = sync_app.engine.connect
    if way == "executor":
        with ThreadPoolExecutor(1) as executor:
            connection = executor.submit(connect).result()
    elif way == "thread":
        got: list[Any] = []
        thread = threading.Thread(target=got.extend, args=[itertools.starmap(connect, [()])])
        thread.start()
        thread.join()
        [connection] = got
    elif way == "to_thread":
        connection = await asyncio.to_thread(connect)
    else:
        connection = await anyio.to_thread.run_sync(connect)
    sync_app.assert_held_by(NOWHERE, task=None)
    connection.close()


async def test_a_synchronous_engine_in_a_coroutine(sync_app: Application) -> None:
    """A coroutine that blocks its loop is found, with its task."""
    with sync_app.engine.connect():  # acquires
        sync_app.assert_held_by(test_a_synchronous_engine_in_a_coroutine)


async def test_a_callback_of_the_loop(sync_app: Application) -> None:
    """A function that the loop calls has it, in no task."""
    called: asyncio.Future[HeldConnection] = asyncio.get_running_loop().create_future()

    def callback() -> None:
        with sync_app.engine.connect():  # acquires
            called.set_result(sync_app.held())

    asyncio.get_running_loop().call_soon(callback)
    assert_held(await called, place_of(callback), task=None)


async def test_a_callback_without_the_application(sync_app: Application) -> None:
    """Where the loop calls nothing but `engine.connect`, nobody has it."""
    got: list[Any] = []
    asyncio.get_running_loop().call_soon(got.extend, itertools.starmap(sync_app.engine.connect, [()]))
    await eventually(lambda: bool(got), "the callback was called")
    sync_app.assert_held_by(NOWHERE, task=None)
    got[0].close()


# --- requests ----------------------------------------------------------------------------


class CallSite:
    """A web application that acquires in each of its places, and remembers who had the connection."""

    def __init__(self, app: Application) -> None:
        self.app = app
        self.seen: list[HeldConnection] = []
        self.fastapi = FastAPI()
        self.fastapi.add_middleware(OwnerMiddleware)

        async def session() -> AsyncIterator[AsyncSession]:
            async with app.session() as session:
                await session.execute(SELECT)  # acquires
                yield session

        self.session = session

    def look(self) -> None:
        """Remember who has the connection now."""
        self.seen.append(self.app.held())

    async def get(self, path: str) -> None:
        """Serve a request."""
        await get(self.fastapi, path)

    def assert_seen(self, function: Callable[..., Any], owner: str) -> None:
        """Assert that it was this function every time."""
        assert self.seen
        for held in self.seen:
            # A framework may serve a part of a request in a task of its own.
            assert_held(held, place_of(function), owner=owner, task=held.task_name)
            assert held.task_name is not None


async def get(app: Any, path: str) -> httpx.Response:
    """Send a request to an ASGI application."""
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://testserver") as client:
        return await client.get(path)


@pytest.fixture
def site(app: Application) -> CallSite:
    """A web application."""
    return CallSite(app)


async def test_a_dependency_of_an_endpoint(site: CallSite) -> None:
    """The route owns what a dependency acquired, and the dependency is the function."""
    needed = Depends(site.session)

    @site.fastapi.get("/orders/{id}")
    async def order(id: int, session: AsyncSession = needed) -> None:
        await asyncio.sleep(0)
        site.look()

    await site.get("/orders/7")
    site.assert_seen(site.session, "GET /orders/{id}")


async def test_an_endpoint(site: CallSite) -> None:
    """An endpoint that acquires itself is the function."""

    @site.fastapi.get("/orders/{id}")
    async def order(id: int) -> None:
        async with site.app.engine.connect():  # acquires
            site.look()

    await site.get("/orders/7")
    site.assert_seen(order, "GET /orders/{id}")


async def test_the_background_task_of_a_request(site: CallSite) -> None:
    """What a background task acquires belongs to the route that asked for it."""

    async def bills() -> None:
        async with site.app.engine.connect():  # acquires
            site.look()

    @site.fastapi.get("/orders/{id}")
    async def order(id: int, tasks: BackgroundTasks) -> None:
        tasks.add_task(bills)

    await site.get("/orders/7")
    site.assert_seen(bills, "GET /orders/{id}")


async def test_a_response_that_streams(site: CallSite) -> None:
    """While a response streams, the dependency's connection belongs to the route still."""
    needed = Depends(site.session)

    @site.fastapi.get("/chat/stream")
    async def chat(session: AsyncSession = needed) -> StreamingResponse:
        async def words() -> AsyncIterator[str]:
            for word in ("one", "two"):
                site.look()
                yield word

        return StreamingResponse(words())

    await site.get("/chat/stream")
    site.assert_seen(site.session, "GET /chat/stream")
    assert len(site.seen) == 2


async def test_a_stream_that_acquires(site: CallSite) -> None:
    """A generator that acquires while the response streams has it, for the route."""

    async def words() -> AsyncIterator[str]:
        async with site.app.engine.connect():  # acquires
            site.look()
            yield "word"

    @site.fastapi.get("/chat/stream")
    async def chat() -> StreamingResponse:
        return StreamingResponse(words())

    await site.get("/chat/stream")
    site.assert_seen(words, "GET /chat/stream")


async def test_a_synchronous_endpoint(sync_app: Application) -> None:
    """An endpoint and a dependency that run in threads have the route too."""
    fastapi = FastAPI()
    fastapi.add_middleware(OwnerMiddleware)

    def connection_of() -> Iterator[Any]:
        with sync_app.engine.connect() as connection:  # acquires
            yield connection

    needed = Depends(connection_of)

    @fastapi.get("/orders/{id}")
    def order(id: int, connection: Any = needed) -> None:
        sync_app.assert_held_by(connection_of, owner="GET /orders/{id}", task=None)

    assert (await get(fastapi, "/orders/7")).status_code == 200


async def test_starlette_without_the_middleware(app: Application) -> None:
    """Without the middleware the endpoint owns it, by its name."""

    async def endpoint(request: Request) -> Response:
        async with app.engine.connect():  # acquires
            app.assert_held_by(endpoint)
        return PlainTextResponse("")

    assert (await get(Starlette(routes=[Route("/", endpoint)]), "/")).status_code == 200


async def test_a_background_task_without_the_application(app: Application) -> None:
    """What a framework calls for itself is no function of the application: unknown, not the framework."""
    session = app.session()

    async def endpoint(request: Request) -> Response:
        return PlainTextResponse("", background=BackgroundTask(session.execute, SELECT))

    assert (await get(Starlette(routes=[Route("/", endpoint)]), "/")).status_code == 200
    assert place(app.held()) == NOWHERE
    await session.close()


def test_a_wsgi_application(sync_app: Application) -> None:
    """A function that serves a request without asyncio has it, and `owner()` names its work."""

    def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        with sync_app.engine.connect():  # acquires
            sync_app.assert_held_by(application, owner=environ.get("owner"))
        start_response("200 OK", [])
        return [b""]

    application({}, lambda *_: None)
    with owner("GET /orders"):
        application({"owner": "GET /orders"}, lambda *_: None)


# --- owners and traces -----------------------------------------------------------------------


async def test_a_named_owner(app: Application) -> None:
    """The name given to the work owns it, and the function stands beside it."""
    with owner("nightly billing"):
        async with app.engine.connect():  # acquires
            app.assert_held_by(test_a_named_owner, owner="nightly billing")


async def test_an_owner_of_a_task_without_the_application(app: Application) -> None:
    """The name follows into a task that has no frame of the application."""
    with owner("nightly billing"):
        [connection] = await asyncio.gather(app.engine.connect())
    held = app.held()
    assert (place(held), held.owner) == (NOWHERE, "nightly billing")
    await connection.close()


@pytest.mark.parametrize("name", ["", "  ", 7, None, b"job", "x" * 201, "\ud800"])
def test_an_owner_that_is_no_name(name: Any) -> None:
    """A name that is none raises where it is given, and not in a checkout."""
    with pytest.raises((TypeError, ValueError), match=r"^name="):
        owner(name)


async def test_without_attribution(make: MakeApplication) -> None:
    """Switched off, nothing is looked for: the owner is unknown, named work or not."""
    app = make("asyncpg", attribution=False)
    with owner("nightly billing"):
        async with app.engine.connect():
            app.assert_held_by(NOWHERE, task=None)


async def test_a_current_span(app: Application) -> None:
    """The trace of the current span is kept, of the moment of the acquire; none where there is none."""
    tracer = TracerProvider().get_tracer(__name__)
    async with app.engine.connect():  # acquires
        with tracer.start_as_current_span("later"):
            app.assert_held_by(test_a_current_span)
    with tracer.start_as_current_span("request") as span:
        connection = await app.engine.connect()
    assert app.held().trace_id == f"{span.get_span_context().trace_id:032x}"
    await connection.close()


# --- reduced mode --------------------------------------------------------------------------


@pytest.fixture
def reduced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no version of SQLAlchemy be one that was tested, so that only events are used."""
    monkeypatch.setattr(privates, "TESTED_MINORS", ((1, 4),))


@pytest.mark.usefixtures("reduced")
@pytest.mark.parametrize("driver", ["asyncpg", "psycopg_async", "aiosqlite"])
async def test_reduced_mode(driver: str, make: MakeApplication) -> None:
    """The checkout event shows the same frame, task and owner."""
    app = make(driver)
    assert app.pool.snapshot().mode == "reduced"
    async with app.engine.connect():  # acquires
        app.assert_held_by(test_reduced_mode)
    session = app.session()
    with owner("nightly billing"):
        await session.execute(SELECT)
    assert (app.held().function, app.held().owner) == (name_of(test_reduced_mode), "nightly billing")
    await session.close()


@pytest.mark.usefixtures("reduced")
def test_reduced_mode_without_asyncio(make: MakeApplication) -> None:
    """The same on a synchronous engine."""
    app = make("psycopg")
    with app.engine.connect():  # acquires
        app.assert_held_by(test_reduced_mode_without_asyncio)
