"""The tables of docs/alerts.md that are made from the rules."""

from __future__ import annotations

from pathlib import Path

from pool_exporter.monitoring.rules import SETTINGS, RuleOptions, rule_file
from pool_exporter.monitoring.rules.alert import Alert
from pool_exporter.monitoring.rules.inhibition import MUTES
from pool_exporter.monitoring.rules.optional import OPTIONAL
from pool_exporter.monitoring.rules.standard import STANDARD
from tools.documents import rewritten
from tools.imports import ROOT

DOCUMENT = ROOT / "docs" / "alerts.md"


def alert_table(alerts: tuple[Alert, ...]) -> str:
    """Return a row for each alert, with its runbook and what it mutes."""
    rows = ["| alert | severity | says | mutes |", "|---|---|---|---|"]
    for alert in alerts:
        link = f"[{alert.name}](../alerts/runbooks/{alert.full_name}.md)"
        mutes = ", ".join(MUTES.get(alert.name, ()))
        rows.append(f"| {link} | {alert.severity} | {alert.summary} | {mutes} |")
    return "\n".join(rows)


def setting_table() -> str:
    """Return a row for each threshold, with its default, its range and its reason."""
    rows = ["| `--set` | default | range | reason |", "|---|---|---|---|"]
    for name, one in SETTINGS.items():
        if one.kind != "severity":
            rows.append(f"| `{name}` | {one.text(one.default)} | {one.range} | {one.reason} |")
    return "\n".join(rows)


def recording_table() -> str:
    """Return a row for each recorded series, in Prometheus names."""
    expressions = {
        rule["record"]: rule["expr"]
        for group in rule_file(RuleOptions())["groups"]
        for rule in group["rules"]
        if "record" in rule
    }
    rows = ["| recorded series | further labels |", "|---|---|"]
    for name, expression in expressions.items():
        by = expression.partition("by (")[2].partition(")")[0].split(", ")
        further = ", ".join(label for label in by if label and label not in ("job", "pool", "instance"))
        rows.append(f"| `{name}` | {further} |")
    return "\n".join(rows)


def files() -> dict[Path, str]:
    """Return the document with its tables, by path."""
    return {
        DOCUMENT: rewritten(
            DOCUMENT,
            {
                "default": alert_table(STANDARD),
                "opt-in": alert_table(OPTIONAL),
                "settings": setting_table(),
                "recordings": recording_table(),
            },
        )
    }
