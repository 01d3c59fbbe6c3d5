"""Read what only the live engine can tell: identity, configuration, and the pool's own numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Engine
from sqlalchemy.pool import Pool, QueuePool, SingletonThreadPool

from pool_exporter.capture.engine_name import database_of, server_of
from pool_exporter.capture.marks import mark_of
from pool_exporter.capture.tap import Tap
from pool_exporter.records import PoolState


def identity(engine: Engine, mode: str) -> Mapping[str, str]:
    """Return the labels of the info metric."""
    pool = engine.pool
    return {
        "dialect": engine.dialect.name,
        "driver": str(engine.dialect.driver),
        "pool_class": type(pool).__name__,
        "pre_ping": "true" if pool._pre_ping else "false",
        "reset_on_return": str(getattr(pool._reset_on_return, "name", "")).removeprefix("reset_"),
        "server": server_of(engine.url),
        "database": database_of(engine.url),
        "mode": mode,
    }


def pool_state(tap: Tap, name: str, last: PoolState | None) -> PoolState:
    """Return the configuration and the own numbers of the pools that the engines use now.

    Attaches to a pool that was assigned to an engine meanwhile. Where no engine is left, the
    configuration stays as it was in `last`.
    """
    engines = tap.engines()
    if not engines:
        state = last or PoolState.unknown(name, mode=tap.mode)
        return state._replace(name=name, live_pools=frozenset(), slots_out=None)
    pools: dict[int, Pool] = {}
    for engine in engines:
        pools[id(engine.pool)] = engine.pool
    for pool in pools.values():
        if mark_of(pool) is not tap:
            tap.attach_pool(pool)
    first: Any = engines[0].pool
    size = _size(first)
    bounded = isinstance(first, QueuePool) and first._max_overflow > -1
    counted = [pool.checkedout() for pool in pools.values() if isinstance(pool, QueuePool)]
    return PoolState(
        name=name,
        mode=tap.mode,
        info=identity(engines[0], tap.mode),
        size=size,
        max=size + first._max_overflow if bounded and size is not None else None,
        timeout_seconds=float(first._timeout) if isinstance(first, QueuePool) else None,
        recycle_seconds=float(first._recycle) if first._recycle > -1 else None,
        live_pools=frozenset(pools),
        slots_out=sum(counted) if counted else None,
        steady=all(bool(engine.dialect.is_async) for engine in engines),
    )


def _size(pool: Any) -> int | None:
    if isinstance(pool, QueuePool):
        return pool.size() or None
    return pool.size if isinstance(pool, SingletonThreadPool) else None
