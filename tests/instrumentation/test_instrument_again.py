"""Check a second instrument(), uninstrument() and the kill switch."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from sqlalchemy import Engine, create_engine
from sqlalchemy.pool import NullPool, Pool, QueuePool

from pool_exporter import Instrumentation, instrument, snapshots, start_server
from pool_exporter.capture.engine_name import default_name
from tests.instrumentation.conftest import pools_in


def test_instrumenting_again_gives_the_same_object(engine: Engine, registry: CollectorRegistry) -> None:
    """A second call, with the same options or with none, changes nothing."""
    options: dict[str, Any] = {"name": "orders", "statements": False, "buckets": {"wait_seconds": [1]}}
    first = instrument(engine, registry=registry, **options)
    engine.connect().close()
    assert instrument(engine, registry=registry, **options) is first
    assert instrument(engine) is first
    assert instrument(engine, registry=registry) is first
    assert instrument(engine, name="orders") is first
    assert instrument(engine.execution_options(isolation_level="AUTOCOMMIT")) is first
    assert first.snapshot().checkouts == 1
    assert pools_in(registry) == ["orders"]


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("name", "others"),
        ("statements", False),
        ("detail", "basic"),
        ("registry", None),
        ("buckets", {"wait_seconds": [1]}),
    ],
)
def test_instrumenting_again_with_other_options_is_an_error(
    option: str, value: Any, engine: Engine, registry: CollectorRegistry
) -> None:
    """Options of a pool do not change; the error names the option, its value and the way out."""
    first = instrument(engine, registry=registry, name="orders")
    with pytest.raises(ValueError, match=f"^{option}=") as refused:
        instrument(engine, **{option: value})
    assert "instrumented already as 'orders'" in str(refused.value)
    assert "uninstrument()" in str(refused.value)
    first.uninstrument()
    assert instrument(engine, **{"registry": CollectorRegistry(), option: value}) is not first


def test_an_uninstrumented_pool_stays_off_its_successor(engine: Engine, registry: CollectorRegistry) -> None:
    """The old handle takes nothing off an engine that was instrumented again."""
    first = instrument(engine, registry=registry)
    first.uninstrument()
    second = instrument(engine, registry=registry)
    first.uninstrument()
    with first:
        engine.connect().close()
    engine.connect().close()
    assert (second.snapshot().acquires, second.snapshot().checkouts, second.snapshot().adopted) == (2, 2, 0)
    assert first.snapshot().checkouts == 0


def test_pools_without_a_registry_have_buckets_of_their_own(make: Callable[..., Engine]) -> None:
    """What is not exported shares nothing: each pool has the buckets and the detail asked for."""
    one = instrument(make(), name="own", registry=None, buckets={"wait_seconds": [1]})
    two = instrument(make(), name="own", registry=None, buckets={"wait_seconds": [2, 3]}, detail="basic")
    three = instrument(make(), name="own", registry=None)
    bounds = [instrumentation.snapshot().wait_seconds for instrumentation in (one, two, three)]
    assert [histogram.bounds[:2] for histogram in bounds if histogram] == [(1,), (2, 3), (0.001, 0.005)]


def test_uninstrument_takes_everything_off(engine: Engine, registry: CollectorRegistry) -> None:
    """Pool, queue and dialect have their own classes and methods again, and the series are gone."""
    instrumentation = instrument(engine, name="orders", registry=registry)
    pool: Any = engine.pool
    assert type(pool) is not QueuePool
    engine.connect().close()
    instrumentation.uninstrument()
    instrumentation.uninstrument()
    assert type(pool) is QueuePool
    assert type(pool._pool).__module__ == "sqlalchemy.util.queue"
    assert [name for name in vars(engine.dialect) if name.startswith("do_")] == []
    assert pools_in(registry) == []
    engine.connect().close()
    assert instrumentation.snapshot().checkouts == 1, "what was known last"
    again = instrument(engine, name="orders", registry=registry)
    assert again is not instrumentation
    assert (again.name, again.snapshot().checkouts, again.snapshot().open) == ("orders", 0, 1)


def test_a_with_block_ends_in_uninstrument(engine: Engine, registry: CollectorRegistry) -> None:
    """At the end of the block the engine is as it was."""
    instrumentation = instrument(engine, name="orders", registry=registry)
    with instrumentation as entered:
        assert entered is instrumentation
        assert pools_in(registry) == ["orders"]
    assert type(engine.pool) is QueuePool
    assert pools_in(registry) == []
    assert repr(instrumentation) == "<Instrumentation of pool 'orders'>"


@pytest.mark.parametrize("value", ["1", "true", "YES", " on "])
def test_the_kill_switch_leaves_the_engine_alone(
    value: str, engine: Engine, registry: CollectorRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With POOL_EXPORTER_DISABLED=1 every call works and nothing is attached or exported."""
    monkeypatch.setenv("POOL_EXPORTER_DISABLED", value)
    before = (type(engine.pool), set(vars(engine.pool)), set(vars(engine.dialect)), engine.pool.dispatch)
    with instrument(engine, name="nobody", registry=registry) as instrumentation:
        assert isinstance(instrumentation, Instrumentation)
        assert (
            type(engine.pool),
            set(vars(engine.pool)),
            set(vars(engine.dialect)),
            engine.pool.dispatch,
        ) == before
        engine.connect().close()
        snapshot = instrumentation.snapshot()
        assert (snapshot.mode, snapshot.name, snapshot.checkouts, snapshot.open) == (
            "disabled",
            "nobody",
            0,
            0,
        )
        assert pools_in(registry) == []
        assert [one for one in snapshots() if one.name == "nobody"] == []
    instrumentation.uninstrument()


@pytest.mark.parametrize("value", ["", "0", "false", "no"])
def test_the_kill_switch_is_off_otherwise(
    value: str, engine: Engine, registry: CollectorRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An empty variable, or one that says no, switches nothing off."""
    monkeypatch.setenv("POOL_EXPORTER_DISABLED", value)
    assert instrument(engine, registry=registry).snapshot().mode == "full"


def test_the_kill_switch_opens_no_port(monkeypatch: pytest.MonkeyPatch, registry: CollectorRegistry) -> None:
    """Switched off, `start_server` listens on nothing and starts no thread; its handle works."""
    monkeypatch.setenv("POOL_EXPORTER_DISABLED", "1")
    threads = threading.active_count()
    with start_server(0, registry=registry) as server:
        assert threading.active_count() == threads
        assert server.address == ("127.0.0.1", 0)
        assert server.url == ""
    server.close()


def test_two_pool_classes_share_one_registry(
    registry: CollectorRegistry, make: Callable[..., Engine]
) -> None:
    """A pool without a size has fewer series, and does not take away another's."""
    instrument(make(), name="sized", registry=registry)
    instrument(make(poolclass=NullPool), name="unsized", registry=registry)
    lines = generate_latest(registry).decode().splitlines()
    sizes = [line for line in lines if line.startswith("sqlalchemy_pool_size{")]
    assert sizes == ['sqlalchemy_pool_size{pool="sized"} 5.0']


def test_the_default_name_needs_no_connection() -> None:
    """Naming a pool touches neither the database nor the pool's own state."""
    engine = create_engine("postgresql+psycopg://127.0.0.1:1/app")
    assert default_name(engine) == "127.0.0.1:1/app"
    assert isinstance(engine.pool, Pool)
