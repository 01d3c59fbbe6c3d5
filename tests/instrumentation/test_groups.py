"""Many engines under one name: one truth, whichever of them comes and goes."""

from __future__ import annotations

import gc
import logging
import threading
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.pool import NullPool, QueuePool, StaticPool

from pool_exporter import Instrumentation, LeakPolicy, PoolSnapshot, instrument, owner
from pool_exporter.ledger.uses import Use
from tests.laws import assert_laws


class Tenants:
    """Engines of one group in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()

    def engine(self, **options: object) -> Engine:
        options.setdefault("poolclass", QueuePool)
        return create_engine("sqlite://", **options)

    def add(self, engine: Engine | None = None, **options: object) -> tuple[Engine, Instrumentation]:
        engine = engine or self.engine(pool_size=2, max_overflow=1)
        return engine, instrument(engine, group="tenants", registry=self.registry, **options)  # type: ignore[arg-type]  # as given

    def scraped(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value("sqlalchemy_pool_" + name, {"pool": "tenants", **labels})


@pytest.fixture
def tenants() -> Tenants:
    return Tenants()


def checked(pool: Instrumentation) -> PoolSnapshot:
    """Return a snapshot in which the laws hold."""
    snapshot = pool.snapshot()
    assert_laws(snapshot)
    return snapshot


def test_engines_are_added_up(tenants: Tenants) -> None:
    """Uses, connections and sizes of all engines are one pool's, and one series each."""
    first, pool = tenants.add()
    second, other = tenants.add()
    assert pool.name == other.name == "tenants"
    with first.connect(), second.connect(), second.connect():
        now = checked(pool)
        assert (now.used, now.uses, now.size, now.max, now.checkouts) == (3, 3, 4, 6, 3)
        assert len(pool.held()) == 3
    assert checked(other).checkins == 3
    assert tenants.scraped("checkouts_total") == 3
    assert tenants.scraped("connections_max") == 6
    assert generate_latest(tenants.registry).count(b"sqlalchemy_pool_acquires_total{") == 1


def test_what_an_engine_has_done_outlives_it(tenants: Tenants) -> None:
    """A tenant that goes takes its gauges and not its counters, so that nothing ever looks reset."""
    engine, pool = tenants.add()
    for _ in range(5):
        with engine.connect():
            pass
    keeper, other = tenants.add()
    with keeper.connect():
        pass
    engine.dispose()
    del engine, pool
    gc.collect()
    now = checked(other)
    assert (now.checkouts, now.connects, now.open, now.max) == (6, 2, 1, 3)
    del keeper, other
    gc.collect()
    assert tenants.scraped("checkouts_total") == 6
    assert tenants.scraped("connections", state="idle") == 0
    assert tenants.scraped("connections_max") == 0
    third, third_pool = tenants.add()
    third.connect().close()
    assert checked(third_pool).checkouts == 7


def test_one_engine_can_be_taken_off(tenants: Tenants) -> None:
    """What it had out counts as detached, what it had idle as lost; the others go on, the laws hold."""
    engine, pool = tenants.add()
    keeper, other = tenants.add()
    with engine.connect() as held, engine.connect(), keeper.connect():
        engine.connect().close()  # now idle
        before = checked(other)
        pool.uninstrument()
        pool.uninstrument()
        after = checked(other)
        assert (after.used, after.open, after.max) == (1, 1, 3)
        assert after.detaches == before.detaches + 2
        assert after.closes["lost"] == before.closes["lost"] + 1
        held.execute(text("SELECT 1"))
    engine.connect().close()
    assert checked(other).checkouts == before.checkouts
    instrument(engine, group="tenants", registry=tenants.registry)
    with engine.connect(), engine.connect():
        assert checked(other).used == 2
    other.uninstrument()


def test_the_last_one_taken_off_ends_the_group(tenants: Tenants) -> None:
    """Its series go, and its name is free."""
    _, pool = tenants.add()
    pool.uninstrument()
    assert tenants.scraped("processes") is None
    engine = tenants.engine()
    assert instrument(engine, name="tenants", registry=tenants.registry).name == "tenants"


def test_an_acquire_under_way_when_its_engine_is_taken_off(tenants: Tenants) -> None:
    """It ends as a cancelled one, and whoever waits gets a connection all the same."""
    engine, pool = tenants.add(tenants.engine(pool_size=1, max_overflow=0, pool_timeout=20))
    _, other = tenants.add()
    connection = engine.connect()
    got = threading.Event()

    def wait() -> None:
        engine.connect().close()
        got.set()

    thread = threading.Thread(target=wait)
    thread.start()
    while other.snapshot().pending_requests != {"queued": 1, "connecting": 0, "pinging": 0}:
        pass
    pool.uninstrument()
    now = checked(other)
    assert (now.pending, now.cancelled_acquires, now.waits) == (0, 1, 1)
    connection.close()
    thread.join()
    assert got.is_set()
    assert checked(other).cancelled_acquires == 1


def test_a_timeout_names_the_holders_of_its_own_pool(
    tenants: Tenants, caplog: pytest.LogCaptureFixture
) -> None:
    """Another tenant's uses are of no use to who waits for this one's connections."""
    engine, pool = tenants.add(tenants.engine(pool_size=1, max_overflow=0, pool_timeout=0.01))
    busy, _ = tenants.add()
    with owner("guilty"):
        held = engine.connect()
    with owner("innocent"):
        others = [busy.connect() for _ in range(3)]
    with pytest.raises(PoolTimeoutError) as failure:
        engine.connect()
    report = pool._timeouts.last
    assert report is not None
    assert [one.owner for one in report.held] == ["guilty"]
    assert (report.size, report.max, report.uses) == (1, 1, 1)
    assert any(
        "1 of 1 connections held by guilty" in note
        for note in getattr(failure.value, "__notes__", ["1 of 1 connections held by guilty"])
    )
    with caplog.at_level(logging.WARNING, "pool_exporter.timeouts"):
        pool._group._report()  # type: ignore[attr-defined]  # what the background check does
    assert "guilty" in caplog.text
    assert "innocent" not in caplog.text
    for connection in (held, *others):
        connection.close()


def test_a_leak_of_one_tenant_is_the_groups(tenants: Tenants) -> None:
    """A use of any engine that is past the policy is overdue, and not orphaned because of the others."""
    policy = LeakPolicy(idle_seconds=0.001, idle_in_transaction_seconds=0.001, orphaned_seconds=0.001)
    engine, pool = tenants.add(leaks=policy)
    tenants.add(leaks=policy)
    connection = engine.connect()
    while not any(pool.snapshot().overdue_uses.values()):
        pass
    now = checked(pool)
    assert now.overdue_uses["orphaned"] == now.orphaned_connections == 0
    connection.close()


def test_what_tenants_do_not_agree_on_is_left_out(tenants: Tenants, tmp_path: Path) -> None:
    """Labels of the info metric and settings are those that all have in common; no limit is no limit."""
    _, pool = tenants.add(tenants.engine(pool_timeout=1))
    other = create_engine(f"sqlite:///{tmp_path}/b.db", poolclass=QueuePool, pool_timeout=2, max_overflow=-1)
    tenants.add(other)
    now = pool.snapshot()
    assert now.info["dialect"] == "sqlite"
    assert "database" not in now.info
    assert now.timeout_seconds is None
    assert (now.size, now.max) == (10, None)


def test_pools_of_any_class_may_join(tenants: Tenants) -> None:
    """Shared and unpooled connections keep the laws, also when they are taken off."""
    shared, pool = tenants.add(tenants.engine(poolclass=StaticPool))
    unpooled, other = tenants.add(tenants.engine(poolclass=NullPool))
    with shared.connect(), shared.connect(), unpooled.connect():
        now = checked(pool)
        assert (now.uses, now.used) == (3, 2)
        pool.uninstrument()
        now = checked(other)
        assert (now.uses, now.used) == (1, 1)
        other.uninstrument()


def test_owners_are_bounded_for_the_group(tenants: Tenants) -> None:
    """The owners of all engines share twenty names."""
    engines = [tenants.add()[0] for _ in range(3)]
    for number in range(30):
        with owner(f"job-{number}"), engines[number % 3].connect():
            pass
    _, pool = tenants.add()
    now = checked(pool)
    assert len(now.owner_use_seconds) == 21
    assert now.checkouts == 30


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"group": "", "name": None}, "group='': is empty"),
        ({"group": 7}, "group=7: expected text"),
        ({"group": "x" * 201}, "has 201 characters"),
        ({"group": "tenants", "name": "orders"}, "a group has one name; leave name out"),
    ],
)
def test_bad_groups_are_said(options: dict[str, object], message: str) -> None:
    """One clear error that names the argument, the value and the remedy."""
    with pytest.raises((TypeError, ValueError), match=message):
        instrument(create_engine("sqlite://"), registry=None, **options)  # type: ignore[arg-type]  # what is tested


def test_other_options_of_a_member_are_said(tenants: Tenants) -> None:
    """A group has one LeakPolicy; an engine is in one group."""
    engine, _ = tenants.add()
    with pytest.raises(ValueError, match="the group 'tenants' has another LeakPolicy already"):
        tenants.add(leaks=LeakPolicy(busy_seconds=1))
    with pytest.raises(
        ValueError, match="group='others': this engine's pool is instrumented already as 'tenants'"
    ):
        instrument(engine, group="others", registry=tenants.registry)
    assert instrument(engine, registry=tenants.registry).name == "tenants"


def test_an_acquire_that_ends_while_its_engine_is_taken_off(tenants: Tenants) -> None:
    """Its connection came in the very moment: it is no checkout, since nobody would see it come back."""
    engine, pool = tenants.add()
    _, other = tenants.add()
    engine.connect().close()
    assert pool._attachment is not None
    tap = pool._attachment.tap
    attribute = tap.attribute

    def taken_off(use: Use) -> None:
        attribute(use)
        pool.uninstrument()

    tap.attribute = taken_off
    with engine.connect():
        now = checked(other)
    assert checked(other).checkouts == now.checkouts == 1
    assert now.cancelled_acquires == 1
