"""Check who acquires in tasks, groups of tasks and event loops."""

from __future__ import annotations

import asyncio
import sys
import threading
from typing import Any

import anyio
import anyio.to_thread
import pytest
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.pool import NullPool

from tests.capture.callers.applications import (
    NOWHERE,
    Application,
    need_module,
    place,
    place_of,
)
from tests.capture.callers.conftest import MakeApplication


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
