"""Draw bars as inline SVG: a pool's slots, and shares of a whole."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pool_exporter.records import HeldConnection, PoolSnapshot

_MAX_CELLS = 60
"""Up to so many slots each has a cell of its own."""


@dataclass(frozen=True, slots=True)
class Segment:
    """Hold a stretch of the bar: `kind` is its CSS class."""

    kind: str
    count: int
    label: str


def occupancy(snapshot: PoolSnapshot, held: Sequence[HeldConnection]) -> str:
    """Return a bar of the pool's slots and a legend with all its numbers.

    The bar is as long as `max`, or as what is there where that is more (just after a dispose) or
    where there is no limit. A mark shows where `size` ends and overflow begins.
    """
    segments = _segments(snapshot, held)
    total = sum(segment.count for segment in segments)
    numbers = ", ".join(f"{segment.count} {segment.label}" for segment in segments)
    legend = "".join(
        f'<li><i class="swatch {segment.kind}"></i><b>{segment.count}</b> {segment.label}</li>'
        for segment in segments
        if segment.count or segment.kind in ("used", "idle")
    )
    size = snapshot.size
    mark = _mark(size, total) if size is not None and 0 < size < total else ""
    limits = ", ".join(_limits(snapshot))
    shown_limits = "".join(f"<span>{limit}</span>" for limit in _limits(snapshot))
    return (
        f'<svg class="slots" role="img" aria-label="{numbers}; {limits}" width="100%" height="30">'
        f"{_cells(segments, total)}{mark}</svg>"
        f'<ul class="legend">{legend}<li class="limits">{shown_limits}</li></ul>'
    )


def share(fraction: float) -> str:
    """Return a small bar of a fraction from 0 to 1."""
    width = _percent(min(max(fraction, 0.0), 1.0))
    return (
        '<svg class="share" aria-hidden="true" width="100%" height="8">'
        '<rect class="free" width="100%" height="8" rx="2"/>'
        f'<rect class="used" width="{width}" height="8" rx="2"/></svg>'
    )


def _segments(snapshot: PoolSnapshot, held: Sequence[HeldConnection]) -> list[Segment]:
    connecting = (snapshot.pending_requests or {}).get("connecting", 0)
    # Several uses may share a connection.
    overdue = min(snapshot.used, sum(one.overdue is not None for one in held))
    there = snapshot.used + snapshot.idle + connecting
    segments = [
        Segment("overdue", overdue, "used, overdue"),
        Segment("used", snapshot.used - overdue, "used, not overdue" if overdue else "used"),
        Segment("connecting", connecting, "connecting"),
        Segment("idle", snapshot.idle, "idle"),
    ]
    if snapshot.max is not None:
        segments.append(Segment("free", max(0, snapshot.max - there), "not open"))
    return segments


def _limits(snapshot: PoolSnapshot) -> list[str]:
    limits = [] if snapshot.overflow is None else [f"overflow {snapshot.overflow}"]
    if snapshot.size is not None:
        limits.append(f"pool_size {snapshot.size}")
    return [*limits, "no limit" if snapshot.max is None else f"max {snapshot.max}"]


def _cells(segments: Sequence[Segment], total: int) -> str:
    if total == 0:
        return '<rect class="free" y="6" width="100%" height="18" rx="3"/>'
    cells = []
    begin = 0
    for segment in segments:
        pieces = [1] * segment.count if total <= _MAX_CELLS else [segment.count] * bool(segment.count)
        for length in pieces:
            cells.append(
                f'<rect class="{segment.kind}" x="{_percent(begin / total)}" y="6" '
                f'width="{_percent(length / total)}" height="18" rx="3"/>'
            )
            begin += length
    return "".join(cells)


def _mark(size: int, total: int) -> str:
    x = _percent(size / total)
    return f'<line class="mark" x1="{x}" x2="{x}" y1="0" y2="30"/>'


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.2f}%"
