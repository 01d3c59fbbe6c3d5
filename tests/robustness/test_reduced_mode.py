"""Test the fall-back to SQLAlchemy's events where the seam cannot be used."""

from __future__ import annotations

import gc
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.pool import QueuePool

from pool_exporter import instrument
from pool_exporter.capture import privates
from tests.laws import assert_laws

UNKNOWN = (
    *("acquires", "timeouts", "cancelled_acquires", "failed_acquires", "waits", "queue_seconds"),
    *("stranded_waits", "pending_requests", "oldest_pending_seconds", "wait_seconds", "connect_seconds"),
    *("pre_ping_seconds", "pre_ping_failures", "statements", "connect_errors", "unaccounted_slots"),
)
ABSENT = ("acquires", "timeouts", "waits", "pending_requests", "wait_seconds", "statements", "connect_errors")


class StubbornPool(QueuePool):
    """A pool whose class cannot be replaced, for it has another layout than any subclass made of it."""

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        return StubbornPool

    @__class__.setter
    def __class__(self, value: type) -> None:
        raise TypeError("__class__ assignment refused")


@pytest.fixture(params=["version", "stubborn class", "connect of its own", "private name gone"])
def engine(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Engine]:
    """An engine whose pool cannot be followed, for each of the reasons."""
    kind = StubbornPool if request.param == "stubborn class" else QueuePool
    engine = create_engine(
        f"sqlite:///{tmp_path}/database", poolclass=kind, pool_size=2, max_overflow=2, pool_timeout=0.01
    )
    if request.param == "version":
        monkeypatch.setattr(privates, "TESTED_MINORS", ((1, 4),))
    elif request.param == "connect of its own":
        engine.pool.connect = engine.pool.connect  # type: ignore[method-assign]
    elif request.param == "private name gone":
        monkeypatch.setattr(privates, "PRIVATE_NAMES", ("sqlalchemy.pool.base:Pool._no_such_name",))
    yield engine
    engine.dispose()


@pytest.mark.filterwarnings("ignore:unclosed database:ResourceWarning")
def test_events_alone_count_what_they_tell(engine: Engine) -> None:
    """Checkouts, checkins, connects, closes, detaches and leaks are right; the unknown is None."""
    instrumentation = instrument(engine, registry=None)
    first, second, third = engine.connect(), engine.connect(), engine.connect()
    first.execute(text("select 1"))
    now = instrumentation.snapshot()
    assert_laws(now)
    assert (now.mode, now.info["mode"]) == ("reduced", "reduced")
    assert {name: getattr(now, name) for name in UNKNOWN} == dict.fromkeys(UNKNOWN)
    assert (now.pending, now.used, now.idle, now.connects) == (None, 3, 0, 3)
    for connection in (first, second, third):
        connection.close()  # the third has no room
    now = instrumentation.snapshot()
    assert_laws(now)
    assert (now.used, now.idle, now.checkouts, now.checkins) == (0, 2, 3, 3)
    assert {reason: count for reason, count in now.closes.items() if count} == {"overflow": 1}

    detached = engine.connect()
    detached.detach()
    detached.close()
    leaked: Any = engine.raw_connection()
    del leaked
    gc.collect()
    invalid = engine.connect()
    invalid.invalidate()
    invalid.close()
    now = instrumentation.snapshot()
    assert_laws(now)
    assert (now.checkouts, now.detaches, now.leaks_collected, now.uses) == (6, 1, 1, 0)
    assert (now.invalidations["hard"], now.closes["invalidated"]) == (1, 1)
    engine.dispose()
    now = instrumentation.snapshot()
    assert_laws(now)
    assert (now.open, now.telemetry_errors) == (0, 0)


def test_the_unknown_has_no_series(engine: Engine) -> None:
    """A scrape shows `mode="reduced"` and leaves out each series that cannot be known."""
    registry = CollectorRegistry()
    instrument(engine, registry=registry, name="reduced")
    engine.connect().close()
    exposed = generate_latest(registry).decode()
    assert 'mode="reduced"' in exposed
    assert 'sqlalchemy_pool_checkouts_total{pool="reduced"} 1.0' in exposed
    for name in ABSENT:
        assert not any(
            line.startswith(f"sqlalchemy_pool_{name}") and "reduced" in line for line in exposed.splitlines()
        ), name


def test_it_is_said_once(engine: Engine, caplog: pytest.LogCaptureFixture) -> None:
    """The log says once why only events are used, whatever number of pools is concerned."""
    caplog.set_level(logging.WARNING, logger="pool_exporter")
    for _ in range(3):
        with instrument(engine, registry=None):
            pass
    said = [record for record in caplog.records if "events only" in record.getMessage()]
    assert len(said) <= 1  # none, where an earlier test has heard it


def test_it_can_be_taken_off(engine: Engine) -> None:
    """After uninstrument() the listeners that stay behind report nothing, and are used again."""
    with instrument(engine, registry=None) as instrumentation:
        engine.connect().close()
    engine.connect().close()
    assert instrumentation.snapshot().checkouts == 1
    listening = len(tuple(engine.pool.dispatch.checkout))
    with instrument(engine, registry=None) as again, engine.connect():
        now = again.snapshot()
        assert_laws(now)
        assert (now.checkouts, now.used) == (1, 1)
    assert len(tuple(engine.pool.dispatch.checkout)) == listening


def test_a_connection_that_is_out_is_adopted(engine: Engine) -> None:
    """A pool in use when it is instrumented shows the connection that is out, until it comes back."""
    held = engine.connect()
    instrumentation = instrument(engine, registry=None)
    now = instrumentation.snapshot()
    assert_laws(now)
    assert (now.used, now.checkouts) == (1, 1)
    held.close()
    now = instrumentation.snapshot()
    assert_laws(now)
    assert (now.used, now.idle, now.checkins) == (0, 1, 1)
