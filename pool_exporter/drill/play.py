"""Play one scenario and see what fires: wait for what is to come, then for what is not."""

from __future__ import annotations

import asyncio
import contextlib
import time

from pool_exporter.drill.asking import Unanswered
from pool_exporter.drill.outcome import Outcome
from pool_exporter.drill.scale import minutes
from pool_exporter.drill.scenario import Scenario
from pool_exporter.drill.stage import Servers, Stage
from pool_exporter.drill.verdict import first_firings, muted
from pool_exporter.vocabularies import VOCABULARIES

DETECTION_MINUTES = 120
"""How long an expected alert may take, in minutes of production."""
SETTLING_MINUTES = 10
"""How long the drill goes on afterwards, to see what else fires; likewise."""
_DELIVERY_SECONDS = 5.0
_WORDS = VOCABULARIES["prometheus"]


async def play(name: str, scenario: Scenario, seed: int, servers: Servers) -> Outcome:
    """Return what came of a scenario; a failure of the drill itself is an outcome too."""
    start = time.monotonic()
    try:
        async with contextlib.AsyncExitStack() as stack:
            stack.callback(servers.prometheus.scrape, name, [])
            stage = Stage(name, seed, servers, stack)
            return await _watched(stage, scenario, seed, start)
    except Exception as error:  # whatever it is, the other scenarios go on, and this one has failed
        return Outcome(
            name, scenario, seed, time.monotonic() - start, error=f"{type(error).__name__}: {error}"
        )


async def _watched(stage: Stage, scenario: Scenario, seed: int, start: float) -> Outcome:
    receiver, expected = stage.servers.receiver, scenario.expectation.alerts
    await scenario.play(stage)

    def detected() -> bool:
        return expected <= {firing.alert for firing in first_firings(receiver.notices, stage.name, 0.0)}

    await receiver.until(detected, minutes(DETECTION_MINUTES))
    said = await _said(stage)
    await stage.minutes(SETTLING_MINUTES)
    fired = await _fired_in_prometheus(stage, time.monotonic() - start)

    def delivered() -> bool:
        return fired - muted(fired, stage.servers.mutes) <= {
            firing.alert for firing in first_firings(receiver.notices, stage.name, 0.0)
        }

    undelivered: set[str] = set()
    if not await receiver.until(delivered, _DELIVERY_SECONDS):
        came = {firing.alert for firing in first_firings(receiver.notices, stage.name, 0.0)}
        undelivered = fired - came - muted(fired, stage.servers.mutes)
    job, window = f'job="{stage.name}"', f"[{round(time.monotonic() - start) + 1}s]"
    acquires, pending = _WORDS.metric("acquires_total"), _WORDS.metric("pending_requests")
    return Outcome(
        name=stage.name,
        scenario=scenario,
        seed=seed,
        seconds=time.monotonic() - start,
        firings=first_firings(receiver.notices, stage.name, stage.began),
        undelivered=sorted(undelivered),
        said=said,
        acquires=await _number(stage, f"sum(max_over_time({acquires}{{{job}}}{window}))"),
        peak_queued=await _number(stage, f'max(max_over_time({pending}{{{job},phase="queued"}}{window}))'),
        lost_scrapes=await _number(stage, f"1 - avg(avg_over_time(up{{{job}}}{window}))"),
    )


async def _said(stage: Stage) -> tuple[str, str] | None:
    try:
        return await stage.applications[0].says()
    except (Unanswered, IndexError):
        return None


async def _fired_in_prometheus(stage: Stage, seconds: float) -> set[str]:
    query = f'max_over_time(ALERTS{{alertstate="firing",job="{stage.name}"}}[{round(seconds) + 1}s])'
    return {labels["alertname"] for labels, _ in await stage.servers.prometheus.query(query)}


async def _number(stage: Stage, expression: str) -> float:
    """Return the value of an expression of one series, 0 if there is none."""
    found = await stage.servers.prometheus.query(expression)
    return found[0][1] if found else 0.0


async def play_all(
    scenarios: dict[str, Scenario], seed: int, servers: Servers, jobs: int, done: asyncio.Queue[Outcome]
) -> list[Outcome]:
    """Play scenarios, so many at a time; put each outcome into `done` as it comes, and return all."""
    turns = asyncio.Semaphore(jobs)

    async def one(name: str, scenario: Scenario) -> Outcome:
        async with turns:
            outcome = await play(name, scenario, seed, servers)
        done.put_nowait(outcome)
        return outcome

    return list(await asyncio.gather(*(one(name, scenario) for name, scenario in scenarios.items())))
