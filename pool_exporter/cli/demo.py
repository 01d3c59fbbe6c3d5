"""Define the subcommand `demo`: its arguments, and what it says when it cannot run."""

from __future__ import annotations

import argparse
import importlib.util
import math
import sys
import textwrap

from pool_exporter.cli.ports import port
from pool_exporter.instrumentation.options import checked_name
from pool_exporter.support.environment import DISABLING_VARIABLE, disabled
from pool_exporter_lab.demo.errors import DemoError
from pool_exporter_lab.demo.moment import POOL
from pool_exporter_lab.demo.scenarios import DEFAULT, POLICY, SCENARIOS

HELP = "see a pool fill, queue, time out and leak, and who did it"
DESCRIPTION = textwrap.fill(
    "Run a small web application on its own database, show what its connection pool does and who holds "
    "it, and serve /metrics on 127.0.0.1. The database lives in a temporary directory. Ctrl-C (exit code "
    "130) or SIGTERM (143) ends it; no process and no file is left behind.",
    width=79,
)
DEFAULT_PORT = 8000

_NEEDED = {
    "postgresql": ("greenlet", "starlette", "uvicorn", "asyncpg"),
    "sqlite": ("greenlet", "starlette", "uvicorn", "aiosqlite"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the subcommand's arguments."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter  # one line a scenario
    parser.epilog = _scenarios()
    parser.add_argument(
        "--scenario",
        choices=tuple(SCENARIOS),
        default=DEFAULT,
        help="what happens to the pool, see below (default: %(default)s)",
    )
    parser.add_argument(
        "--port",
        type=port,
        default=DEFAULT_PORT,
        help="where /metrics is served on 127.0.0.1, 0 for any free port (default: %(default)s)",
    )
    parser.add_argument(
        "--database",
        choices=tuple(_NEEDED),
        default="postgresql",
        help="what to run on; both come along (default: %(default)s)",
    )
    parser.add_argument(
        "--seconds", type=_seconds, metavar="N", help="end by itself after so many seconds of load"
    )
    parser.add_argument(
        "--json",
        action="store_true",
        help="print one JSON object at the end and nothing before it; needs --seconds",
    )
    parser.add_argument(
        "--seed",
        type=int,
        default=1,
        metavar="N",
        help="of the load: with the same one, each client sends the same requests (default: %(default)s)",
    )
    parser.add_argument(
        "--pool",
        type=_pool,
        default=POOL,
        metavar="NAME",
        help="what the pool is called (default: %(default)s)",
    )


def execute(arguments: argparse.Namespace) -> int:
    """Run the demo and return the exit code; say on stderr why it cannot run."""
    try:
        return _run(arguments)
    except DemoError as error:
        print(f"pool-exporter demo: error: {error}", file=sys.stderr)
        return error.exit_code


def _scenarios() -> str:
    """Return the scenarios, a line each."""
    width = max(map(len, SCENARIOS))
    return "\n".join(
        [
            "scenarios:",
            *(f"  {name:{width}}  {scenario.phrase}" for name, scenario in SCENARIOS.items()),
            "",
            f"A connection is overdue after {POLICY.idle_seconds:g} s in which nothing is done with it, and",
            f"after {POLICY.busy_seconds:g} s in one statement; who holds such a one is named with function,",
            "file and line.",
        ]
    )


def _run(arguments: argparse.Namespace) -> int:
    if arguments.json and arguments.seconds is None:
        raise DemoError("argument --json: needs --seconds N, to know when to end", exit_code=2)
    if SCENARIOS[arguments.scenario].needs_postgresql and arguments.database != "postgresql":
        raise DemoError(
            f"argument --scenario: {arguments.scenario} needs PostgreSQL, whose statements can sleep; leave out "
            f"--database {arguments.database}, or name another scenario",
            exit_code=2,
        )
    if disabled():
        raise DemoError(f"{DISABLING_VARIABLE} is set, so there would be nothing to show; unset it")
    missing = [name for name in _NEEDED[arguments.database] if importlib.util.find_spec(name) is None]
    if missing:
        raise DemoError(f'{", ".join(missing)} not installed; pip install "pool_exporter[demo]"')
    from pool_exporter_lab.demo.run import Options, run  # noqa: PLC0415 - it imports what an extra brings

    options = Options(
        scenario=arguments.scenario,
        database=arguments.database,
        port=arguments.port,
        seconds=arguments.seconds,
        as_json=arguments.json,
        seed=arguments.seed,
        pool=arguments.pool,
    )
    return run(options, sys.stdout)


def _pool(text: str) -> str:
    try:
        checked_name(text, "the name")
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return text


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not (math.isfinite(seconds) and seconds > 0):
        raise argparse.ArgumentTypeError(f"{text!r}: give a finite number of seconds above 0, such as 20")
    return seconds
