"""Print the demo's last snapshot as one JSON object."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields
from typing import TextIO

from pool_exporter.records import HistogramSnapshot, PoolSnapshot


class JsonReport:
    """Print nothing until the end, then `address` (of /metrics), `database` and `snapshot`."""

    def __init__(self, output: TextIO, *, address: str, database: str) -> None:
        self._output = output
        self._about = {"address": address, "database": database}

    def starting(self) -> None:
        """Print nothing."""

    def begin(self, snapshot: PoolSnapshot) -> None:
        """Print nothing."""

    def show(self, snapshot: PoolSnapshot) -> None:
        """Print nothing."""

    def end(self, snapshot: PoolSnapshot) -> None:
        """Print the report."""
        report = {**self._about, "snapshot": as_dict(snapshot)}
        print(json.dumps(report, allow_nan=False), file=self._output, flush=True)


def as_dict(snapshot: PoolSnapshot) -> dict[str, object]:
    """Return every field of a snapshot, and `open`, `overflow` and `pending`, ready for JSON."""
    values = {field.name: getattr(snapshot, field.name) for field in fields(snapshot)}
    for name in ("open", "overflow", "pending"):
        values[name] = getattr(snapshot, name)
    return {name: _plain(value) for name, value in values.items()}


def _plain(value: object) -> object:
    if isinstance(value, HistogramSnapshot):
        return {
            "bounds": list(value.bounds),
            "counts": list(value.counts),
            "sum": value.sum,
            "count": value.count,
        }
    return dict(value) if isinstance(value, Mapping) else value
