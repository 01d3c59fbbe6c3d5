"""Say in words what is the matter with a pool: a leak, a load, slow statements, or nothing (pure)."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pool_exporter.records import HeldConnection, PoolSnapshot
from pool_exporter.support.text import humanised

State = Literal[
    "unreachable",
    "full_leak",
    "full_lost",
    "full_connecting",
    "full_slow",
    "full_load",
    "leak",
    "slow",
    "busy",
    "idle",
]
Severity = Literal["critical", "warning", "good"]

SEVERITIES: dict[State, Severity] = {
    "unreachable": "critical",
    "full_leak": "critical",
    "full_lost": "critical",
    "full_connecting": "critical",
    "full_slow": "critical",
    "full_load": "warning",
    "leak": "warning",
    "slow": "warning",
    "busy": "good",
    "idle": "good",
}
HANGING_SECONDS = 1.0
"""How long connects may take, while nothing is open, before the database counts as unreachable."""
QUIET_SECONDS = 10.0
"""How long a use may be quiet in a full pool before "this is load" is no longer said of it."""
OWNER_LENGTH = 80
BEHIND = "; the wait is behind the pool, in the database or a proxy such as PgBouncer before it"
"""Said where the application waits for an answer; which of the two keeps it waiting cannot be seen from here."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Hold what is the matter with a pool: `state` for programs, `text` in plain words for people.

    `text` names owners as they are, cut at 80 characters: whoever prints it escapes it.
    """

    state: State
    text: str

    @property
    def severity(self) -> Severity:
        """Return how bad it is: critical, warning or good."""
        return SEVERITIES[self.state]


def verdict(snapshot: PoolSnapshot, held: Sequence[HeldConnection]) -> Verdict:
    """Return the verdict on a pool, from its numbers and its uses in progress (the oldest first).

    Full means that no slot of the live pool is free: uses, acquires that connect or ping, and
    slots that are lost. A pool without a limit is never full; in reduced mode, where acquires in
    progress are not known, uses alone decide.

    - `unreachable`: nothing is open, and connects have hung for a second or have only ever failed.
    - `full_leak`, `full_slow`: full, and at least half of the uses are overdue; `full_slow` if
      most of these are at work. Where most of them run a statement, the wait is behind the pool: in
      the database or in a proxy before it, between which nothing here can tell.
    - `full_lost`: full, and at least half of the slots are in nobody's hands.
    - `full_connecting`: full, and at least half of the slots wait for the database to answer.
    - `full_load`: full, otherwise.
    - `leak`, `slow`: uses are overdue, though the pool is not full; `slow` if all of these are at
      work.
    - `busy`: connections are used or asked for. `idle`: none is.
    """
    return (
        _unreachable(snapshot)
        or _full(snapshot, held)
        or _overdue(snapshot, held)
        or _at_work(snapshot, held)
    )


def _unreachable(snapshot: PoolSnapshot) -> Verdict | None:
    if snapshot.open:
        return None
    connecting = _pending(snapshot, "connecting")
    longest = snapshot.oldest_pending_seconds or 0.0
    if connecting and longest >= HANGING_SECONDS:
        return Verdict(
            "unreachable",
            f"unreachable: nothing is open, {_count(connecting, 'acquire')} connecting"
            f"{_queued(snapshot)}, the longest for {humanised(longest)}",
        )
    failed = sum((snapshot.connect_errors or {}).values())
    if failed and not snapshot.connects:
        return Verdict(
            "unreachable",
            f"unreachable: nothing was ever open, {_count(failed, 'attempt')} to connect failed"
            f"{_queued(snapshot)}",
        )
    return None


def _full(snapshot: PoolSnapshot, held: Sequence[HeldConnection]) -> Verdict | None:
    limit = snapshot.max
    if limit is None:
        return None
    opening = _pending(snapshot, "connecting") + _pending(snapshot, "pinging")
    # Negative where SQLAlchemy's own count lags; then it says nothing.
    lost = max(0, snapshot.unaccounted_slots or 0)
    # What an old generation of the pool still has out takes no slot of the live one.
    taken = snapshot.uses - min(snapshot.uses, snapshot.orphaned_connections) + opening + lost
    if taken < limit and not (_pending(snapshot, "queued") and snapshot.uses + opening >= limit):
        return None
    taken = max(taken, limit)
    overdue = [one for one in held if one.overdue is not None]
    if overdue and 2 * len(overdue) >= snapshot.uses:
        at_work = [one for one in overdue if one.overdue == "busy"]
        slow = 2 * len(at_work) > len(overdue)
        return Verdict(
            "full_slow" if slow else "full_leak",
            f"full: {len(overdue)} of {_count(max(snapshot.uses, len(overdue)), 'use')} overdue, "
            f"{_owners(overdue)}{_doing(at_work) if slow else ''}; the oldest "
            f"{humanised(_oldest(overdue))}{_asking(snapshot)}{_where(overdue) if slow else ''}",
        )
    if 2 * lost >= taken:
        return Verdict(
            "full_lost",
            f"full: {lost} of {taken} slots are lost, in nobody's hands{_queued(snapshot)}; "
            "engine.dispose() makes a new pool",
        )
    if 2 * opening >= taken:
        return Verdict(
            "full_connecting",
            f"full: {opening} of {taken} slots wait for the database to answer{_queued(snapshot)}; "
            f"the longest acquire {humanised(snapshot.oldest_pending_seconds or 0.0)}{BEHIND}",
        )
    return Verdict("full_load", f"full: {taken} of {limit}{_queued(snapshot)}; {_why_full(held, overdue)}")


def _why_full(held: Sequence[HeldConnection], overdue: Sequence[HeldConnection]) -> str:
    if overdue:
        return f"{len(overdue)} overdue, {_owners(overdue)}, the others are load"
    exempt = [one for one in held if one.exempt]
    if exempt and 2 * len(exempt) >= len(held):
        return f"{len(exempt)} never overdue because exempt, {_owners(exempt)}"
    quiet = [one for one in held if one.quiet_seconds >= QUIET_SECONDS and not one.exempt]
    if quiet:
        longest = max(one.quiet_seconds for one in quiet)
        return (
            f"none overdue yet, but {len(quiet)} quiet for up to {humanised(longest)}, {_owners(quiet)}: "
            "perhaps a leak"
        )
    oldest = _oldest([one for one in held if not one.exempt])
    return "none overdue: this is load" + (f", the oldest use {humanised(oldest)}" if held else "")


def _overdue(snapshot: PoolSnapshot, held: Sequence[HeldConnection]) -> Verdict | None:
    overdue = [one for one in held if one.overdue is not None]
    leaking = [one for one in overdue if one.overdue != "busy"]
    if not overdue:
        return None
    which = leaking or overdue
    return Verdict(
        "leak" if leaking else "slow",
        f"{'leak' if leaking else 'slow'}: {len(which)} of "
        f"{_count(max(snapshot.uses, len(which)), 'use')} overdue, {_owners(which)}"
        f"{'' if leaking else _doing(which)}; the oldest {humanised(_oldest(which))}"
        f"{_queued(snapshot)}{'' if leaking else _where(which)}",
    )


def _doing(at_work: Sequence[HeldConnection]) -> str:
    """Return what uses that are at work do."""
    running = sum(one.running for one in at_work)
    if not running:
        return ", in a stream, COPY or commit"
    return ", running statements" if running == len(at_work) else f", {running} running statements"


def _where(overdue: Sequence[HeldConnection]) -> str:
    """Return where the time goes, if that is known: most of a stream may go by in the application."""
    return BEHIND if 2 * sum(one.running for one in overdue) > len(overdue) else ""


def _at_work(snapshot: PoolSnapshot, held: Sequence[HeldConnection]) -> Verdict:
    asking = _asking(snapshot)
    if not snapshot.uses and not asking:
        if not snapshot.open:
            return Verdict("idle", "idle: nothing open")
        return Verdict("idle", f"idle: {snapshot.open} open, none in use")
    if not snapshot.uses:
        return Verdict("busy", "busy: no use yet" + asking)
    oldest = humanised(max(_oldest(held), snapshot.oldest_use_seconds), math.ceil)
    age = f"{oldest} old" if snapshot.uses == 1 else f"none older than {oldest}"
    return Verdict("busy", f"busy: {_count(snapshot.uses, 'use')}, {age}{asking}")


def _pending(snapshot: PoolSnapshot, phase: str) -> int:
    return (snapshot.pending_requests or {}).get(phase, 0)


def _asking(snapshot: PoolSnapshot) -> str:
    opening = (
        f", {count} {phase}" for phase in ("connecting", "pinging") if (count := _pending(snapshot, phase))
    )
    return "".join(opening) + _queued(snapshot)


def _queued(snapshot: PoolSnapshot) -> str:
    queued = _pending(snapshot, "queued")
    return f", {_count(queued, 'caller')} queued" if queued else ""


def _oldest(held: Sequence[HeldConnection]) -> float:
    return max((one.age_seconds for one in held), default=0.0)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")


def _owners(held: Sequence[HeldConnection]) -> str:
    """Return who holds these: `all from A`, or `6 from A, 3 from B, 2 from others`."""
    shares = Counter(one.owner for one in held).most_common()
    if len(shares) == 1:
        return ("all from " if len(held) > 1 else "from ") + _short(shares[0][0])
    named = [f"{count} from {_short(owner)}" for owner, count in shares[:2]]
    others = len(held) - sum(count for _, count in shares[:2])
    return ", ".join([*named, *([f"{others} from others"] if others else [])])


def _short(owner: str) -> str:
    return owner if len(owner) <= OWNER_LENGTH else owner[:OWNER_LENGTH] + "…"
