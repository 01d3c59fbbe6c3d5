"""Define the subcommand `who`: whose a backend is, by its pid or its client port."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator

from pool_exporter.cli.errors import CommandError
from pool_exporter.cli.fetch import add_fetching_arguments, fetch
from pool_exporter.cli.printing import state_of, write_line
from pool_exporter.cli.status_json import Pool, pools_of
from pool_exporter.records import HeldConnection
from pool_exporter.support.text import humanised, visible

HELP = "tell whose a database backend is, by its pid or its client port"
DESCRIPTION = (
    "Ask a process for its status page (status_app()) and print every holder whose connection has this number: "
    "the server's id of it (pid in PostgreSQL's pg_stat_activity, MySQL's thread id), or the client's TCP port "
    "(client_port there; port in PgBouncer's SHOW CLIENTS). Exit code 1 if there is none, 2 if the page cannot "
    "be had."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the subcommand's arguments."""
    add_fetching_arguments(parser)
    parser.add_argument(
        "number", type=_number, metavar="PID|PORT", help="the backend's pid or its client port"
    )


def execute(arguments: argparse.Namespace) -> int:
    """Print the holders with that number and return the exit code; raise `CommandError` without any."""
    document = fetch(arguments.url, token_env=arguments.token_env, timeout_seconds=arguments.timeout)
    pools = pools_of(document, visible(arguments.url))
    found = [
        (what, pool, held)
        for pool in pools
        for held in pool.held
        for what in _matches(held, arguments.number)
    ]
    if not found:
        raise CommandError(_nobody(arguments.number, pools), exit_code=1)
    for what, pool, held in found:
        for line in _lines(what, pool, held, arguments.number):
            write_line(line, sys.stdout)
    return 0


def _matches(held: HeldConnection, number: int) -> Iterator[str]:
    if held.backend_pid == number:
        yield "backend pid"
    if held.local_port == number:
        yield "client port"


def _lines(what: str, pool: Pool, held: HeldConnection, number: int) -> Iterator[str]:
    yield f"{what} {number} in pool {visible(pool.name)}: held by {visible(held.owner)}"
    place = ""
    if held.filename is not None:
        place = held.filename + ("" if held.lineno is None else f":{held.lineno}")
    facts = (
        ("acquired in", " ".join(filter(None, (held.function, place and f"({place})")))),
        ("age", f"{humanised(held.age_seconds)}, quiet for {humanised(held.quiet_seconds)}"),
        ("state", state_of(held)),
        ("task", held.task_name),
        *((("now in" if number == 0 else ""), frame) for number, frame in enumerate(reversed(held.stack))),
        ("backend pid", None if held.backend_pid is None else str(held.backend_pid)),
        ("client port", None if held.local_port is None else str(held.local_port)),
        ("trace", held.trace_id),
        ("statement", held.statement),
    )
    for name, value in facts:
        if value:
            yield f"  {name:<12} {visible(value)}"


def _nobody(number: int, pools: list[Pool]) -> str:
    holders = [held for pool in pools for held in pool.held]
    unknown = sum(held.backend_pid is None and held.local_port is None for held in holders)
    text = f"no holder has the backend pid or client port {number}; {len(holders)} hold a connection there"
    if unknown:
        text += f", {unknown} of unknown pid and port"
    return f"{text}; the connection may be idle in its pool, or belong to another process"


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 20 and int(text) > 0):
        raise argparse.ArgumentTypeError(
            f"{visible(text)!r}: give a backend's pid or a client port, such as 4711"
        )
    return int(text)
