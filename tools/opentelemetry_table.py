"""Write the table of names in docs/opentelemetry.md that is made from the catalogue, between its markers.

`python docs/opentelemetry_table.py` rewrites the document; `--check` exits with 1 if that would change it.
"""

from __future__ import annotations

import sys
from pathlib import Path

from pool_exporter.catalogue import CATALOGUE, Metric

DOCUMENT = Path(__file__).resolve().parent / "opentelemetry.md"
BEGIN, END = "<!-- generated: names -->\n", "\n<!-- end: names -->"


def row(metric: Metric) -> str:
    """Return the names of one metric."""
    prometheus = f"`{metric.prometheus_name}`" if metric.in_prometheus else "–"
    kind = metric.opentelemetry_kind.replace("_", " ")
    return (
        f"| {prometheus} | `{metric.opentelemetry_name}` | {kind} | `{metric.opentelemetry_unit}` "
        f"| `{metric.collector_name}` |"
    )


def rewritten(text: str) -> str:
    """Return the document's text with its table brought up to date."""
    head, begin, rest = text.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise SystemExit("opentelemetry.md has no markers for 'names'")
    rows = [
        "| on `/metrics` | in OTLP | instrument | unit | through a Collector into Prometheus |",
        "|---|---|---|---|---|",
        *map(row, CATALOGUE),
    ]
    return head + begin + "\n".join(rows) + end + tail


def main() -> int:
    """Rewrite or check the document."""
    before = DOCUMENT.read_text(encoding="utf-8")
    after = rewritten(before)
    if "--check" in sys.argv[1:]:
        return int(after != before)
    DOCUMENT.write_text(after, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
