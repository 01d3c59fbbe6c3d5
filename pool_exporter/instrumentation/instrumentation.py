"""Be what `instrument()` returns: one instrumented pool, its name, its truth, and the way back."""

from __future__ import annotations

import itertools
import time
from collections import deque
from types import TracebackType
from typing import TYPE_CHECKING

from pool_exporter.capture.attach import Attachment, still_connected
from pool_exporter.capture.pool_state import pool_state
from pool_exporter.catalogue import resolve_buckets
from pool_exporter.instrumentation.timeout_reports import TimeoutReports
from pool_exporter.ledger.ledger import Ledger
from pool_exporter.ledger.operations import PATIENCE_SECONDS
from pool_exporter.messages.leaks import Reports
from pool_exporter.records import (
    HeldConnection,
    PoolSample,
    PoolSnapshot,
    PoolState,
    PoolStatus,
    Samples,
    TimeoutReport,
)

if TYPE_CHECKING:
    from pool_exporter.exporters.opentelemetry.provider import ProviderExporter

MAX_SAMPLES = 120
"""Points of a pool's history."""

_next_token = itertools.count().__next__


class Instrumentation:
    """One instrumented pool, across its generations.

    Made by `instrument()`. Holds engine, pool and connections weakly: what the application
    drops, goes, and the pool's series with it. As a context manager it calls `uninstrument()`
    at the end.
    """

    _shared = False
    """Whether several engines have it."""

    def __init__(self, name: str, ledger: Ledger, attachment: Attachment | None) -> None:
        self._token = _next_token()  # tells pools apart that have the same name one after the other
        self._implicit = False  # whether nobody asked for this engine in particular
        self._name = name
        self._ledger = ledger
        self._attachment = attachment
        self._last_state: PoolState | None = None
        self._final: PoolSnapshot | None = None
        self._telemetry: ProviderExporter | None = None  # of the meter provider that is told of it
        self._reports = Reports(ledger.faults)
        self._history: deque[PoolSample] = deque(maxlen=MAX_SAMPLES)
        self._timeouts = TimeoutReports()
        if attachment is not None:
            attachment.tap.owner = self
            attachment.tap.timed_out = self._timed_out

    @property
    def name(self) -> str:
        """Return the value of the `pool` label."""
        return self._name

    @property
    def _told(self) -> Instrumentation:
        """Return what a meter provider is told of: itself, or its group."""
        return self

    def snapshot(self) -> PoolSnapshot:
        """Return the truth about the pool at this moment, as one consistent record.

        Works after `uninstrument()` too: it then returns what was known at that moment.
        """
        if self._final is not None:
            return self._final
        return self._ledger.snapshot(self._state())

    def _sampled(self) -> tuple[PoolSnapshot, Samples]:
        """Return a snapshot, and the single samples that its histograms have counted since the last call."""
        if self._final is not None:
            return self._final, {}
        return self._ledger.sampled(self._state())

    def held(self) -> list[HeldConnection]:
        """Return every use in progress as it is now, the oldest first.

        Costs some microseconds a use and no I/O. Empty after `uninstrument()`, and where this
        library fails, which `telemetry_errors` counts.
        """
        if self._final is not None:
            return []
        try:
            return self._ledger.held(self._state())
        except Exception as error:
            self._ledger.faults.report("held", error)
            return []

    def _status(self) -> PoolStatus:
        """Return what a status page shows."""
        held = tuple(self.held())
        return PoolStatus(
            snapshot=self.snapshot(),
            held=held,
            reports=tuple(self._reports.recent),
            history=tuple(self._history),
        )

    def _check(self) -> float:
        """Look for overdue uses and log what happened; return the seconds until the next look."""
        self._ledger.check(self._state())
        self._report()
        return min(5.0, max(0.1, self._ledger.leaks.policy.shortest_seconds / 8))

    def _report(self) -> None:
        """Log what has happened to leaks, and the last timeout."""
        while self._timeouts.unlogged:
            self._reports.add([self._timeouts.unlogged.popleft()])
        self._reports.add(self._ledger.take_reports(self._name))

    def _sample(self) -> None:
        """Keep a point of the pool's history."""
        now = self.snapshot()
        self._history.append(
            PoolSample(
                unix_time=time.time(),
                used=now.used,
                idle=now.idle,
                pending=now.pending or 0,
                checkouts=now.checkouts,
                timeouts=now.timeouts or 0,
                wait_seconds_sum=now.wait_seconds.sum if now.wait_seconds is not None else 0.0,
                occupancy_seconds=now.occupancy_seconds,
            )
        )

    def _timed_out(self, error: BaseException) -> None:
        """Let a pool timeout say who holds the pool, in a note (Python 3.11) and in the log."""
        if self._timeouts.add_to(error, self._ledger.clock(), self._timeout_report):
            self._wake()

    def _timeout_report(self) -> TimeoutReport | None:
        """Return who holds the pool; None where the ledger is busy for longer than a caller may wait."""
        seen = self._ledger.seen(self._state(), PATIENCE_SECONDS)
        if seen is None:
            return None
        held, now = seen
        return TimeoutReport(
            pool=self._name,
            unix_time=time.time(),
            timeout_seconds=now.timeout_seconds,
            size=now.size,
            max=now.max,
            uses=now.uses,
            overflow=now.overflow,
            pending=now.pending,
            held=tuple(held),
        )

    def _wake(self) -> None:
        """Ask for a `_check` soon."""

    def _state(self) -> PoolState:
        if self._attachment is not None:
            try:
                self._last_state = pool_state(self._attachment.tap, self._name, self._last_state)
            except Exception as error:
                self._ledger.faults.report("capture.pool_state", error)
        return self._last_state or PoolState.unknown(self._name)

    def uninstrument(self) -> None:
        """Take everything off the engine and its series off the registry. Does nothing twice.

        Works under load: uses in progress go on undisturbed and are no longer counted.
        """
        if self._attachment is not None and self._final is None:
            try:
                self._final = self.snapshot()
                self._report()
            except Exception as error:
                self._ledger.faults.report("final snapshot", error)
            self._attachment.detach()

    def _gone(self) -> bool:
        """Tell whether there is nothing left to export: off, or no engine and nothing out."""
        if self._attachment is None or not self._attachment.tap.active:
            return True
        return not self._attachment.tap.engines() and self._ledger.at_rest()

    def _over(self) -> bool:
        """Tell whether the pool needs its name no more: gone, or disposed and not used since."""
        if self._attachment is None:
            return True
        tap = self._attachment.tap
        if tap.active and tap.disposed_after is None and tap.has_engine():
            return False  # asked of every other holder of a name: the usual answer comes first
        if self._gone():
            return True
        disposed_after = tap.disposed_after
        return disposed_after == self._ledger.counts.connects and self._ledger.at_rest()

    def _after_fork(self) -> None:
        self._timeouts.unlogged.clear()  # the parent's
        if self._attachment is not None:
            self._attachment.after_fork()
        self._ledger.reset_after_fork(still_connected)

    def __enter__(self) -> Instrumentation:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.uninstrument()

    def __repr__(self) -> str:
        return f"<Instrumentation of pool {self._name!r}>"


class NullInstrumentation(Instrumentation):
    """What `instrument()` returns when the library is switched off: it touches and knows nothing.

    Its snapshot is all zeros, with `mode="disabled"`.
    """

    def __init__(self, name: str) -> None:
        super().__init__(name, Ledger(resolve_buckets(None)), None)

    def _state(self) -> PoolState:
        return PoolState.unknown(self._name, mode="disabled")
