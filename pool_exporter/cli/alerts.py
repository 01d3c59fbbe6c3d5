"""Define the subcommand `alerts`: print the recording and alerting rules, for these options."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable

from pool_exporter.catalogue.vocabularies import VOCABULARIES
from pool_exporter.cli.errors import CommandError
from pool_exporter.cli.printing import in_utf8, write_line
from pool_exporter.cli.rule_options import in_the_words_of_a_command, labels_of, pairs_of
from pool_exporter.monitoring.rules import (
    ALERTS,
    SETTINGS,
    Manifest,
    RuleOptions,
    placeholder_note,
    rendered,
    rendered_inhibition,
)
from pool_exporter.monitoring.rules.checking import DATABASE_LIMIT
from pool_exporter.monitoring.rules.files import FILES
from pool_exporter.monitoring.rules.manifest import NAME
from pool_exporter.monitoring.rules.options import DASHBOARD, FORMATS, RUNBOOKS

HELP = "print alerting and recording rules for Prometheus"
DESCRIPTION = (
    "Print the recording rules and alerts as a rule file: the default file, or with --opt-in the one with further "
    "alerts, which is loaded beside the default one. --list shows every alert and what can be set of it."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the subcommand's arguments."""
    parser.add_argument("--opt-in", action="store_true", help="print the file of further alerts")
    parser.add_argument(
        "--inhibit-rules",
        action="store_true",
        help="print Alertmanager's inhibit_rules for these alerts instead",
    )
    parser.add_argument("--list", action="store_true", help="list the alerts and their settings, and end")
    parser.add_argument("--format", default=FORMATS[0], metavar="FORMAT", help=_choice(FORMATS))
    parser.add_argument(
        "--name",
        metavar="NAME",
        help=f"of a prometheusrule: what its name starts with, before -opt-in and -opentelemetry (default: {NAME})",
    )
    parser.add_argument("--namespace", metavar="NAME", help="of a prometheusrule: its namespace")
    parser.add_argument(
        "--metadata-label",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="of a prometheusrule: a label of its own, for the ruleSelector, as in release=prometheus",
    )
    parser.add_argument(
        "--vocabulary",
        default="prometheus",
        metavar="NAMES",
        help=f"{_choice(VOCABULARIES)}: as scraped from /metrics, or as an OpenTelemetry Collector writes them",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="ALERT.NAME=VALUE",
        help="a threshold, as in LeakIdle.window=20m; * is every alert",
    )
    parser.add_argument("--off", action="append", default=[], metavar="ALERT", help="leave out an alert")
    parser.add_argument(
        "--selector", default="", metavar="MATCHERS", help="look at these series only, as in 'job=\"orders\"'"
    )
    parser.add_argument(
        "--group-by", default="job,pool", metavar="LABELS", help="labels of an alert (default: job,pool)"
    )
    parser.add_argument(
        "--label", action="append", default=[], metavar="NAME=VALUE", help="one more label for every alert"
    )
    parser.add_argument(
        "--database-limit",
        default=DATABASE_LIMIT,
        metavar="N|SERIES",
        help=f"connections that the database allows, or a series that holds it (default: {DATABASE_LIMIT})",
    )
    parser.add_argument("--runbooks", default=RUNBOOKS, metavar="URL", help="where the runbooks' URLs begin")
    parser.add_argument(
        "--dashboard", default=DASHBOARD, metavar="URL", help="the dashboard that alerts lead to"
    )
    parser.add_argument(
        "--interval", default="30s", metavar="DURATION", help="between two evaluations (default: 30s)"
    )
    parser.add_argument(
        "--time-scale", type=float, default=1.0, metavar="N", help="divide every duration by this, for drills"
    )


def execute(arguments: argparse.Namespace) -> int:
    """Print the rules and return the exit code; raise `CommandError` for options that make no sense."""
    if arguments.list:
        for line in _listed():
            write_line(line, sys.stdout)
        return 0
    try:
        options = _options(arguments)
        text = _text(options, arguments)
    except (TypeError, ValueError) as error:
        raise CommandError(in_the_words_of_a_command(str(error))) from error
    except ModuleNotFoundError as error:
        raise CommandError(str(error), exit_code=1) from error
    in_utf8(sys.stdout)
    for line in text.splitlines():
        write_line(line, sys.stdout)
    note = placeholder_note(options)
    if note and not arguments.inhibit_rules:
        print(f"pool-exporter alerts: {note}", file=sys.stderr)
    return 0


def _text(options: RuleOptions, arguments: argparse.Namespace) -> str:
    if arguments.inhibit_rules:
        return rendered_inhibition(options)
    return rendered(options, "opt-in" if arguments.opt_in else "default", _manifest(arguments))


def _manifest(arguments: argparse.Namespace) -> Manifest | None:
    given = {
        "--name": arguments.name,
        "--namespace": arguments.namespace,
        "--metadata-label": arguments.metadata_label or None,
    }
    if arguments.format != "prometheusrule":
        for option, value in given.items():
            if value is not None:
                raise CommandError(
                    f"{option} is for a PrometheusRule; add --format prometheusrule, or leave it out"
                )
        return None
    return Manifest(
        name=NAME if arguments.name is None else arguments.name,
        namespace=arguments.namespace or "",
        labels=pairs_of("--metadata-label", arguments.metadata_label, "release=prometheus"),
    )


def _options(arguments: argparse.Namespace) -> RuleOptions:
    return RuleOptions(
        vocabulary=arguments.vocabulary,
        settings=pairs_of("--set", arguments.set, "LeakIdle.window=20m"),
        off=arguments.off,
        selector=arguments.selector,
        group_by=labels_of(arguments.group_by),
        labels=pairs_of("--label", arguments.label, "team=payments"),
        database_limit=arguments.database_limit,
        format=arguments.format,
        runbooks=arguments.runbooks,
        dashboard=arguments.dashboard,
        interval=arguments.interval,
        time_scale=arguments.time_scale,
    )


def _listed() -> Iterable[str]:
    shared = [name for name in SETTINGS if name.split(".")[0] not in ALERTS]
    for which, alerts in FILES.items():
        for alert in alerts:
            yield f"{alert.name} ({alert.severity}, in the {which} file): {alert.summary}"
            yield from (_setting(f"{alert.name}.{own}") for own in alert.all_settings)
    yield "Full (shared by several alerts):"
    yield from map(_setting, shared)


def _setting(name: str) -> str:
    one = SETTINGS[name]
    bounds = "" if one.kind == "severity" else f"({one.range})  "  # of a severity the reason says them
    return f"  {name}={one.text(one.default)}  {bounds}{one.reason}"


def _choice(names: Iterable[str]) -> str:
    first, *others = names
    return f"{first} (default) or {' or '.join(others)}"
