"""The table of names in docs/opentelemetry.md, made from the catalogue."""

from __future__ import annotations

from pathlib import Path

from pool_exporter.catalogue import CATALOGUE, Metric
from tools.documents import rewritten
from tools.imports import ROOT

DOCUMENT = ROOT / "docs" / "opentelemetry.md"


def row(metric: Metric) -> str:
    """Return the names of one metric."""
    prometheus = f"`{metric.prometheus_name}`" if metric.in_prometheus else "–"
    kind = metric.opentelemetry_kind.replace("_", " ")
    return (
        f"| {prometheus} | `{metric.opentelemetry_name}` | {kind} | `{metric.opentelemetry_unit}` "
        f"| `{metric.collector_name}` |"
    )


def table() -> str:
    """Return a row for each metric, in the order of the catalogue."""
    return "\n".join(
        [
            "| on `/metrics` | in OTLP | instrument | unit | through a Collector into Prometheus |",
            "|---|---|---|---|---|",
            *map(row, CATALOGUE),
        ]
    )


def files() -> dict[Path, str]:
    """Return the document with its table, by path."""
    return {DOCUMENT: rewritten(DOCUMENT, {"names": table()})}
