"""Sixty-four threads on one synchronous engine: exact totals, not one count lost."""

from __future__ import annotations

import sys
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from sqlalchemy import create_engine, text
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.pool import QueuePool

from pool_exporter import instrument, owner
from tests.laws import assert_laws

THREADS = 64
ROUNDS = 100


@pytest.fixture(autouse=True)
def _frequent_switches() -> Iterator[None]:
    """Let threads take turns in the middle of everything."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(interval)


@pytest.mark.parametrize("group", [None, "tenants"])
def test_no_count_is_lost_under_sixty_four_threads(tmp_path: Path, group: str | None) -> None:
    """Checkouts, statements, timeouts, invalidations and owners are what the threads did, to the last one."""
    registry = CollectorRegistry()
    engines = [
        create_engine(
            f"sqlite:///{tmp_path}/{number}.db",
            poolclass=QueuePool,
            pool_size=5,
            max_overflow=3,
            pool_timeout=0.02,
            connect_args={"check_same_thread": False},
        )
        for number in range(1 if group is None else 3)
    ]
    pools = [instrument(engine, registry=registry, group=group) for engine in engines]
    done: list[Counter[str]] = [Counter() for _ in range(THREADS)]
    errors: list[BaseException] = []
    start = threading.Barrier(THREADS)

    def work(number: int) -> None:
        mine, engine = done[number], engines[number % len(engines)]
        try:
            start.wait()
            with owner(f"job-{number % 4}"):
                for round_ in range(ROUNDS):
                    mine["acquires"] += 1
                    try:
                        connection = engine.connect()
                    except PoolTimeoutError:
                        mine["timeouts"] += 1
                        continue
                    mine["checkouts"] += 1
                    if round_ % 10 == 0:
                        connection.execute(text("SELECT 1"))
                        mine["statements"] += 1
                    if round_ % 50 == 49:
                        connection.invalidate()
                        mine["invalidations"] += 1
                    connection.close()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    watching = pools[0]
    while any(thread.is_alive() for thread in threads):
        watching.snapshot()  # in the midst of it
    assert errors == []
    total = sum(done, Counter())
    now = watching.snapshot()
    assert_laws(now)
    assert total["acquires"] == THREADS * ROUNDS
    assert now.acquires == total["acquires"]
    assert now.checkouts == now.checkins == total["checkouts"]
    assert now.timeouts == total["timeouts"]
    assert now.statements == total["statements"]
    assert now.invalidations["hard"] == now.closes["invalidated"] == total["invalidations"]
    assert now.wait_seconds is not None
    assert now.wait_seconds.count == now.use_seconds.count == total["checkouts"]
    assert sum(now.owner_use_seconds.values()) == pytest.approx(now.occupancy_seconds)
    assert (now.used, now.pending, now.unaccounted_slots) == (0, 0, 0)
    for engine in engines:
        engine.dispose()
    after = watching.snapshot()
    assert_laws(after)
    assert after.open == 0
