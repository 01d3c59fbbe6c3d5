"""Who holds a pool when an acquire times out: reported at limited rates, in a note and for the log."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from pool_exporter.messages.timeouts import timeout_note
from pool_exporter.records import TimeoutReport

REPORT_SECONDS = 0.25
"""How long the report of a pool timeout serves the timeouts that follow it."""
LOG_SECONDS = 10.0
"""The shortest time between two log records of pool timeouts."""


class TimeoutReports:
    """The reports of one pool's timeouts.

    - `last`: the last report, None before the first timeout.
    - `unlogged`: what waits to be logged, outside of the caller that timed out.
    """

    def __init__(self, unlogged: deque[TimeoutReport] | None = None) -> None:
        self.last: TimeoutReport | None = None
        self.unlogged: deque[TimeoutReport] = deque(maxlen=1) if unlogged is None else unlogged
        self._last_at = self._logged_at = float("-inf")

    def add_to(self, error: BaseException, now: float, report: Callable[[], TimeoutReport | None]) -> bool:
        """Add a note to SQLAlchemy's exception (Python 3.11); return True if a report waits to be logged.

        `now` is in seconds of the ledger's clock. `report` makes a report, or None if the ledger is busy.
        """
        if self.last is None or now - self._last_at >= REPORT_SECONDS:
            made = report()
            if made is None:
                return False
            self.last = made
            self._last_at = now
        if hasattr(error, "add_note"):
            error.add_note(timeout_note(self.last))
        if now - self._logged_at < LOG_SECONDS:
            return False
        self._logged_at = now
        self.unlogged.append(self.last)
        return True
