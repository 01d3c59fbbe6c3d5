"""Write the state of pools as JSON, every field of their records by its own name."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass

from pool_exporter.messages.verdict import verdict
from pool_exporter.records import (
    Exemplar,
    HistogramSnapshot,
    LeakReport,
    PoolSample,
    PoolSnapshot,
    PoolStatus,
    TimeoutReport,
)


def json_pieces(statuses: Sequence[PoolStatus]) -> Iterator[str]:
    """Yield the document piece by piece, a pool at a time; together it is one line of ASCII.

    ```
    {"pools": [{
        "name": "the pool label",
        "verdict": {"state": "full_leak", "severity": "critical", "text": "full: 9 of 10 uses …"},
        "snapshot": {…},   every field of PoolSnapshot, and its open, overflow and pending;
                           a histogram is {"bounds", "counts", "sum", "count", "exemplars"}
        "held": […],       HeldConnections, the oldest first
        "reports": […],    the newest first; "type" is "leak" or "timeout", the rest are the fields
                           of LeakReport or TimeoutReport
        "history": […]     PoolSamples, the oldest first
    }]}
    ```

    Durations are seconds, times Unix times, and what is not known is null. Fields may be added.
    """
    yield '{"pools": ['
    for number, status in enumerate(statuses):
        yield (", " if number else "") + json.dumps(_pool(status), allow_nan=False)
    yield "]}\n"


def _pool(status: PoolStatus) -> dict[str, object]:
    found = verdict(status.snapshot, status.held)
    return {
        "name": status.snapshot.name,
        "verdict": {"state": found.state, "severity": found.severity, "text": found.text},
        **{name: _plain(value) for name, value in status._asdict().items()},
    }


def _plain(value: object) -> object:
    """Return a value as JSON has it: no NaN, no tuple, no record."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, (str, int)):
        return value
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, (PoolSample, Exemplar)):
        return _plain(value._asdict())
    if isinstance(value, Sequence):
        return [_plain(one) for one in value]
    if is_dataclass(value):
        return {
            **_extras(value),
            **{field.name: _plain(getattr(value, field.name)) for field in fields(value)},
        }
    raise TypeError(f"cannot write a {type(value).__name__} as JSON")


def _extras(record: object) -> dict[str, object]:
    """Return what a record's JSON has besides its fields."""
    if isinstance(record, PoolSnapshot):
        return {"open": record.open, "overflow": record.overflow, "pending": record.pending}
    if isinstance(record, HistogramSnapshot):
        return {"count": record.count}
    if isinstance(record, LeakReport):
        return {"type": "leak"}
    if isinstance(record, TimeoutReport):
        return {"type": "timeout"}
    return {}
