"""Where the seam cannot be used, events alone are, and what they do not tell is left out."""

from __future__ import annotations

import gc
import logging
import warnings
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.pool import QueuePool

from pool_exporter import instrument
from pool_exporter.capture import privates
from pool_exporter.instrument import _PROCESS

UNKNOWN = (
    "acquires",
    "pending_requests",
    "oldest_pending_seconds",
    "timeouts",
    "cancelled_acquires",
    "failed_acquires",
    "waits",
    "queue_seconds",
    "stranded_waits",
    "unaccounted_slots",
    "connect_errors",
    "pre_ping_failures",
    "statements",
    "wait_seconds",
    "connect_seconds",
    "pre_ping_seconds",
)
"""What no event tells."""


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    """An engine whose pool is full with two connections."""
    return create_engine(
        f"sqlite:///{tmp_path / 'reduced.db'}",
        poolclass=QueuePool,
        pool_size=1,
        max_overflow=1,
        pool_timeout=0.01,
    )


@pytest.fixture
def untested(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the installed SQLAlchemy one that the library is not tested on."""
    monkeypatch.setattr(privates, "TESTED_MINORS", ((1, 4),))


@pytest.mark.usefixtures("untested")
def test_events_alone_count_what_they_tell(engine: Engine) -> None:
    """Connects, uses, closes, invalidations and detaches are right, and the laws that remain hold."""
    pool = instrument(engine, registry=CollectorRegistry())
    first, second = engine.connect(), engine.connect()
    with pytest.raises(PoolTimeoutError):
        engine.connect()
    assert (pool.snapshot().uses, pool.snapshot().used, pool.snapshot().idle) == (2, 2, 0)
    first.execute(text("select 1"))
    first.close()
    second.close()  # overflow: closed at return
    after = pool.snapshot()
    assert (after.uses, after.idle, after.closes["overflow"]) == (0, 1, 1)
    with engine.connect() as third:
        third.invalidate()
    with engine.connect() as fourth:
        fourth.detach()
    engine.dispose()
    end = pool.snapshot()
    assert (end.connects, end.closes["invalidated"], end.invalidations["hard"], end.detaches) == (3, 1, 1, 1)
    assert end.checkouts == 4 == end.checkins + end.detaches + end.leaks_collected + end.uses
    assert end.connects == sum(end.closes.values()) + end.detaches + end.open
    assert end.telemetry_errors == 0


@pytest.mark.usefixtures("untested")
def test_a_collected_leak_and_a_dispose_are_told_apart(engine: Engine) -> None:
    """A dropped connection is one collected leak and stays open; a dispose closes what is idle."""
    pool = instrument(engine, registry=CollectorRegistry())
    dropped: Any = engine.raw_connection()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        del dropped
        gc.collect()
    leaked = pool.snapshot()
    assert (leaked.leaks_collected, leaked.uses, leaked.idle) == (1, 0, 1)
    engine.dispose()
    assert pool.snapshot().closes["dispose"] == 1
    assert pool.snapshot().open == 0


@pytest.mark.usefixtures("untested")
def test_what_cannot_be_known_is_left_out(engine: Engine) -> None:
    """Unknown fields are None, their series absent, and the info metric says that the mode is reduced."""
    registry = CollectorRegistry()
    pool = instrument(engine, name="reduced", registry=registry)
    snapshot = pool.snapshot()
    assert [name for name in UNKNOWN if getattr(snapshot, name) is not None] == []
    exposition = generate_latest(registry).decode()
    assert "sqlalchemy_pool_acquires_total{" not in exposition
    assert "sqlalchemy_pool_wait_seconds_bucket{" not in exposition
    assert 'sqlalchemy_pool_checkouts_total{pool="reduced"} 0.0' in exposition
    assert 'mode="reduced"' in exposition


@pytest.mark.usefixtures("untested")
def test_it_is_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two pools in reduced mode for one reason make one log line, which names the reason."""
    monkeypatch.setattr(_PROCESS, "_said", set())
    with caplog.at_level(logging.WARNING, "pool_exporter"):
        for number in range(2):
            one = create_engine(f"sqlite:///{tmp_path / f'{number}.db'}")
            instrument(one, registry=CollectorRegistry())
    lines = [record.getMessage() for record in caplog.records if "events only" in record.getMessage()]
    assert len(lines) == 1
    assert "is not a version that this library is tested on" in lines[0]


class Refusing(QueuePool):
    """A pool that does not let its class be replaced."""

    def __setattr__(self, name: str, value: object) -> None:
        if name == "__class__":
            raise TypeError("this pool keeps its class")
        super().__setattr__(name, value)


def test_a_pool_that_refuses_the_seam_is_followed_by_events(tmp_path: Path) -> None:
    """A pool whose class cannot be replaced keeps it, and its uses are counted all the same."""
    engine = create_engine(f"sqlite:///{tmp_path / 'refusing.db'}", poolclass=Refusing)
    pool = instrument(engine, registry=CollectorRegistry())
    with engine.connect():
        assert pool.snapshot().uses == 1
    assert type(engine.pool) is Refusing
    assert (pool.snapshot().mode, pool.snapshot().checkouts, pool.snapshot().checkins) == ("reduced", 1, 1)


def test_a_pool_whose_connect_was_replaced_is_followed_by_events(engine: Engine) -> None:
    """Where something has put its own connect() on the pool, it stays, and events are used."""
    pool: Any = engine.pool
    original = pool.connect

    def connect() -> Any:
        return original()

    pool.connect = connect
    instrumented = instrument(engine, registry=CollectorRegistry())
    with engine.connect():
        assert instrumented.snapshot().used == 1
    assert instrumented.snapshot().mode == "reduced"
    assert instrumented.snapshot().checkins == 1
