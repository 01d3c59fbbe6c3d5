"""Define the subcommand `cost`: how many series and samples a number of pools makes, by the catalogue."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator

from pool_exporter.catalogue import CATALOGUE, MAX_OWNERS, Detail, series_per_pool
from pool_exporter.cli.errors import CommandError
from pool_exporter.cli.printing import write_line
from pool_exporter.monitoring.rules.durations import seconds_of
from pool_exporter.monitoring.rules.series import recorded_series

HELP = "tell how many series and samples a second a fleet makes"
DESCRIPTION = (
    "Print how many series the pools of a fleet have in Prometheus, and how many samples a second it gets of them. "
    "Counted from the catalogue and the rules, for bounded pools with a pool_recycle; errors that occur add a series each, "
    'and with `detail="basic"` less is recorded.'
)
MOST = 10_000_000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the subcommand's arguments."""
    parser.add_argument("--pods", type=int, required=True, metavar="N", help="instances that are scraped")
    parser.add_argument("--pools", type=int, required=True, metavar="N", help="pools of each instance")
    parser.add_argument(
        "--owners",
        type=int,
        default=0,
        metavar="N",
        help="distinct owners of each pool (default: 0; after 20, the others are one more)",
    )
    parser.add_argument("--detail", choices=("full", "basic"), default="full", help="(default: full)")
    parser.add_argument(
        "--interval", default="15s", metavar="DURATION", help="between two scrapes (default: 15s)"
    )


def execute(arguments: argparse.Namespace) -> int:
    """Print the numbers and return the exit code; raise `CommandError` for numbers that make no sense."""
    for name, least in (("pods", 1), ("pools", 1), ("owners", 0)):
        value = getattr(arguments, name)
        if not least <= value <= MOST:
            raise CommandError(f"--{name} {value}: out of range; from {least} to {MOST}")
    try:
        seconds = seconds_of(arguments.interval)
    except ValueError as error:
        raise CommandError(f"--interval {arguments.interval!r}: {error}") from error
    if not 1 <= seconds <= 3600:
        raise CommandError(f"--interval {arguments.interval!r}: out of range; from 1s to 1h")
    for line in _lines(arguments, seconds):
        write_line(line, sys.stdout)
    return 0


def _lines(arguments: argparse.Namespace, seconds: float) -> Iterator[str]:
    detail: Detail = arguments.detail
    a_pool = series_per_pool(detail) + _of_owners(detail, arguments.owners)
    series = a_pool * arguments.pods * arguments.pools
    yield f"series of a pool:     {a_pool:,}"
    yield f"series in all:        {series:,}"
    yield f"samples a second:     {series / seconds:,.1f}"
    recorded = recorded_series(arguments.pods, arguments.pools)
    yield f"recorded, at most:    {recorded.series:,} more by the rules of `pool-exporter alerts`, if one job has them all"
    yield f"samples a second:     {recorded.samples_a_second:,.1f} of these"


def _of_owners(detail: Detail, owners: int) -> int:
    """Return the series of a pool's owners; what comes after the first 20 is one more, `other`."""
    metrics = [one for one in CATALOGUE if one.labels == ("owner",) and (detail == "full" or one.basic)]
    return len(metrics) * min(owners, MAX_OWNERS + 1)
