"""Test that a forked child starts from its own truth, and that its parent does not notice."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.pool import QueuePool

from pool_exporter import Instrumentation, LeakPolicy, instrument, owner
from tests.laws import assert_laws
from tests.postgres import PostgresServer
from tests.robustness.child_process import use_a_pool

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork on this platform"),
    # Python 3.12 warns of a fork beside threads, which is what one of these tests is about.
    pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning"),
]


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    """A synchronous engine on a SQLite file."""
    engine = create_engine(f"sqlite:///{tmp_path}/database", poolclass=QueuePool, pool_size=4)
    yield engine
    engine.dispose()


@pytest.fixture
def registry() -> CollectorRegistry:
    """A registry of the test's own."""
    return CollectorRegistry()


@pytest.fixture
def instrumentation(engine: Engine, registry: CollectorRegistry) -> Instrumentation:
    """The engine's instrumentation, with two connections that were used before."""
    instrumentation = instrument(engine, registry=registry, name="forked")
    with engine.connect() as first, engine.connect():
        first.execute(text("select 1"))
    return instrumentation


def in_child(function: Callable[[], Any]) -> Any:
    """Return what a function returns in a forked child; fail with what it raises there."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        try:
            result: tuple[bool, Any] = (True, function())
        except BaseException as error:
            result = (False, repr(error))
        with os.fdopen(writer, "wb") as pipe:
            pipe.write(pickle.dumps(result))
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        succeeded, result_of_child = pickle.loads(pipe.read())
    os.waitpid(child, 0)
    assert succeeded, result_of_child
    return result_of_child


def test_a_child_starts_from_the_connections_it_inherited(
    engine: Engine, instrumentation: Instrumentation
) -> None:
    """Inherited connections count as connects, those out as adopted uses, and nothing else is counted."""

    def look() -> tuple[int, ...]:
        now = instrumentation.snapshot()
        assert_laws(now)
        return (now.connects, now.used, now.idle, now.checkouts, now.adopted, now.acquires or 0, now.checkins)

    with engine.connect():
        assert in_child(look) == (2, 1, 1, 1, 1, 0, 0)
        now = instrumentation.snapshot()
        assert_laws(now)
        assert (now.connects, now.used, now.idle, now.checkouts, now.adopted) == (2, 1, 1, 3, 0)
    now = instrumentation.snapshot()
    assert (now.checkouts, now.checkins, now.telemetry_errors) == (3, 3, 0)


def test_a_child_counts_what_it_does(engine: Engine, instrumentation: Instrumentation) -> None:
    """The child's own acquires and returns are counted in the child only, and the laws hold there."""

    def work() -> tuple[int, ...]:
        before = instrumentation.snapshot()
        held.close()
        with engine.connect() as connection:
            connection.execute(text("select 1"))
        now = instrumentation.snapshot()
        assert_laws(now, before)
        return (now.checkouts, now.checkins, now.adopted, now.acquires or 0, now.statements or 0, now.uses)

    with engine.connect() as held:
        assert in_child(work) == (2, 2, 1, 1, 1, 0)
        assert instrumentation.snapshot().uses == 1


def test_a_child_is_scraped_for_itself(
    engine: Engine, instrumentation: Instrumentation, registry: CollectorRegistry
) -> None:
    """The scrape of the child shows the child's counters, that of the parent the parent's."""

    def scrape() -> bytes:
        return generate_latest(registry)

    with engine.connect():
        child, parent = in_child(scrape), scrape()
    assert b'sqlalchemy_pool_checkouts_total{pool="forked"} 1.0' in child
    assert b'sqlalchemy_pool_acquires_total{pool="forked"} 0.0' in child
    assert b'sqlalchemy_pool_checkouts_total{pool="forked"} 3.0' in parent


def test_a_fork_while_another_thread_is_inside(engine: Engine, instrumentation: Instrumentation) -> None:
    """A lock that another thread held at the fork locks nobody out in the child."""
    inside, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        with instrumentation._ledger._lock:
            inside.set()
            assert go_on.wait(30)

    def work() -> tuple[int, ...]:
        with engine.connect():
            used = instrumentation.snapshot().used
        with instrument(other, registry=None, name="made in the child"), other.connect():
            pass
        now = instrumentation.snapshot()
        assert_laws(now)
        return (used, now.uses)

    other = create_engine("sqlite://")
    connection = engine.connect()
    connection.close()
    thread = threading.Thread(target=hold)
    thread.start()
    assert inside.wait(30)
    try:
        # In the child nobody holds the connection that was on its way back, and no thread completes that.
        assert in_child(work) == (1, 0)
    finally:
        go_on.set()
        thread.join(30)
    now = instrumentation.snapshot()
    assert_laws(now)
    assert (now.checkouts, now.checkins, now.uses) == (3, 3, 0)


def test_a_child_knows_the_uses_that_were_not_counted_yet(
    engine: Engine, instrumentation: Instrumentation
) -> None:
    """Connections that are out at the fork are out in the child, and those that came back are not."""
    instrumentation.snapshot()
    kept, returned = engine.connect(), engine.connect()
    returned.close()

    def child() -> tuple[int, int, int]:
        now = instrumentation.snapshot()
        assert_laws(now)
        return now.uses, now.adopted, now.idle

    assert in_child(child) == (1, 1, 1)
    assert instrumentation.snapshot().uses == 1
    kept.close()


def test_what_was_exempt_stays_exempt_in_a_child(engine: Engine) -> None:
    """A child does not accuse itself of a connection that its parent holds on purpose."""
    policy = LeakPolicy(exempt=["listener"])
    with instrument(engine, registry=None, leaks=policy) as instrumentation:
        with owner("listener"):
            connection = engine.connect()
        assert in_child(lambda: instrumentation.snapshot().exempt_uses) == 1
        connection.close()


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_multiprocessing_by_every_method(
    engine: Engine, instrumentation: Instrumentation, tmp_path: Path, method: str
) -> None:
    """A child process has books of its own, however it is started, and the parent's stay as they were."""
    before = instrumentation.snapshot()
    context = multiprocessing.get_context(method)
    receiver, sender = context.Pipe(duplex=False)
    child: Any = context.Process(  # type: ignore[attr-defined]  # every context has it
        target=use_a_pool, args=(f"sqlite:///{tmp_path}/child", sender.send)
    )
    child.start()
    assert receiver.poll(60)
    assert receiver.recv() == (5, 1, 5, 0)
    child.join(60)
    assert child.exitcode == 0
    now = instrumentation.snapshot()
    assert_laws(now, before)
    assert (now.checkouts, now.connects) == (before.checkouts, before.connects)


@pytest.mark.parametrize("group", [None, "tenants"])
def test_forks_under_load(postgres: PostgresServer, group: str | None) -> None:
    """A child disposes what it inherited without closing it, as SQLAlchemy asks for; the parent notices nothing."""
    engine = create_engine(
        f"postgresql+psycopg://{postgres.address}", poolclass=QueuePool, pool_size=4, max_overflow=0
    )
    pool = instrument(engine, registry=CollectorRegistry(), group=group)
    stop = threading.Event()
    done: list[int] = []
    errors: list[BaseException] = []

    def work() -> None:
        uses = 0
        try:
            while not stop.is_set():
                with engine.connect() as connection:
                    connection.execute(text("SELECT 1"))
                uses += 1
        except BaseException as error:
            errors.append(error)
        done.append(uses)

    def child() -> tuple[int | None, int, int]:
        signal.alarm(30)  # whoever waits for a lock that nobody gives back
        engine.dispose(close=False)
        for _ in range(3):
            with engine.connect() as connection:
                connection.execute(text("SELECT 1"))
        now = pool.snapshot()
        assert_laws(now)
        engine.dispose()
        return now.acquires, now.closes["disconnect"], now.telemetry_errors

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(10):
            assert in_child(child) == (3, 0, 0)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert errors == []
    now = pool.snapshot()
    assert_laws(now)
    assert now.checkouts == now.checkins == now.statements == sum(done)
    assert now.closes["disconnect"] == now.closes["invalidated"] == 0
    engine.dispose()
    pool.uninstrument()
