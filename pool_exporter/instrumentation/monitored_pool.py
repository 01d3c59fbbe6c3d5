"""Count any number of engines under one name, such as one for each tenant.

The engines share a ledger, which counts across pools anyhow; so the laws of counting hold for the
group as they do for a single pool, and what a tenant has done stays counted when its engine is gone.
"""

from __future__ import annotations

import time
import weakref
from typing import TYPE_CHECKING

from pool_exporter.capture.attach import Attachment, active_tap
from pool_exporter.capture.pool_state import pool_state
from pool_exporter.instrumentation.group_state import added_up
from pool_exporter.instrumentation.instrumentation import Instrumentation
from pool_exporter.instrumentation.options import Options
from pool_exporter.instrumentation.runtime import RUNTIME
from pool_exporter.instrumentation.timeout_reports import TimeoutReports
from pool_exporter.ledger.ledger import Ledger
from pool_exporter.ledger.operations import PATIENCE_SECONDS
from pool_exporter.records import HeldConnection, PoolSnapshot, PoolState, TimeoutReport

if TYPE_CHECKING:
    from sqlalchemy import Engine


class Group(Instrumentation):
    """What is exported under the name of a group. It outlives its engines, so that nothing is uncounted."""

    _shared = True

    def __init__(self, name: str, ledger: Ledger) -> None:
        super().__init__(name, ledger, None)
        # By id(). Single steps only, which are atomic: engines are added while others are looked at.
        self._members: dict[int, weakref.ref[Attachment]] = {}

    def add(self, attachment: Attachment) -> None:
        """Take in another engine, for as long as there is somebody else who holds it."""
        key, members = id(attachment), self._members
        members[key] = weakref.ref(attachment, lambda _: members.pop(key, None))

    def remove(self, attachment: Attachment) -> None:
        """Let an engine go."""
        self._members.pop(id(attachment), None)

    def _present(self) -> list[Attachment]:
        """Return what is on the engines that are still there."""
        members = [ref() for ref in list(self._members.values())]
        return [one for one in members if one is not None and one.tap.active and one.tap.has_engine()]

    @property
    def empty(self) -> bool:
        """Tell whether it has no engine that is still there."""
        return not self._present()

    def _state(self) -> PoolState:
        states = []
        for member in self._present():
            try:
                states.append(pool_state(member.tap, self._name, None))
            except Exception as error:
                self._ledger.faults.report("capture.pool_state", error)
        if states:
            self._last_state = added_up(self._name, states)
        elif self._last_state is not None:
            self._last_state = self._last_state._replace(
                name=self._name, size=0, max=0, live_pools=frozenset(), slots_out=None
            )
        return self._last_state or PoolState.unknown(self._name)

    def _after_fork(self) -> None:
        for member in self._present():
            member.after_fork()
        super()._after_fork()

    def _gone(self) -> bool:
        return False

    def _over(self) -> bool:
        return False


class Member(Instrumentation):
    """One engine of a group: its name, its snapshot and its uses are the group's, its way back its own."""

    def __init__(self, group: Group, attachment: Attachment) -> None:
        self._group = group
        super().__init__(group.name, group._ledger, attachment)
        self._timeouts = TimeoutReports(group._timeouts.unlogged)  # which the group logs
        group.add(attachment)

    @property
    def name(self) -> str:
        """Return the value of the `pool` label."""
        return self._group.name

    @property
    def _told(self) -> Instrumentation:
        return self._group

    def snapshot(self) -> PoolSnapshot:
        """Return the truth about all pools of the group, as one consistent record."""
        return self._group.snapshot()

    def held(self) -> list[HeldConnection]:
        """Return every use in progress of the group, the oldest first."""
        return self._group.held()

    def uninstrument(self) -> None:
        """Take everything off this engine; what it has done stays counted. Does nothing twice."""
        if self._attachment is None or not self._attachment.tap.active:
            return
        pools = self._attachment.detach()
        try:
            self._attachment.forget(self._ledger.abandon(pools))
        except Exception as error:
            self._ledger.faults.report("abandon", error)
        self._group.remove(self._attachment)

    def _timeout_report(self) -> TimeoutReport | None:
        """Return who holds this engine's own pool: the others are of no use to who waits for it."""
        own = self._state()
        seen = self._ledger.seen(self._group._state(), PATIENCE_SECONDS, pools=own.live_pools)
        if seen is None:
            return None
        held, _ = seen
        return TimeoutReport(
            pool=self.name,
            unix_time=time.time(),
            timeout_seconds=own.timeout_seconds,
            size=own.size,
            max=own.max,
            uses=len(held),
            overflow=None if own.size is None else max(0, len(held) - own.size),
            pending=self._ledger.pending(own.live_pools),
            held=tuple(held),
        )


def tell_no_more(pool: Instrumentation, *, final: bool = False) -> None:
    """Let its meter provider forget a pool; `final` where it counts no more."""
    with RUNTIME.lock:
        if pool._told._telemetry is not None:
            pool._told._telemetry.remove(pool._told, final=final)


class Instrumented(Instrumentation):
    """An instrumentation that knows what it was asked for, to compare a second call with."""

    def __init__(self, name: str, ledger: Ledger, attachment: Attachment, options: Options) -> None:
        super().__init__(name, ledger, attachment)
        self.options = options
        self.attachment = attachment

    def _wake(self) -> None:
        RUNTIME.soon()

    def uninstrument(self) -> None:
        with RUNTIME.lock:
            super().uninstrument()
            tell_no_more(self, final=True)
            for export in RUNTIME.exports.all():
                export.names.release(self)


class Grouped(Member):
    """A member of a group that knows what it was asked for."""

    def __init__(self, group: Group, attachment: Attachment, options: Options) -> None:
        super().__init__(group, attachment)
        self.options = options
        self.attachment = attachment

    def _wake(self) -> None:
        RUNTIME.soon()

    def uninstrument(self) -> None:
        with RUNTIME.lock:
            super().uninstrument()
            if not self._group.empty:
                return
            tell_no_more(self, final=True)
            for export in RUNTIME.exports.all():  # the last one was taken off on purpose
                export.names.release(self._group)
                export.groups = {name: one for name, one in export.groups.items() if one is not self._group}


def instrumentation_of(engine: Engine) -> Instrumented | Grouped | None:
    tap = active_tap(engine)
    owner = tap.owner if tap is not None else None
    return owner if isinstance(owner, (Instrumented, Grouped)) else None
