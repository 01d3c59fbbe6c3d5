"""Play what goes wrong with limits, slots and the numbers themselves, each beside its innocent neighbour."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from pool_exporter_lab.drill.crowds import browsers, crowd
from pool_exporter_lab.drill.scale import minutes
from pool_exporter_lab.drill.scenario import (
    CAPACITY_ABOVE_DATABASE,
    SLOTS_LOST,
    TELEMETRY_ERRORS,
    Scenario,
    fault,
    innocent,
)

if TYPE_CHECKING:
    from pool_exporter_lab.drill.running import Application
    from pool_exporter_lab.drill.stage import Stage

_WARM_UP_MINUTES = 5
_SHOW_MINUTES = 20
_FOR_GOOD = 1_000_000
_EXPORTER = ("prometheus-postgres-exporter",)


async def _two_instances(stage: Stage, most: int) -> None:
    """Serve from one instance, then from two, whose pools may each open so many of 1,000 connections.

    The rule asks every server for the smallest limit that is exported, so it has to be large enough for all others.
    """
    server = await stage.own_server("max_connections=1000")
    await stage.export(server)

    async def one_more() -> None:
        half = most // 2
        application = await stage.application(server.url(), pool_size=half, max_overflow=half)
        await stage.load(application, browsers())

    await one_more()
    await stage.minutes(_WARM_UP_MINUTES)
    stage.begin()
    await one_more()


async def too_many(stage: Stage) -> None:
    """Scale out until the pools may open more connections than their server allows."""
    await _two_instances(stage, 600)


async def enough(stage: Stage) -> None:
    """Scale out within what the server allows."""
    await _two_instances(stage, 440)
    await stage.minutes(_SHOW_MINUTES)


async def _fallible(stage: Stage) -> Application:
    application = await stage.application(fallible=True)
    await stage.load(application, browsers())
    await stage.minutes(_WARM_UP_MINUTES)
    stage.begin()
    return application


async def slots_lost(stage: Stage) -> None:
    """Let the application's own listener raise while two connections come back."""
    application = await _fallible(stage)
    await application.post("/fail?part=checkin&times=2")


async def refusing_listener(stage: Stage) -> None:
    """Let the application's own listener refuse a connection now and then, as it may.

    That is fewer than one of a hundred acquires: more would be what FailedAcquires is there to tell.
    """
    application = await _fallible(stage)
    stage.often(
        lambda: application.post("/fail?part=checkout&times=1"), seconds=lambda: stage.dice.uniform(8.0, 12.0)
    )
    await stage.minutes(_SHOW_MINUTES)


_SLOW_CALL = f"/call?seconds={minutes(3):g}"
"""Three times as long as a transaction may idle: each is reported in the log, and so is that it ended well."""


async def telemetry_errors(stage: Stage) -> None:
    """Let the application's log filter raise at what is reported of slow calls."""
    application = await _fallible(stage)
    await application.post(f"/fail?part=log&times={_FOR_GOOD}")
    await stage.load(application, crowd(1, _SLOW_CALL))


async def slow_calls(stage: Stage) -> None:
    """Call a slow service with a transaction open, again and again, and give back each time."""
    application = await _fallible(stage)
    await stage.load(application, crowd(1, _SLOW_CALL))
    await stage.minutes(_SHOW_MINUTES)


BOOKKEEPING: Mapping[str, Scenario] = {
    "too-many-instances": fault(
        "one instance more, and the pools may open more connections than the server allows",
        too_many,
        CAPACITY_ABOVE_DATABASE,
        programs=_EXPORTER,
    ),
    "slots-lost": fault(
        "a listener of the application's raises while connections come back", slots_lost, SLOTS_LOST
    ),
    "telemetry-errors": fault(
        "a log filter of the application's raises at this library's reports",
        telemetry_errors,
        TELEMETRY_ERRORS,
    ),
}
NEIGHBOURS: Mapping[str, Scenario] = {
    "enough-instances": innocent(
        "one instance more, and the server has connections for all", enough, programs=_EXPORTER
    ),
    "refusing-listener": innocent(
        "a listener of the application's refuses a connection now and then", refusing_listener
    ),
    "slow-calls": innocent(
        "calls keep a transaction open for three minutes each, and give it back", slow_calls
    ),
}
"""What resembles each of these faults and is none."""
