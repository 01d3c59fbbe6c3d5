"""Print what a pool is doing, and who is to blame: in place on a terminal, else line after line."""

from __future__ import annotations

import os
import textwrap
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from typing import TextIO

from pool_exporter import HistogramSnapshot, PoolSnapshot
from pool_exporter.messages.verdict import verdict
from pool_exporter.support.text import visible
from pool_exporter_lab.demo.guilty import guilty
from pool_exporter_lab.demo.moment import Moment

WINDOW_SNAPSHOTS = 5
"""Over how many snapshots back the wait's quantile is taken; at one a second, so many seconds."""
BAR_WIDTH = 30
MAX_GUILTY = 3
"""Sites named at a time; at the end, all of them are."""
MAX_MESSAGE_ROWS = 2


class LiveView:
    """Print moments one after the other; one view for one pool.

    On a terminal everything is drawn again over what was there before. Elsewhere a moment is one
    line, with indented lines below for the guilty and for new log messages, if there are any.
    """

    def __init__(self, output: TextIO, *, title: Sequence[str], address: str) -> None:
        self._output = output
        self._title = title
        self._address = address
        self._in_place = output.isatty() and os.environ.get("TERM") != "dumb"
        self._printed_lines = 0
        self._printed_message = 0
        self._waits: deque[HistogramSnapshot] = deque(maxlen=WINDOW_SNAPSHOTS + 1)

    def starting(self) -> None:
        """Say on a terminal that there is nothing to show yet."""
        if self._in_place:
            self._replace([*self._title, "starting the database and the application"])

    def begin(self, moment: Moment) -> None:
        """Take what was before the load; off a terminal, say what is to come."""
        self._remember(moment)
        if not self._in_place:
            self._print(f"{'; '.join(self._title)}  {self._address}")

    def show(self, moment: Moment) -> None:
        """Print one moment; the caller makes it one a second."""
        self._remember(moment)
        blame = guilty(moment)[:MAX_GUILTY]
        if self._in_place:
            self._replace(
                [
                    *self._title,
                    bar(moment.snapshot),
                    *self._numbers(moment.snapshot),
                    *self._wrapped([_verdict(moment), *blame]),
                    *self._wrapped([f"log: {one.text}" for one in moment.messages], MAX_MESSAGE_ROWS),
                    self._address,
                    "Ctrl-C ends it",
                ]
            )
            return
        self._print("  ".join([*self._numbers(moment.snapshot), self._address]))
        for message in moment.messages:
            if message.number > self._printed_message:
                self._printed_message = message.number
                self._print(f"  log: {message.text}")
        for line in blame:
            self._print(f"  {line}")

    def end(self, moment: Moment) -> None:
        """Print what was found: totals, the guilty with whole paths, the note on the last timeout."""
        steps = Counter[str]()
        for (event, _), number in moment.events.items():
            steps[event] += number
        self._print(
            f"at the end: leaks suspected {steps['suspected']}, recovered {steps['recovered']}, "
            f"collected {steps['collected']}; timeouts {moment.snapshot.timeouts}"
        )
        self._print(f"  {_verdict(moment)}")
        for line in guilty(moment, whole_paths=True):
            self._print(f"  {line}")
        if moment.timeout_note is not None:
            self._print(f"  last timeout: {' '.join(moment.timeout_note.split())}")

    def _remember(self, moment: Moment) -> None:
        if moment.snapshot.wait_seconds is not None:
            self._waits.append(moment.snapshot.wait_seconds)

    def _numbers(self, snapshot: PoolSnapshot) -> tuple[str, str]:
        queued = snapshot.pending_requests["queued"] if snapshot.pending_requests else 0
        wait = quantile(0.99, self._waits[0], self._waits[-1]) if self._waits else None
        return (
            f"used {snapshot.used:2}  idle {snapshot.idle:2}  overflow {snapshot.overflow:2}"
            f"  of {snapshot.max}",
            f"waiting {queued:3}  wait p99 {milliseconds(wait)} (last {len(self._waits) - 1} s)"
            f"  timeouts {snapshot.timeouts}",
        )

    def _wrapped(self, lines: Sequence[str], most_rows: int | None = None) -> Iterator[str]:
        """Yield lines in rows that fit the terminal, `most_rows` for each line at most."""
        width = max(20, _size(self._output).columns - 1)
        for line in lines:
            yield from textwrap.wrap(
                line, width, subsequent_indent="  ", max_lines=most_rows, placeholder=" …"
            )

    def _print(self, line: str) -> None:
        print(line, file=self._output, flush=True)

    def _replace(self, lines: Sequence[str]) -> None:
        """Print lines over those printed before: cursor up, clear to the end of the screen."""
        size = _size(self._output)
        shown = lines[: max(1, size.lines - 1)]  # the cursor cannot go up to what has scrolled away
        back = f"\x1b[{self._printed_lines}A\r\x1b[J" if self._printed_lines else ""
        self._output.write(back + "".join(f"{line[: size.columns - 1]}\n" for line in shown))
        self._output.flush()
        self._printed_lines = len(shown)


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


def _verdict(moment: Moment) -> str:
    return visible(verdict(moment.snapshot, moment.held).text, 500)


def _size(output: TextIO) -> os.terminal_size:
    try:
        size = os.get_terminal_size(output.fileno())
    except (OSError, ValueError):
        size = os.terminal_size((0, 0))
    return os.terminal_size((size.columns or 80, size.lines or 24))
