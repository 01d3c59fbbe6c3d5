"""Play trouble behind the pool: a pgbouncer in transaction mode, reached with psycopg."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING

from pool_exporter_lab.drill.crowds import browsers, in_waves
from pool_exporter_lab.drill.scale import minutes
from pool_exporter_lab.drill.scenario import (
    DATABASE_UNREACHABLE,
    EXHAUSTED_BY_LOAD,
    PRE_PING_COST,
    SLOW_USES,
    STALE_CONNECTIONS,
    STALE_MINUTES,
    STUCK,
    TIMEOUTS,
    Scenario,
    fault,
)
from pool_exporter_lab.drill.verdict import PAGE

if TYPE_CHECKING:
    from pool_exporter_lab.drill.stage import Stage

_WARM_UP_MINUTES = 5
_UNPREPARED: Mapping[str, float | bool | str | None] = {"prepare_threshold": None}
"""In transaction mode a prepared statement may be on another connection."""


async def server_pool_full(stage: Stage) -> None:
    """Hold all of pgbouncer's server connections from elsewhere."""
    bouncer, url = await stage.pgbouncer(default_pool_size=2, query_wait_timeout=0)
    application = await stage.application(url, connect=_UNPREPARED, pool_pre_ping=False)
    await stage.load(application, browsers(14))
    await stage.minutes(_WARM_UP_MINUTES)
    stage.begin()
    for _ in range(2):
        holder = await stage.stack.enter_async_context(bouncer.client(stage.name))
        await asyncio.wait_for(holder.execute("begin"), minutes(10))
        await asyncio.wait_for(holder.execute("select 1"), minutes(10))


async def paused(stage: Stage) -> None:
    """PAUSE pgbouncer, and forget to RESUME."""
    bouncer, url = await stage.pgbouncer(default_pool_size=20, query_wait_timeout=0)
    application = await stage.application(url, connect=_UNPREPARED)
    await stage.load(application, browsers(14))
    await stage.minutes(_WARM_UP_MINUTES)
    stage.begin()
    await asyncio.wait_for(bouncer.pause(), minutes(10))


async def client_idle_timeout(stage: Stage) -> None:
    """Let pgbouncer cut clients that are idle for half a minute."""
    _, url = await stage.pgbouncer(default_pool_size=20, client_idle_timeout=minutes(0.5))
    application = await stage.application(url, connect=_UNPREPARED)
    stage.begin()
    await stage.load(application, in_waves(5))


BEHIND = "behind the pool"
"""What is to be said: that the time goes by neither in the application nor in its pool."""
_WAITS_BEHIND = {PAGE: (BEHIND,), STUCK: (BEHIND,), SLOW_USES: (BEHIND,)}
_BEFORE_STUCK = "until it is sure that nothing comes back, the pool is full of work and callers time out; then these are muted"

POOLER: Mapping[str, Scenario] = {
    "pgbouncer-full": fault(
        "others hold all server connections of pgbouncer: statements wait behind the pool",
        server_pool_full,
        *(STUCK, SLOW_USES),
        also=(TIMEOUTS, EXHAUSTED_BY_LOAD),
        because=_BEFORE_STUCK,
        says=("full_slow",),
        tells=_WAITS_BEHIND,
        programs=("pgbouncer",),
    ),
    "pgbouncer-paused": fault(
        "pgbouncer is paused: statements and pings wait behind the pool",
        paused,
        *(DATABASE_UNREACHABLE, SLOW_USES),
        also=(STUCK, TIMEOUTS, EXHAUSTED_BY_LOAD),
        because="what holds a connection is stuck, and who wants one is; the cause mutes these",
        says=("full_slow", "full_connecting"),
        tells={PAGE: (BEHIND,), DATABASE_UNREACHABLE: (BEHIND,), SLOW_USES: (BEHIND,)},
        programs=("pgbouncer",),
    ),
    "pgbouncer-idle-cut": fault(
        "pgbouncer cuts idle clients by its client_idle_timeout",
        client_idle_timeout,
        STALE_CONNECTIONS,
        also=(PRE_PING_COST,),
        because="through pgbouncer a ping may take as long as the short statements do",
        tells={STALE_CONNECTIONS: (BEHIND,)},
        programs=("pgbouncer",),
        detection_minutes=STALE_MINUTES,
    ),
}
