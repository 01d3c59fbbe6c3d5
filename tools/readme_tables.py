"""Write the tables of README.md that are made from the catalogue, between their markers.

`python docs/readme_tables.py` rewrites README.md; `--check` exits with 1 if that would change it.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from pool_exporter.catalogue import CATALOGUE, Metric, series_per_pool

README = Path(__file__).resolve().parent.parent / "README.md"


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


def rewritten(text: str) -> str:
    """Return README text with the generated parts brought up to date."""
    parts = {"metrics": metric_table(), "series": series_sentence(), "buckets": bucket_list()}
    for name, part in parts.items():
        begin, end = f"<!-- generated: {name} -->\n", f"\n<!-- end: {name} -->"
        head, _, rest = text.partition(begin)
        _, _, tail = rest.partition(end)
        if not rest or not tail:
            raise SystemExit(f"README.md has no markers for {name!r}")
        text = head + begin + part + end + tail
    return text


def main() -> int:
    """Rewrite or check README.md."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 if out of date")
    check = parser.parse_args().check
    before = README.read_text(encoding="utf-8")
    after = rewritten(before)
    if check:
        return int(after != before)
    README.write_text(after, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
