"""Write the matrix of docs/drills.md from what `pool-exporter drill all --json` printed, a file a run.

Usage: python -m tools.drill_table MATRIX.json...
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from tools.documents import rewritten
from tools.imports import ROOT

DOCUMENT = ROOT / "docs" / "drills.md"
PREFIX = "SQLAlchemyPool"


def main(paths: list[str]) -> None:
    """Replace the part between the marks."""
    matrices = [json.loads(Path(path).read_text(encoding="utf-8")) for path in paths]
    DOCUMENT.write_text(rewritten(DOCUMENT, {"drills": table(matrices)}), encoding="utf-8")


def table(matrices: list[dict[str, Any]]) -> str:
    """Return what the runs were, and a line for each scenario."""
    seeds = ", ".join(str(matrix["seed"]) for matrix in matrices)
    first = matrices[0]
    lines = [
        f"{'One run, seed' if len(matrices) == 1 else f'{len(matrices)} runs, seeds'} {seeds}; Prometheus {first['prometheus']}, a scrape each "
        f"{first['scrape_seconds']:g} s; time shortened {first['factor']:g} times, {first['jobs']} scenarios at a time.",
        "",
        "| scenario | what happens | fires: seconds from the fault to the notification (minutes in production) | "
        "the status page | as expected |",
        "|---|---|---|---|---|",
    ]
    for outcomes in zip(*(matrix["outcomes"] for matrix in matrices), strict=True):
        one = outcomes[0]
        passed = sum(outcome["passed"] for outcome in outcomes)
        lines.append(
            f"| `{one['scenario']}` | {one['phrase']} | {_fired(outcomes, first['factor'])} | "
            f"{_said(outcomes)} | {passed} of {len(outcomes)} |"
        )
    return "\n".join(lines)


def _said(outcomes: tuple[dict[str, Any], ...]) -> str:
    """Return the verdicts that the status page gave at the end, in any run."""
    said = (outcome["verdict"]["state"] for outcome in outcomes if outcome["verdict"])
    return ", ".join(f"`{state}`" for state in sorted(set(said)))


def _fired(outcomes: tuple[dict[str, Any], ...], factor: float) -> str:
    """Return each alert that fired in any run, with its shortest and longest time."""
    times: dict[str, list[float]] = {}
    severities: dict[str, str] = {}
    for outcome in outcomes:
        for firing in outcome["fired"]:
            times.setdefault(firing["alert"], []).append(firing["seconds"])
            severities[firing["alert"]] = firing["severity"]
    expected = set(outcomes[0]["expected"])
    shown = []
    for alert in sorted(times, key=lambda alert: (alert not in expected, min(times[alert]))):
        low, high = min(times[alert]), max(times[alert])
        often = "" if len(times[alert]) == len(outcomes) else f", in {len(times[alert])} of {len(outcomes)}"
        name = alert.removeprefix(PREFIX)
        shown.append(
            f"{f'**{name}**' if alert in expected else name} {severities[alert]} "
            f"{low:.1f}–{high:.1f} s ({low * factor / 60:.1f}–{high * factor / 60:.1f} min{often})"
        )
    over = [outcome["over_seconds"] for outcome in outcomes if outcome["over_seconds"] is not None]
    if over:
        shown.append(f"resolved after {min(over):.1f}–{max(over):.1f} s")
    return "; ".join(shown) or "nothing"


if __name__ == "__main__":
    if not sys.argv[1:]:
        sys.exit("usage: python -m tools.drill_table MATRIX.json...")
    main(sys.argv[1:])
