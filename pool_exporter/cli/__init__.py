"""Understand the command `pool-exporter` and hand over to its subcommands, a file for each."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from pool_exporter.cli import demo


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with `argv` (default: the process's arguments) and return its exit code.

    0 is success, 1 a failure, 2 a wrong argument, 128 + n the signal n.
    """
    parser = argparse.ArgumentParser(
        prog="pool-exporter", description="The truth about a SQLAlchemy connection pool, on /metrics."
    )
    subcommands = parser.add_subparsers(dest="subcommand", metavar="SUBCOMMAND", required=True)
    demo.add_arguments(subcommands.add_parser("demo", help=demo.HELP, description=demo.DESCRIPTION))
    try:
        arguments = parser.parse_args(argv)
    except SystemExit as ended:  # argparse leaves so after an error (2) and after --help (0)
        return ended.code if isinstance(ended.code, int) else 2
    try:
        return demo.execute(arguments)
    except KeyboardInterrupt:
        return 130
