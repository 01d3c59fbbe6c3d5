"""Understand the command `pool-exporter` and hand over to its subcommands, a file for each."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from pool_exporter.cli import alerts, cost, dashboards, demo, drill, held, who
from pool_exporter.cli.errors import CommandError
from pool_exporter.cli.output import OutputLostError, watched_output

_SUBCOMMANDS = {
    "alerts": alerts,
    "cost": cost,
    "dashboards": dashboards,
    "demo": demo,
    "drill": drill,
    "held": held,
    "who": who,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with `argv` (default: the process's arguments) and return its exit code.

    0 is success, 1 a failure, 2 a wrong argument or a page that cannot be had, 128 + n the signal n.
    """
    parser = argparse.ArgumentParser(
        prog="pool-exporter", description="The truth about a SQLAlchemy connection pool, on /metrics."
    )
    subparsers = parser.add_subparsers(dest="subcommand", metavar="SUBCOMMAND", required=True)
    for name, module in _SUBCOMMANDS.items():
        module.add_arguments(subparsers.add_parser(name, help=module.HELP, description=module.DESCRIPTION))
    try:
        with watched_output():
            return _run(parser, argv)
    except OutputLostError as error:
        if not error.gone:  # as after `| head`, which is no failure to tell of
            print(
                f"{parser.prog}: error: cannot write the output ({error}); send it where there is room",
                file=sys.stderr,
            )
        return 1
    except KeyboardInterrupt:
        return 130


def _run(parser: argparse.ArgumentParser, argv: Sequence[str] | None) -> int:
    try:
        arguments = parser.parse_args(argv)
    except SystemExit as ended:  # argparse leaves so after an error (2) and after --help (0)
        return ended.code if isinstance(ended.code, int) else 2
    try:
        code: int = _SUBCOMMANDS[arguments.subcommand].execute(arguments)
        return code
    except CommandError as error:
        print(f"{parser.prog} {arguments.subcommand}: error: {error}", file=sys.stderr)
        return error.exit_code
