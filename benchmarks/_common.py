"""What the benchmark programs share: medians, the machine, tables, and how a result is printed."""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
"""The checkout; first on the path, so that the programs measure it, installed or not."""
sys.path.insert(0, str(ROOT))

_PACKAGES = ("SQLAlchemy", "asyncpg", "prometheus-client", "opentelemetry-instrumentation-sqlalchemy")


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """Return lower quartile, median and upper quartile; all the same for a single value."""
    if len(values) < 2:
        return values[0], values[0], values[0]
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, middle, high


def summary(values: Sequence[float]) -> dict[str, float]:
    """Return median and quartiles under the names that the JSON has."""
    low, middle, high = quartiles(values)
    return {"median": middle, "q1": low, "q3": high}


def machine() -> dict[str, Any]:
    """Return what the figures depend on: cores, load before the run, versions."""
    versions: dict[str, str | None] = {}
    for package in _PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = None
    return {
        "cores": os.cpu_count(),
        "load_average": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "python": platform.python_version(),
        "versions": versions,
    }


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return an aligned text table, the first column to the left and the others to the right."""
    lines = [list(head), *[list(row) for row in rows]]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]

    def text(line: Sequence[str]) -> str:
        cells = (f"{cell:>{width}}" for cell, width in zip(line[1:], widths[1:], strict=True))
        return "  ".join([f"{line[0]:<{widths[0]}}", *cells]).rstrip()

    return "\n".join([text(lines[0]), "  ".join("-" * width for width in widths), *map(text, lines[1:])])


def budget(what: str, value: float, limit: float, unit: str = "") -> dict[str, Any]:
    """Return a figure with the most that it may be."""
    return {"what": what, "value": value, "limit": limit, "unit": unit, "holds": value <= limit}


def report(result: dict[str, Any], text: str, *, as_json: bool) -> None:
    """Print a program's result: as JSON, or as text followed by what holds of its budgets."""
    if as_json:
        print(json.dumps(result, indent=2))
        return
    print(_heading(result["machine"]))
    print()
    print(text)
    for one in result.get("budgets", ()):
        verdict = "holds" if one["holds"] else "DOES NOT HOLD"
        unit = f" {one['unit']}" if one["unit"] else ""
        print(f"budget {verdict}: {one['what']}: {one['value']:.3f}{unit}, at most {one['limit']:g}{unit}")


def _heading(found: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in found["versions"].items() if version)
    return (
        f"{found['cores']} cores (load {found['load_average']} before), Python {found['python']}, {versions}"
    )


def arguments(doc: str | None) -> argparse.ArgumentParser:
    """Return a parser with the option that every program has."""
    parser = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--json", action="store_true", dest="as_json", help="print JSON instead of a table")
    return parser


def positive(text: str) -> int:
    """Return an option's positive whole number."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is not positive")
    return number
