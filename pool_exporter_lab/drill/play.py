"""Play one scenario and see what fires: wait for what is to come, then for what is not."""

from __future__ import annotations

import asyncio
import contextlib
import time

from pool_exporter.catalogue.vocabularies import VOCABULARIES
from pool_exporter_lab.drill.aftermath import Aftermath
from pool_exporter_lab.drill.asking import Unanswered
from pool_exporter_lab.drill.outcome import Outcome
from pool_exporter_lab.drill.scenario import Scenario
from pool_exporter_lab.drill.stage import Servers, Stage
from pool_exporter_lab.drill.watch import Watch

SETTLING_MINUTES = 10
"""How long the drill goes on after detection, in minutes of production, to see what else fires."""
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
    watch = Watch(stage, start)
    await scenario.play(stage)
    expectation = scenario.expectation
    await watch.until_told_of(expectation.alerts, scenario.detection_minutes)
    undelivered = await watch.untold()
    said = await _said(stage)
    if expectation.ends and not undelivered:
        await watch.until_over(expectation.alerts, scenario.detection_minutes)
    if not undelivered:
        await stage.minutes(SETTLING_MINUTES)
        undelivered = await watch.untold()
    job, window = f'job="{stage.name}"', watch.window
    acquires, pending = _WORDS.metric("acquires_total"), _WORDS.metric("pending_requests")
    return Outcome(
        name=stage.name,
        scenario=scenario,
        seed=seed,
        seconds=time.monotonic() - start,
        firings=watch.firings(),
        undelivered=undelivered,
        receiver=stage.servers.receiver.described,
        said=said,
        aftermath=watch.aftermath(expectation.alerts) if expectation.ends else Aftermath(),
        acquires=await watch.number(f"sum(max_over_time({acquires}{{{job}}}{window}))"),
        peak_queued=await watch.number(f'max(max_over_time({pending}{{{job},phase="queued"}}{window}))'),
        lost_scrapes=await watch.number(f"1 - avg(avg_over_time(up{{{job}}}{window}))"),
    )


async def _said(stage: Stage) -> tuple[str, str] | None:
    try:
        return await stage.applications[0].says()
    except (Unanswered, IndexError):
        return None


async def play_all(
    scenarios: dict[str, Scenario], seed: int, servers: Servers, jobs: int, done: asyncio.Queue[Outcome]
) -> list[Outcome]:
    """Play scenarios, so many at a time; put each outcome into `done` as it comes, and return all in their order."""
    turns = asyncio.Semaphore(jobs)

    async def one(name: str) -> Outcome:
        async with turns:
            outcome = await play(name, scenarios[name], seed, servers)
        done.put_nowait(outcome)
        return outcome

    # What takes longest begins first, so that nothing is left to wait for at the end.
    order = sorted(scenarios, key=lambda name: -scenarios[name].detection_minutes)
    outcomes = await asyncio.gather(*(one(name) for name in order))
    by_name = {outcome.name: outcome for outcome in outcomes}
    return [by_name[name] for name in scenarios]
