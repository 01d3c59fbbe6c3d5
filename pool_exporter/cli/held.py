"""Define the subcommand `held`: who holds the connections of a running process."""

from __future__ import annotations

import argparse
import json
import sys

from pool_exporter.cli.fetch import add_fetching_arguments, fetch
from pool_exporter.cli.printing import aligned, state_of, write_line
from pool_exporter.cli.status_json import Pool, pools_of
from pool_exporter.records import HeldConnection
from pool_exporter.serving.status.holders import where
from pool_exporter.support.text import humanised, visible

HELP = "print who holds the connections of a running process"
DESCRIPTION = (
    "Ask a process for its status page (status_app()) and print, for each pool, the verdict and who holds its "
    "connections, the oldest first. Exit code 2 and one line on stderr if the page cannot be had."
)
_HEADINGS = ("OWNER", "AGE", "QUIET", "STATE", "ACQUIRED IN", "TASK", "NOW IN", "PID", "PORT", "TRACE")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the subcommand's arguments."""
    add_fetching_arguments(parser)
    parser.add_argument(
        "--json", action="store_true", help="print name, verdict and holders of each pool as JSON"
    )


def execute(arguments: argparse.Namespace) -> int:
    """Print the holders and return the exit code; raise `CommandError` if they cannot be had."""
    document = fetch(arguments.url, token_env=arguments.token_env, timeout_seconds=arguments.timeout)
    pools = pools_of(document, visible(arguments.url))
    if arguments.json:
        chosen = [{key: pool.raw.get(key) for key in ("name", "verdict", "held")} for pool in pools]
        write_line(json.dumps({"pools": chosen}, indent=2), sys.stdout)
        return 0
    if not pools:
        write_line(
            "no pool: that process has no instrumented engine; it needs instrument(engine)", sys.stdout
        )
    for number, pool in enumerate(pools):
        for line in ([""] if number else []) + _lines(pool):
            write_line(line, sys.stdout)
    return 0


def _lines(pool: Pool) -> list[str]:
    title = f"{visible(pool.name)}: {visible(pool.verdict, 400)}"
    return [title, *(aligned(_HEADINGS, [_row(one) for one in pool.held]) if pool.held else [])]


def _row(held: HeldConnection) -> tuple[str, ...]:
    return (
        held.owner,
        humanised(held.age_seconds),
        humanised(held.quiet_seconds),
        state_of(held),
        where(held) or "-",
        held.task_name or "-",
        held.stack[-1] if held.stack else "-",
        "-" if held.backend_pid is None else str(held.backend_pid),
        "-" if held.local_port is None else str(held.local_port),
        held.trace_id or "-",
    )
