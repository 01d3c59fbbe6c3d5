"""Define the subcommand `dashboards`: write the Grafana dashboards, for these options."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

from pool_exporter.catalogue.vocabularies import VOCABULARIES
from pool_exporter.cli.errors import CommandError
from pool_exporter.cli.printing import write_line
from pool_exporter.cli.rule_options import in_the_words_of_a_command, labels_of, pairs_of
from pool_exporter.monitoring.dashboards import Words, dashboards, text_of, words_for
from pool_exporter.support.text import visible

HELP = "write dashboards for Grafana"
DESCRIPTION = (
    "Write three dashboards for Grafana 12 or later as JSON files: all pools, one pool, and the hunt for a leak. "
    "Existing files stay as they are without --force. Exit code 2 and one line on stderr if something is wrong."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the subcommand's arguments."""
    parser.add_argument("--out", required=True, metavar="DIR", help="where to write; made if it is not there")
    parser.add_argument("--force", action="store_true", help="write over existing files")
    parser.add_argument(
        "--vocabulary",
        default="prometheus",
        metavar="NAMES",
        help=f"{' or '.join(VOCABULARIES)}: as scraped from /metrics (default), or as an OpenTelemetry Collector writes them",
    )
    parser.add_argument(
        "--selector", default="", metavar="MATCHERS", help="look at these series only, as in 'job=\"orders\"'"
    )
    parser.add_argument(
        "--group-by",
        default="job,pool",
        metavar="LABELS",
        help="labels that make a pool, as for the alerts; each gets a variable (default: job,pool)",
    )
    parser.add_argument(
        "--label",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a label that the alerts were given; only alerts with it are shown",
    )
    parser.add_argument(
        "--recorded",
        action="store_true",
        help="make the dashboard of all pools of what the rules record, for many instances; load the rules of "
        "`pool-exporter alerts` first, with the same options",
    )


def execute(arguments: argparse.Namespace) -> int:
    """Write the files and return the exit code; raise `CommandError` if that cannot be."""
    words = _words(arguments)
    if not arguments.out.strip():
        raise CommandError("--out is empty; name a directory, or . for this one")
    directory = Path(arguments.out)
    files = {directory / f"{name}.json": text_of(made) for name, made in dashboards(words).items()}
    existing = [path for path in files if os.path.lexists(path)]
    if existing and not arguments.force:
        raise CommandError(
            f"{visible(str(existing[0]))} is there already, and nothing was written; "
            "give --force to write over it, or another --out"
        )
    for path in existing:
        if path.is_dir():
            raise CommandError(
                f"{visible(str(path))} is a directory, and nothing was written; take it away, or give another --out"
            )
    path = directory / "fleet.json"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=directory, prefix=".dashboards-") as fresh:
            for path, text in files.items():
                (Path(fresh) / path.name).write_text(text, "utf-8")
            for path in files:  # all of them or none: what is there stays whole until then
                os.replace(Path(fresh) / path.name, path)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise CommandError(
            f"--out {visible(arguments.out)}: cannot write {path.name} ({reason}); "
            "name a directory that you may write to and that has room"
        ) from error
    for path in files:
        write_line(visible(str(path)), sys.stdout)
    return 0


def _words(arguments: argparse.Namespace) -> Words:
    labels = pairs_of("--label", arguments.label, "team=payments")
    try:
        return words_for(
            arguments.vocabulary,
            arguments.selector,
            labels_of(arguments.group_by),
            labels,
            arguments.recorded,
        )
    except (TypeError, ValueError) as error:
        raise CommandError(in_the_words_of_a_command(str(error))) from error
