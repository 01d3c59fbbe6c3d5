"""Engines that come and go by the thousand: nothing stays of those that went."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Iterator

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from sqlalchemy import create_engine, text
from sqlalchemy.pool import QueuePool

from pool_exporter import Instrumentation, instrument, instrument_all
from pool_exporter.ledger.ledger import Ledger
from pool_exporter.ledger.uses import PoolEntry
from tests.laws import assert_laws

CHURN = 300


def ours() -> int:
    """Return how many of our objects there are that would be one or more for each engine."""
    gc.collect()
    return sum(isinstance(one, (Instrumentation, Ledger, PoolEntry)) for one in gc.get_objects())


def pools_of(registry: CollectorRegistry) -> set[str]:
    """Return the pools of a scrape."""
    text_ = generate_latest(registry).decode()
    return {
        line.split('"')[1] for line in text_.splitlines() if line.startswith("sqlalchemy_pool_processes{")
    }


@pytest.fixture
def registry() -> Iterator[CollectorRegistry]:
    yield CollectorRegistry()
    gc.collect()


@pytest.mark.parametrize("way", ["names", "group", "all"])
def test_engines_that_went_leave_nothing(registry: CollectorRegistry, way: str) -> None:
    """Series, names and memory of disposed engines go; a group keeps what they have done, and no more."""
    everything = instrument_all(registry=registry, group="tenants") if way == "all" else None
    keeper = create_engine("sqlite://", poolclass=QueuePool)
    if way != "all":
        kept = instrument(
            keeper, registry=registry, **({"group": "tenants"} if way == "group" else {"name": "keeper"})
        )

    def churn(number: int) -> None:
        engine = create_engine("sqlite://", poolclass=QueuePool)
        if way == "group":
            instrument(engine, registry=registry, group="tenants")
        elif way == "names":
            instrument(engine, registry=registry, name=f"tenant-{number}")
        with engine.connect() as connection:
            connection.execute(text("SELECT 1"))
        engine.dispose()

    for number in range(20):
        churn(number)
    before = ours()
    tracemalloc.start()
    try:
        for number in range(CHURN // 3):
            churn(20 + number)
        gc.collect()
        traced = tracemalloc.get_traced_memory()[0]
        for number in range(CHURN):
            churn(1000 + number)
        gc.collect()
        growth = tracemalloc.get_traced_memory()[0] - traced
    finally:
        tracemalloc.stop()
    assert ours() <= before + 2
    # Bytes. One engine's books take some 35 KiB; the interpreter's own caches grow by a little.
    assert growth < CHURN * 1024
    if way == "names":
        assert pools_of(registry) == {"keeper"}
    else:
        assert pools_of(registry) == {"tenants"}
        value = registry.get_sample_value("sqlalchemy_pool_checkouts_total", {"pool": "tenants"})
        assert value == 20 + CHURN // 3 + CHURN
    if everything is not None:
        everything.uninstrument()
    else:
        assert_laws(kept.snapshot())


def test_a_thousand_engines_in_a_group(registry: CollectorRegistry) -> None:
    """All of them are one pool, and each of them can be found among its uses."""
    engines = [
        create_engine("sqlite://", poolclass=QueuePool, pool_size=2, max_overflow=1) for _ in range(1000)
    ]
    pools = [instrument(engine, registry=registry, group="tenants") for engine in engines]
    held = [engine.connect() for engine in engines[::10]]
    now = pools[0].snapshot()
    assert_laws(now)
    assert (now.used, now.size, now.max, now.checkouts) == (100, 2000, 3000, 100)
    assert len(pools[500].held()) == 100
    for connection in held:
        connection.close()
    assert pools_of(registry) == {"tenants"}
