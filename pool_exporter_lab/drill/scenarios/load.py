"""Play what fills a pool without a leak: load, slow statements, locks, and waiters that nobody wakes."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING

from pool_exporter_lab.drill.crowds import browsers, crowd
from pool_exporter_lab.drill.scale import minutes
from pool_exporter_lab.drill.scenario import (
    EXHAUSTED_BY_LOAD,
    SLOW_USES,
    STRANDED_WAITERS,
    STUCK,
    TIMEOUTS,
    Scenario,
    fault,
)

if TYPE_CHECKING:
    from pool_exporter_lab.drill.stage import Stage

_WARM_UP_MINUTES = 5


async def exhausted_by_load(stage: Stage) -> None:
    """Send four times the clients that the pool has connections for."""
    application = await stage.application()
    await stage.load(application, browsers())
    await stage.minutes(_WARM_UP_MINUTES)
    stage.begin()
    await stage.load(application, crowd(40, "/work?seconds=0.3", "/work?seconds=0.5", pause=0.1))


async def short_stream(stage: Stage) -> None:
    """Stream for about 45 seconds to more clients than there are connections, each of which an authentication keeps.

    No use of it is ever overdue, so the rules cannot call it a leak; they must not call it innocent either.
    """
    application = await stage.application()
    await stage.load(application, browsers())
    await stage.minutes(_WARM_UP_MINUTES)
    stage.begin()
    streams = (f"/chat?seconds={minutes(seconds / 60):g}" for seconds in (40, 45, 50))
    await stage.load(application, crowd(14, *streams))


async def slow_statement(stage: Stage) -> None:
    """Send statements that have lost their index: six to nine minutes each."""
    application = await stage.application()
    await stage.load(application, browsers())
    await stage.minutes(_WARM_UP_MINUTES)
    stage.begin()
    slow = (f"/work?seconds={minutes(number):g}" for number in (6, 7, 8, 9))
    await stage.load(application, crowd(16, *slow, active=lambda seconds: 1 + int(seconds / 0.9)))


async def lock_pile_up(stage: Stage) -> None:
    """Lock the row that everybody updates, from a session outside of the pool."""
    url = await stage.url()
    server = stage.servers.postgresql
    await server.execute(
        "create table counters (id int primary key, value int); insert into counters values (1, 0)",
        stage.name,
    )
    application = await stage.application(url)
    await stage.load(application, browsers(), crowd(2, "/update"))
    await stage.minutes(_WARM_UP_MINUTES)
    stage.begin()
    held = asyncio.Event()

    async def hold() -> None:
        async with server.observer(stage.name) as connection:
            await connection.execute("begin; update counters set value = 0 where id = 1")
            held.set()
            await asyncio.Event().wait()

    stage.background(asyncio.create_task(hold()))
    await held.wait()
    await stage.load(application, crowd(14, "/update"))


async def stranded_waiters(stage: Stage) -> None:
    """Make connecting slow, and let callers give up meanwhile, while others queue."""
    proxy, url = await stage.proxy()
    application = await stage.application(
        url, pool_size=1, max_overflow=1, pool_timeout=minutes(2), pool_pre_ping=False
    )
    await stage.load(application, browsers(3, statements=(0.02, 0.05)))
    await stage.minutes(_WARM_UP_MINUTES)
    stage.begin()
    proxy.connect_delay_seconds = 0.4
    await stage.load(application, crowd(2, "/impatient?seconds=0.2", pause=0.05))


_BEFORE_STUCK = "until it is sure that nothing comes back, the pool is full of work and callers time out; then these are muted"

LOAD: Mapping[str, Scenario] = {
    "exhausted-by-load": fault(
        "four times as many honest callers as connections",
        exhausted_by_load,
        EXHAUSTED_BY_LOAD,
        also=(TIMEOUTS,),
        because="callers time out, which is the budget that Timeouts watches",
    ),
    "short-stream": fault(
        "sessions are kept for about 45 seconds each while a response streams",
        short_stream,
        EXHAUSTED_BY_LOAD,
        also=(TIMEOUTS,),
        because="callers time out, which is the budget that Timeouts watches",
        tells={EXHAUSTED_BY_LOAD: ("GET /chat", "Longest without activity: 127.0.0.1:")},
        denies={EXHAUSTED_BY_LOAD: ("not a leak",)},
    ),
    "slow-statement": fault(
        "statements that have become very slow fill the pool",
        slow_statement,
        *(EXHAUSTED_BY_LOAD, SLOW_USES),
        also=(TIMEOUTS,),
        because="callers time out, which is the budget that Timeouts watches",
        says=("full_load", "full_slow"),
    ),
    "lock-pile-up": fault(
        "a session outside of the pool locks the row that all callers update",
        lock_pile_up,
        *(STUCK, SLOW_USES),
        also=(TIMEOUTS, EXHAUSTED_BY_LOAD),
        because=_BEFORE_STUCK,
        says=("full_slow",),
    ),
    "stranded-waiters": fault(
        "callers give up while they connect, and SQLAlchemy does not wake those who queue",
        stranded_waiters,
        STRANDED_WAITERS,
        also=(TIMEOUTS, EXHAUSTED_BY_LOAD),
        because="meanwhile a pool of two is full in turns, and callers do queue and time out",
    ),
}
