"""The parts of README.md that are made from the catalogue."""

from __future__ import annotations

from pathlib import Path

from pool_exporter.catalogue import CATALOGUE, Metric, series_per_pool
from tools.documents import rewritten
from tools.imports import ROOT

DOCUMENT = ROOT / "README.md"


def metric_row(metric: Metric) -> str:
    """Return one row of the metric table."""
    if metric.kind == "info":
        labels = ", ".join(f"`{label}`" for label in metric.labels)
    elif metric.values:
        labels = f"`{metric.labels[0]}` = " + ", ".join(metric.values)
    else:
        labels = ", ".join(f"`{label}`" for label in metric.labels)
    basic = "yes" if metric.basic else ""
    return f"| `{metric.prometheus_name}` | {metric.kind} | {labels} | {basic} | {metric.help} |"


def metric_table() -> str:
    """Return the table of every Prometheus metric, in the order of the exposition."""
    rows = [
        "| metric | kind | labels (besides `pool`) | basic | meaning |",
        "|---|---|---|---|---|",
    ]
    rows += [metric_row(metric) for metric in CATALOGUE if metric.in_prometheus]
    return "\n".join(rows)


def series_sentence() -> str:
    """Return the number of series that one pool has."""
    return (
        f"A bounded pool with a `pool_recycle` has **{series_per_pool('full')} series**, {series_per_pool('basic')} with "
        '`detail="basic"`; each distinct `error` adds one, at most 21 for each of the two metrics that '
        "have this label, and each distinct `owner` one for each of the three metrics that have that one, "
        'at most 63 (none with `detail="basic"`).'
    )


def bucket_list() -> str:
    """Return the default buckets of every histogram."""
    return "\n".join(
        f"- `{metric.name}`: {' '.join(f'{bound:g}' for bound in metric.buckets)}"
        for metric in CATALOGUE
        if metric.kind == "histogram"
    )


def files() -> dict[Path, str]:
    """Return the document with its generated parts, by path."""
    return {
        DOCUMENT: rewritten(
            DOCUMENT, {"metrics": metric_table(), "series": series_sentence(), "buckets": bucket_list()}
        )
    }
