"""Check who acquires through synchronous engines, in threads and in callbacks."""

from __future__ import annotations

import asyncio
import itertools
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import anyio
import anyio.to_thread
import pytest

from pool_exporter import HeldConnection
from tests.capture.callers.applications import (
    NOWHERE,
    Application,
    Thing,
    assert_held,
    place_of,
)
from tests.capture.callers.conftest import MakeApplication
from tests.capture.callers.ways import SELECT
from tests.capture.engines.databases import eventually


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
