"""A forked child starts from its own truth, and its parent does not notice."""

from __future__ import annotations

import json
import os
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from sqlalchemy import Engine, create_engine
from sqlalchemy.pool import QueuePool

from pool_exporter import Instrumentation, instrument
from tests.laws import assert_laws

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    """A synchronous engine with one connection idle and one out."""
    engine = create_engine(f"sqlite:///{tmp_path / 'fork.db'}", poolclass=QueuePool)
    yield engine
    engine.dispose()


def in_child(work: Callable[[], Any]) -> Any:
    """Return what `work` returns in a forked child."""
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # forking with threads, on purpose
        child = os.fork()
    if child == 0:
        try:
            os.write(writing, json.dumps(work()).encode())
        except BaseException:
            os.write(writing, json.dumps({"failed": traceback.format_exc()}).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        answer = pipe.read()
    os.waitpid(child, 0)
    return json.loads(answer)


def numbers(pool: Instrumentation) -> dict[str, int]:
    """Return the counts that a fork must get right."""
    snapshot = pool.snapshot()
    assert_laws(snapshot)
    return {
        "connects": snapshot.connects,
        "checkouts": snapshot.checkouts,
        "adopted": snapshot.adopted,
        "checkins": snapshot.checkins,
        "used": snapshot.used,
        "idle": snapshot.idle,
        "acquires": snapshot.acquires or 0,
        "telemetry_errors": snapshot.telemetry_errors,
    }


def test_a_child_begins_with_the_connections_it_inherits(engine: Engine) -> None:
    """Counters begin at 0; inherited connections count as connects, those out as adopted uses."""
    registry = CollectorRegistry()
    pool = instrument(engine, name="forked", registry=registry)
    idle, held = engine.connect(), engine.connect()
    idle.close()
    before = numbers(pool)

    def work() -> dict[str, Any]:
        first = numbers(pool)
        with engine.connect():
            busy = numbers(pool)
        held.close()
        scraped = 'sqlalchemy_pool_connects_total{pool="forked"} 2.0' in generate_latest(registry).decode()
        return {"first": first, "busy": busy, "last": numbers(pool), "scraped": scraped}

    child = in_child(work)
    assert child["first"] == {
        "connects": 2, "checkouts": 1, "adopted": 1, "checkins": 0,
        "used": 1, "idle": 1, "acquires": 0, "telemetry_errors": 0,
    }  # fmt: skip
    assert child["busy"]["checkouts"] == 2
    assert child["busy"]["acquires"] == 1
    assert (child["last"]["used"], child["last"]["idle"], child["last"]["checkins"]) == (0, 2, 2)
    assert child["scraped"] is True
    assert numbers(pool) == before
    held.close()
    assert numbers(pool)["checkins"] == before["checkins"] + 1


def test_a_fork_while_another_thread_is_inside_the_library_leaves_no_lock(engine: Engine) -> None:
    """Locks that a thread held which did not survive the fork are free in the child."""
    registry = CollectorRegistry()
    pool = instrument(engine, registry=registry)
    with engine.connect():
        pass
    inside, leave = threading.Event(), threading.Event()
    ledger: Any = pool._ledger

    def hold() -> None:
        with ledger._lock:
            inside.set()
            leave.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    inside.wait()
    try:

        def work() -> dict[str, Any]:
            with engine.connect():
                return {"numbers": numbers(pool), "bytes": len(generate_latest(registry))}

        child = in_child(work)
    finally:
        leave.set()
        thread.join()
    assert child.get("failed") is None
    assert child["numbers"]["used"] == 1
    assert child["bytes"] > 0
    assert numbers(pool)["used"] == 0


def test_a_child_may_instrument_engines_of_its_own(engine: Engine, tmp_path: Path) -> None:
    """After the fork both processes instrument and count on their own."""
    registry = CollectorRegistry()
    instrument(engine, registry=registry)

    def work() -> dict[str, Any]:
        own = create_engine(f"sqlite:///{tmp_path / 'child.db'}", poolclass=QueuePool)
        pool = instrument(own, name="child", registry=registry)
        with own.connect():
            return numbers(pool)

    assert in_child(work)["used"] == 1
    assert b'pool="child"' not in generate_latest(registry)
