"""Play the leaks: connections that are kept, dropped, or waited with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from pool_exporter_lab.drill.crowds import browsers, crowd
from pool_exporter_lab.drill.scale import minutes
from pool_exporter_lab.drill.scenario import (
    EXHAUSTED_BY_LEAK,
    LEAK_COLLECTED,
    LEAK_IDLE,
    STUCK,
    TIMEOUTS,
    Scenario,
    fault,
)

if TYPE_CHECKING:
    from pool_exporter_lab.drill.stage import Stage

_WARM_UP_MINUTES = 5
_LONG_MINUTES = 120
"""Longer than any scenario."""


async def slow_leak(stage: Stage) -> None:
    """Leak a connection now and then; the pool does not fill."""
    application = await stage.application(pool_size=20, max_overflow=20)
    await stage.load(application, browsers())
    await stage.minutes(_WARM_UP_MINUTES)
    stage.begin()
    stage.often(lambda: application.post("/leak"), seconds=lambda: stage.dice.uniform(2.0, 3.0))


async def fast_leak(stage: Stage) -> None:
    """Leak several connections a second, until nothing is left."""
    application = await stage.application()
    await stage.load(application, browsers())
    await stage.minutes(_WARM_UP_MINUTES)
    stage.begin()
    stage.often(lambda: application.post("/leak"), seconds=lambda: stage.dice.uniform(0.2, 0.4))


async def one_leak(stage: Stage) -> None:
    """Leak one connection of a busy pool."""
    application = await stage.application(pool_size=10, max_overflow=10)
    await stage.load(application, browsers(16, statements=(0.02, 0.05, 0.1)))
    await stage.minutes(_WARM_UP_MINUTES)
    stage.begin()
    await application.post("/leak")


async def cancelled_leak(stage: Stage) -> None:
    """Cancel work that has no `finally`, again and again."""
    application = await stage.application(pool_size=20, max_overflow=20)
    await stage.load(application, browsers())
    await stage.minutes(_WARM_UP_MINUTES)
    stage.begin()
    stage.often(lambda: application.post("/leak-cancelled"), seconds=lambda: stage.dice.uniform(1.5, 2.5))


async def dropped(stage: Stage) -> None:
    """Drop connections without close()."""
    application = await stage.application(collects=True)
    await stage.load(application, browsers())
    await stage.minutes(_WARM_UP_MINUTES)
    stage.begin()
    stage.often(lambda: application.post("/drop"), seconds=lambda: stage.dice.uniform(0.5, 1.0))


async def idle_in_transaction(stage: Stage) -> None:
    """Ask another service, which has become slow, while a transaction is open."""
    application = await stage.application()
    await stage.load(application, browsers())
    await stage.minutes(_WARM_UP_MINUTES)
    stage.begin()
    await stage.load(application, crowd(3, f"/call?seconds={minutes(_LONG_MINUTES):g}"))


async def dependency_under_stream(stage: Stage) -> None:
    """Stream to more clients than there are connections, each of which an authentication keeps."""
    application = await stage.application()
    await stage.load(application, browsers())
    await stage.minutes(_WARM_UP_MINUTES)
    stage.begin()
    await stage.load(
        application,
        crowd(14, f"/chat?seconds={minutes(20):g}", active=lambda seconds: 1 + int(seconds / 0.3)),
    )


async def leak_short_timeout(stage: Stage) -> None:
    """Leak the whole pool of an application with little to do, whose callers give up after four seconds.

    Most scrapes see nobody queue, though nobody gets a connection.
    """
    application = await stage.application(pool_timeout=minutes(4 / 60))
    stage.often(lambda: application.get("/work"), seconds=lambda: stage.dice.uniform(0.5, 0.8))
    await stage.minutes(_WARM_UP_MINUTES)
    stage.begin()
    await application.post("/leak?times=10")


async def leaking_worker(stage: Stage) -> None:
    """Leak the whole pool of one worker of four, while the others are at work.

    What is leaked is less than half of what is used. Each request is a connection of its own, so that all workers
    get their part.
    """
    application = await stage.application(workers=4)
    await stage.load(application, browsers(8))
    await stage.minutes(_WARM_UP_MINUTES)
    stage.begin()
    await application.post("/leak?times=10")
    for _ in range(52):
        stage.often(
            lambda: application.get("/work?seconds=0.5"), seconds=lambda: stage.dice.expovariate(10.0)
        )


async def orphaned(stage: Stage) -> None:
    """Dispose of the pool while connections are out that never come back."""
    application = await stage.application(connect={"command_timeout": 3600})
    await stage.load(application, browsers())
    await stage.minutes(_WARM_UP_MINUTES)
    for _ in range(2):
        await application.post("/leak")
    stage.begin()
    await application.post("/dispose")


_STUCK_TOO = "before the pool is full for good its leak may be seen and callers may time out; afterwards these are muted"

LEAKS: Mapping[str, Scenario] = {
    "slow-leak": fault(
        "a route forgets a connection now and then; the pool is far from full", slow_leak, LEAK_IDLE
    ),
    "fast-leak": fault(
        "a route forgets several connections a second, until the pool is full",
        fast_leak,
        EXHAUSTED_BY_LEAK,
        also=(LEAK_IDLE, TIMEOUTS, STUCK),
        because=_STUCK_TOO,
    ),
    "one-leak": fault("one connection is forgotten in a busy pool", one_leak, LEAK_IDLE),
    "cancelled-leak": fault(
        "work that is cancelled keeps its connection, for want of a finally", cancelled_leak, LEAK_IDLE
    ),
    "dropped": fault(
        "connections are dropped without close(), and the garbage collector takes them",
        dropped,
        LEAK_COLLECTED,
    ),
    "idle-in-transaction": fault(
        "requests wait for another service with a transaction open", idle_in_transaction, LEAK_IDLE
    ),
    "dependency-under-stream": fault(
        "an authentication dependency keeps its session while the response streams",
        dependency_under_stream,
        EXHAUSTED_BY_LEAK,
        also=(LEAK_IDLE, TIMEOUTS, STUCK),
        because=_STUCK_TOO,
    ),
    "leak-short-timeout": fault(
        "a quiet pool is leaked whole, and its callers give up after four seconds",
        leak_short_timeout,
        EXHAUSTED_BY_LEAK,
        also=(LEAK_IDLE, TIMEOUTS, STUCK),
        because=_STUCK_TOO,
    ),
    "leaking-worker": fault(
        "one of four workers behind a port has leaked its pool, the others are at work",
        leaking_worker,
        EXHAUSTED_BY_LEAK,
        also=(LEAK_IDLE, TIMEOUTS, STUCK),
        because=_STUCK_TOO,
    ),
    "orphaned": fault("a dispose leaves connections behind that never come back", orphaned, LEAK_IDLE),
}
