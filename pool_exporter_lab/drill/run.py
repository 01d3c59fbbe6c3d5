"""Wire the drills: the servers that all share, the scenarios, the report; take all of it down again."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from pool_exporter.monitoring.rules import RuleOptions, rendered, rendered_inhibition
from pool_exporter.monitoring.rules.alert import PREFIX
from pool_exporter.monitoring.rules.inhibition import MUTES
from pool_exporter_lab.demo.database import temporary_directory
from pool_exporter_lab.demo.errors import DemoError
from pool_exporter_lab.demo.signals import until_signal
from pool_exporter_lab.drill.errors import DrillError
from pool_exporter_lab.drill.monitoring import alertmanager, prometheus
from pool_exporter_lab.drill.outcome import Outcome
from pool_exporter_lab.drill.play import play_all
from pool_exporter_lab.drill.postgresql import server
from pool_exporter_lab.drill.processes import free_port
from pool_exporter_lab.drill.programs import ALWAYS, check_prometheus, find_programs
from pool_exporter_lab.drill.progress import Progress
from pool_exporter_lab.drill.report import Circumstances, introduction, print_json, summary, text
from pool_exporter_lab.drill.scale import FACTOR
from pool_exporter_lab.drill.scenario import Scenario
from pool_exporter_lab.drill.stage import Servers
from pool_exporter_lab.drill.webhook import receiving, url_of

RULES = RuleOptions(time_scale=FACTOR)


@dataclass(frozen=True, slots=True)
class Options:
    """Hold what the command line says; a port of 0 is any free one."""

    scenarios: Mapping[str, Scenario]
    seed: int
    jobs: int
    as_json: bool
    prometheus_port: int
    alertmanager_port: int


def run(options: Options, output: TextIO, progress: Progress) -> int:
    """Run the drills and return the exit code: 0 if all went as expected, 1 if not, or 128 + the signal.

    The outcomes go to `output`, and what goes on meanwhile to `progress`.

    Nothing is left behind either way. Raises `DrillError` if they cannot run.
    """
    needed = [*ALWAYS, *(name for one in options.scenarios.values() for name in one.programs)]
    programs = find_programs(dict.fromkeys(needed))
    version = check_prometheus(programs["prometheus"])
    free_port(options.prometheus_port, argument="prometheus-port")
    free_port(options.alertmanager_port, argument="alertmanager-port")
    circumstances = Circumstances(version, options.seed, options.jobs)
    progress.begin(options.scenarios, options.jobs)
    try:
        return asyncio.run(until_signal(_drill(options, programs, circumstances, output, progress)))
    except DemoError as error:
        raise DrillError(str(error)) from error


async def _drill(
    options: Options,
    programs: Mapping[str, Path],
    circumstances: Circumstances,
    output: TextIO,
    progress: Progress,
) -> int:
    """Run everything, innermost last; the stack takes it down in the opposite order."""
    async with contextlib.AsyncExitStack() as stack:
        servers = await _servers(options, programs, progress, stack)
        if not options.as_json:
            print(introduction(circumstances), file=output, flush=True)
        done: asyncio.Queue[Outcome] = asyncio.Queue()
        playing = asyncio.create_task(
            play_all(dict(options.scenarios), options.seed, servers, options.jobs, done)
        )
        try:
            for _ in options.scenarios:
                outcome = await done.get()
                if options.as_json:
                    progress.done(outcome)
                else:
                    print(text(outcome), file=output, flush=True)
            outcomes = await playing
        finally:
            playing.cancel()
            await asyncio.gather(playing, return_exceptions=True)
    if options.as_json:
        print_json(outcomes, circumstances, output)
    else:
        print(summary(outcomes), file=output)
    return 1 if any(outcome.problems for outcome in outcomes) else 0


async def _servers(
    options: Options, programs: Mapping[str, Path], progress: Progress, stack: contextlib.AsyncExitStack
) -> Servers:
    directory = stack.enter_context(temporary_directory())
    receiver = await stack.enter_async_context(receiving())
    port = await stack.enter_async_context(
        alertmanager(
            programs["prometheus-alertmanager"],
            directory,
            url_of(receiver),
            rendered_inhibition(RULES),
            port=options.alertmanager_port,
        )
    )
    return Servers(
        programs=programs,
        directory=directory,
        postgresql=await stack.enter_async_context(server()),
        prometheus=await stack.enter_async_context(
            prometheus(
                programs["prometheus"],
                directory,
                {which: rendered(RULES, which=which) for which in ("default", "opt-in")},
                port,
                options.prometheus_port,
            )
        ),
        receiver=receiver,
        tell=progress.tell,
        mutes={PREFIX + cause: [PREFIX + one for one in symptoms] for cause, symptoms in MUTES.items()},
    )
