"""Print the demo's last moment as one JSON object."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import TextIO

from pool_exporter import HistogramSnapshot, LeakPolicy, PoolSnapshot
from pool_exporter_lab.demo.moment import Leak, Moment


class JsonReport:
    """Print nothing until the end, then one object:

    - `scenario`, `database`, `address` (of /metrics), `policy` (the `LeakPolicy`);
    - `snapshot`, `held` (the uses in progress, the oldest first), each as at the end;
    - `leaks`: the last steps in the lives of leaks, the oldest first, at most 1000;
    - `timeouts`: their `number` and the `note` on the last one's exception, null before Python 3.11.
    """

    def __init__(
        self, output: TextIO, *, scenario: str, database: str, address: str, policy: LeakPolicy
    ) -> None:
        self._output = output
        self._about = {
            "scenario": scenario,
            "database": database,
            "address": address,
            "policy": asdict(policy),
        }

    def starting(self) -> None:
        """Print nothing."""

    def begin(self, moment: Moment) -> None:
        """Print nothing."""

    def show(self, moment: Moment) -> None:
        """Print nothing."""

    def end(self, moment: Moment) -> None:
        """Print the report."""
        report = {
            **self._about,
            "snapshot": as_dict(moment.snapshot),
            "held": [asdict(held) for held in moment.held],
            "leaks": [_leak(leak) for leak in moment.leaks],
            "timeouts": {"number": moment.snapshot.timeouts, "note": moment.timeout_note},
        }
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


def _leak(leak: Leak) -> dict[str, object]:
    return {
        "event": leak.event,
        "kind": leak.kind,
        **leak.site._asdict(),
        "age_seconds": leak.age_seconds,
    }
