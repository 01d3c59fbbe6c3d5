"""Be what `instrument()` returns: one instrumented pool, its name, its truth, and the way back."""

from __future__ import annotations

from types import TracebackType

from pool_exporter.capture.attach import Attachment, still_connected
from pool_exporter.capture.describe import pool_state
from pool_exporter.catalogue import resolve_buckets
from pool_exporter.ledger import Ledger
from pool_exporter.records import PoolSnapshot, PoolState


class Instrumentation:
    """One instrumented pool, across its generations.

    Made by `instrument()`. Holds engine, pool and connections weakly: what the application
    drops, goes, and the pool's series with it. As a context manager it calls `uninstrument()`
    at the end.
    """

    def __init__(self, name: str, ledger: Ledger, attachment: Attachment | None) -> None:
        self._name = name
        self._ledger = ledger
        self._attachment = attachment
        self._last_state: PoolState | None = None
        self._final: PoolSnapshot | None = None
        if attachment is not None:
            attachment.tap.owner = self

    @property
    def name(self) -> str:
        """Return the value of the `pool` label."""
        return self._name

    def snapshot(self) -> PoolSnapshot:
        """Return the truth about the pool at this moment, as one consistent record.

        Works after `uninstrument()` too: it then returns what was known at that moment.
        """
        if self._final is not None:
            return self._final
        return self._ledger.snapshot(self._state())

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
        if self._attachment is None or self._gone():
            return True
        disposed_after = self._attachment.tap.disposed_after
        return disposed_after == self._ledger.counts.connects and self._ledger.at_rest()

    def _after_fork(self) -> None:
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
