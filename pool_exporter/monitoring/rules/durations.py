"""Read and write durations as Prometheus spells them, such as `90s`, `5m` and `1h30m` (pure)."""

from __future__ import annotations

import math
import re

_UNITS = {"y": 31536000.0, "w": 604800.0, "d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_FORM = re.compile(r"(?:\d+y)?(?:\d+w)?(?:\d+d)?(?:\d+h)?(?:\d+m)?(?:\d+s)?(?:\d+ms)?")
_PART = re.compile(r"(\d+)(ms|[ywdhms])")
_WRITTEN = (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1))


def seconds_of(text: str) -> float:
    """Return a duration's seconds; raise `ValueError` for what Prometheus would not read."""
    if text == "0":
        return 0.0
    if not text or not text.isascii() or not _FORM.fullmatch(text):
        raise ValueError("not a duration; write one as Prometheus does, such as 90s, 5m or 1h30m")
    return sum(int(number) * _UNITS[unit] for number, unit in _PART.findall(text))


def duration_of(seconds: float) -> str:
    """Return seconds as a duration, to the millisecond and at least one, in one unit; 0 is `0s`."""
    if not math.isfinite(seconds) or seconds < 0:
        raise ValueError(f"{seconds!r} seconds are no duration")
    left = max(1, round(seconds * 1000)) if seconds else 0
    if not left:
        return "0s"
    unit, size = next((unit, size) for unit, size in _WRITTEN if left % size == 0)
    return f"{left // size}{unit}"
