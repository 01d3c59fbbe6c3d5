"""Write the tables of docs/alerts.md that are made from the rules, between their markers.

`python docs/alert_tables.py` rewrites the document; `--check` exits with 1 if that would change it.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from pool_exporter.monitoring.rules import SETTINGS, RuleOptions, rule_file
from pool_exporter.monitoring.rules.alert import Alert
from pool_exporter.monitoring.rules.inhibition import MUTES
from pool_exporter.monitoring.rules.optional import OPTIONAL
from pool_exporter.monitoring.rules.standard import STANDARD

DOCUMENT = Path(__file__).resolve().parent / "alerts.md"


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


def rewritten(text: str) -> str:
    """Return the document with its generated parts brought up to date."""
    parts = {
        "default": alert_table(STANDARD),
        "opt-in": alert_table(OPTIONAL),
        "settings": setting_table(),
        "recordings": recording_table(),
    }
    for name, content in parts.items():
        before, start, rest = text.partition(f"<!-- generated: {name} -->\n")
        _, end, after = rest.partition(f"<!-- end: {name} -->")
        if not start or not end:
            raise SystemExit(f"{DOCUMENT.name} has no markers for {name}")
        text = f"{before}{start}{content}\n{end}{after}"
    return text


def main() -> int:
    """Write or check the document and return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--check", action="store_true", help="change nothing; exit with 1 if the tables are stale"
    )
    check = parser.parse_args().check
    text = DOCUMENT.read_text(encoding="utf-8")
    made = rewritten(text)
    if made == text:
        return 0
    if not check:
        DOCUMENT.write_text(made, encoding="utf-8")
    return 1 if check else 0


if __name__ == "__main__":
    sys.exit(main())
