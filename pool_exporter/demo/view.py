"""Print what a pool is doing, from its snapshots: in place on a terminal, else one line a second."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Sequence
from typing import TextIO

from pool_exporter.records import HistogramSnapshot, PoolSnapshot

WINDOW_SNAPSHOTS = 5
"""Over how many snapshots back the wait's quantile is taken; at one a second, so many seconds."""
BAR_WIDTH = 30


class LiveView:
    """Print snapshots one after the other; one view for one pool."""

    def __init__(self, output: TextIO, *, title: str, address: str) -> None:
        self._output = output
        self._title = title
        self._address = address
        self._in_place = output.isatty() and os.environ.get("TERM") != "dumb"
        self._printed_lines = 0
        self._waits: deque[HistogramSnapshot] = deque(maxlen=WINDOW_SNAPSHOTS + 1)

    def starting(self) -> None:
        """Say on a terminal that there is nothing to show yet."""
        if self._in_place:
            self._replace([self._title, "starting the database and the application"])

    def begin(self, snapshot: PoolSnapshot) -> None:
        """Take what was before the load, without printing it."""
        if snapshot.wait_seconds is not None:
            self._waits.append(snapshot.wait_seconds)

    def show(self, snapshot: PoolSnapshot) -> None:
        """Print one snapshot; the caller makes it one a second."""
        if snapshot.wait_seconds is not None:
            self._waits.append(snapshot.wait_seconds)
        if self._in_place:
            self._replace(
                [self._title, bar(snapshot), *self._numbers(snapshot), self._address, "Ctrl-C ends it"]
            )
        else:
            print(*self._numbers(snapshot), self._address, sep="  ", file=self._output, flush=True)

    def end(self, snapshot: PoolSnapshot) -> None:
        """Print nothing more: the last second has been shown."""

    def _numbers(self, snapshot: PoolSnapshot) -> tuple[str, str]:
        queued = snapshot.pending_requests["queued"] if snapshot.pending_requests else 0
        wait = quantile(0.99, self._waits[0], self._waits[-1]) if self._waits else None
        return (
            f"used {snapshot.used:2}  idle {snapshot.idle:2}  overflow {snapshot.overflow:2}"
            f"  of {snapshot.max}",
            f"waiting {queued:3}  wait p99 {milliseconds(wait)} (last {len(self._waits) - 1} s)"
            f"  timeouts {snapshot.timeouts}",
        )

    def _replace(self, lines: Sequence[str]) -> None:
        """Print lines over those printed before: cursor up, clear to the end of the screen."""
        columns = _columns(self._output)
        back = f"\x1b[{self._printed_lines}A\r\x1b[J" if self._printed_lines else ""
        self._output.write(back + "".join(f"{line[: columns - 1]}\n" for line in lines))
        self._output.flush()
        self._printed_lines = len(lines)


def bar(snapshot: PoolSnapshot) -> str:
    """Return a bar of the pool's connections: used `#`, idle `-`, not open `.`."""
    width = max(snapshot.max or 0, snapshot.open, 1)
    used = round(BAR_WIDTH * snapshot.used / width)
    idle = round(BAR_WIDTH * snapshot.open / width) - used
    return "[" + "#" * used + "-" * idle + "." * (BAR_WIDTH - used - idle) + "]"


def quantile(rank: float, before: HistogramSnapshot, after: HistogramSnapshot) -> float | None:
    """Return a quantile, in seconds, of the samples between two snapshots; None if there were none.

    Interpolates within a bucket, and answers the last bound for what lies above it, as
    Prometheus' `histogram_quantile` does.
    """
    counts = [late - early for early, late in zip(before.counts, after.counts, strict=True)]
    wanted = rank * sum(counts)
    if wanted == 0:
        return None
    seen, low = 0, 0.0
    for bound, count in zip(after.bounds, counts, strict=False):
        if count and seen + count >= wanted:
            return low + (bound - low) * (wanted - seen) / count
        seen, low = seen + count, bound
    return low


def milliseconds(seconds: float | None) -> str:
    """Return a duration for the eye."""
    return "    -   " if seconds is None else f"{seconds * 1000:5.0f} ms"


def _columns(output: TextIO) -> int:
    try:
        return os.get_terminal_size(output.fileno()).columns or 80
    except (OSError, ValueError):
        return 80
