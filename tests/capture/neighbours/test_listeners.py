"""Live beside listeners of the application that raise: it sees its own exception, and nothing of ours."""

from __future__ import annotations

import gc
import logging
from typing import Any

import pytest
from sqlalchemy import event

from pool_exporter import Instrumentation
from tests.capture.engines.databases import PostgresDatabase, do, execute, watch
from tests.laws import assert_laws

before_and_after = pytest.mark.parametrize("first", ["theirs", "ours"])


class Mine(Exception):
    """What the application's listener raises."""


class Listener:
    """A listener of the application that raises when it is told to."""

    def __init__(self) -> None:
        self.raises = False
        self.calls = 0

    def __call__(self, *arguments: Any) -> None:
        if self.raises:
            self.calls += 1
            raise Mine


def _watch_with(
    engine: Any, name: str, first: str, *, insert: bool = False
) -> tuple[Instrumentation, Listener]:
    listener = Listener()
    target = getattr(engine, "sync_engine", engine)
    if first == "ours":
        pool = watch(engine)
        event.listen(target, name, listener, insert=insert)
    else:
        event.listen(target, name, listener, insert=insert)
        pool = watch(engine)
    return pool, listener


async def _use(engine: Any) -> None:
    connection = await do(engine.connect)
    try:
        await execute(connection)
    finally:
        await do(connection.close)


async def _provoke(engine: Any, name: str) -> None:
    """Do what makes SQLAlchemy call the application's listener."""
    if name in ("invalidate", "close"):
        connection = await do(engine.connect)
        try:
            await do(connection.invalidate)
        finally:
            await do(connection.close)
    else:
        await _use(engine)


# Where a checkin or close listener raises, SQLAlchemy itself abandons the connection to the collector.
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore:The garbage collector")
@before_and_after
@pytest.mark.parametrize("insert", [False, True], ids=["appended", "inserted"])
@pytest.mark.parametrize("name", ["connect", "checkout", "checkin", "close", "invalidate", "reset"])
async def test_the_application_sees_only_its_own_exception(
    name: str,
    insert: bool,
    first: str,
    database: PostgresDatabase,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """With us and without us a raising listener has the same consequence, and the laws hold after it."""
    outcomes = []
    pool = None
    for watched in (False, True):
        engine = database.engine(pool_size=5, max_overflow=5, pool_timeout=0.1)
        if watched:
            pool, listener = _watch_with(engine, name, first, insert=insert)
        else:
            listener = Listener()
            event.listen(getattr(engine, "sync_engine", engine), name, listener, insert=insert)
        if name != "connect":
            await _use(engine)
        listener.raises = True
        outcome: Any = None
        try:
            await _provoke(engine, name)
        except Exception as error:
            outcome = type(error)
        listener.raises = False
        outcomes.append((outcome, listener.calls))
        await _use(engine)
    bare, watched_outcome = outcomes
    assert watched_outcome == bare
    assert bare[0] in (Mine, None)
    assert bare[1] >= 1
    assert pool is not None
    gc.collect()
    snapshot = pool.snapshot()
    assert_laws(snapshot)
    assert (snapshot.uses, snapshot.used, snapshot.pending) == (0, 0, 0)
    assert snapshot.telemetry_errors == 0
    assert [record for record in caplog.records if record.name.startswith("pool_exporter")] == []


# Older versions of SQLAlchemy leave such a connection to the collector.
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@before_and_after
async def test_a_connect_listener_that_raises_is_a_failed_acquire(
    first: str, database: PostgresDatabase
) -> None:
    """The connection is closed again and counted so, and the error is the listener's."""
    engine = database.engine()
    pool, listener = _watch_with(engine, "connect", first)
    listener.raises = True
    with pytest.raises(Mine):
        await do(engine.connect)
    gc.collect()
    snapshot = pool.snapshot()
    assert (snapshot.acquires, snapshot.failed_acquires, snapshot.checkouts) == (1, 1, 0)
    assert (snapshot.connects, snapshot.open) == (1, 0)
    assert {reason for reason, count in snapshot.closes.items() if count} <= {"init_failed", "lost"}
    listener.raises = False
    await _use(engine)
    snapshot = pool.snapshot()
    assert (snapshot.checkouts, snapshot.checkins, snapshot.open) == (1, 1, 1)


@before_and_after
async def test_a_checkout_listener_that_raises_is_a_failed_acquire(
    first: str, database: PostgresDatabase
) -> None:
    """It never was a checkout, whatever events there were."""
    engine = database.engine()
    pool, listener = _watch_with(engine, "checkout", first)
    await _use(engine)
    listener.raises = True
    with pytest.raises(Mine):
        await do(engine.connect)
    snapshot = pool.snapshot()
    assert (snapshot.acquires, snapshot.failed_acquires, snapshot.checkouts) == (2, 1, 1)
    assert (snapshot.uses, snapshot.open) == (0, 0)


@before_and_after
async def test_a_reset_listener_that_raises_is_a_failed_reset(
    first: str, database: PostgresDatabase, caplog: pytest.LogCaptureFixture
) -> None:
    """SQLAlchemy closes the connection and tells its log; the use ends."""
    caplog.set_level(logging.CRITICAL, "sqlalchemy.pool")
    engine = database.engine()
    pool, listener = _watch_with(engine, "reset", first)
    connection = await do(engine.connect)
    listener.raises = True
    await do(connection.close)
    snapshot = pool.snapshot()
    assert (snapshot.uses, snapshot.open, snapshot.checkins) == (0, 0, 1)
    assert (snapshot.reset_failures, snapshot.closes["reset_failed"]) == (1, 1)
    assert_laws(snapshot)
