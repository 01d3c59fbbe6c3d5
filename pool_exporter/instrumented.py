"""Be an instrumentation that knows what it was asked for, and takes itself out of the process's books."""

from __future__ import annotations

from sqlalchemy import Engine

from pool_exporter.capture.attach import Attachment, active_tap
from pool_exporter.grouping import Group, Member
from pool_exporter.instrumentation import Instrumentation
from pool_exporter.ledger import Ledger
from pool_exporter.options import Options
from pool_exporter.process import PROCESS


def tell_no_more(pool: Instrumentation, *, final: bool = False) -> None:
    """Let its meter provider forget a pool; `final` where it counts no more."""
    with PROCESS.lock:
        if pool._told._telemetry is not None:
            pool._told._telemetry.remove(pool._told, final=final)


class Instrumented(Instrumentation):
    """An instrumentation that knows what it was asked for, to compare a second call with."""

    def __init__(self, name: str, ledger: Ledger, attachment: Attachment, options: Options) -> None:
        super().__init__(name, ledger, attachment)
        self.options = options
        self.attachment = attachment

    def _wake(self) -> None:
        PROCESS.soon()

    def uninstrument(self) -> None:
        with PROCESS.lock:
            super().uninstrument()
            tell_no_more(self, final=True)
            for export in PROCESS.exports.all():
                export.names.release(self)


class Grouped(Member):
    """A member of a group that knows what it was asked for."""

    def __init__(self, group: Group, attachment: Attachment, options: Options) -> None:
        super().__init__(group, attachment)
        self.options = options
        self.attachment = attachment

    def _wake(self) -> None:
        PROCESS.soon()

    def uninstrument(self) -> None:
        with PROCESS.lock:
            super().uninstrument()
            if not self._group.empty:
                return
            tell_no_more(self, final=True)
            for export in PROCESS.exports.all():  # the last one was taken off on purpose
                export.names.release(self._group)
                export.groups = {name: one for name, one in export.groups.items() if one is not self._group}


def known_of(engine: Engine) -> Instrumented | Grouped | None:
    tap = active_tap(engine)
    owner = tap.owner if tap is not None else None
    return owner if isinstance(owner, (Instrumented, Grouped)) else None
