"""The note and the log record of a pool timeout."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence

from pool_exporter.messages.holders import described, doing, where_now
from pool_exporter.records import HeldConnection, TimeoutReport
from pool_exporter.support.text import humanised, visible

MAX_GROUPS = 3
"""Owners named in the note on a timeout."""


MAX_HOLDERS = 20
"""Holders listed in the log record of a timeout."""


def timeout_note(report: TimeoutReport) -> str:
    """Return what holds the pool, for the exception that says that it is full."""
    pool = f"pool_exporter: pool {visible(report.pool)!r}"
    if not report.held:
        return f"{pool}: no connection is in use; {report.pending or 0} other acquires are in progress"
    capacity = report.max if report.max is not None else report.uses
    groups = _grouped(report.held)
    parts = [
        f"{count} of {capacity} connections held by {who}, oldest {humanised(oldest.age_seconds)}, {_state(oldest)}"
        for who, count, oldest in groups[:MAX_GROUPS]
    ]
    others = groups[MAX_GROUPS:]
    if others:
        whom = f"{len(others)} others" if len(others) > 1 else "another"
        parts.append(f"{sum(count for _, count, _ in others)} by {whom}")
    if report.pending:
        parts.append(f"{report.pending} other acquires in progress")
    return f"{pool}: " + "; ".join(parts)


def _grouped(held: Sequence[HeldConnection]) -> list[tuple[str, int, HeldConnection]]:
    """Return who holds how many connections and the oldest of them, the one with most first."""
    oldest: dict[str, HeldConnection] = {}
    count: Counter[str] = Counter()
    for one in held:  # the oldest first
        who = _briefly(one)
        oldest.setdefault(who, one)
        count[who] += 1
    return [(who, number, oldest[who]) for who, number in count.most_common()]


def _briefly(held: HeldConnection) -> str:
    """Return the owner, the function and, without its folders, the file and the line."""
    parts = [] if held.function in (None, held.owner) else [visible(held.function or "")]
    if held.filename is not None:
        parts.append(f"{visible(os.path.basename(held.filename))}:{held.lineno}")
    return visible(held.owner) + (f" ({', '.join(parts)})" if parts else "")


def _state(held: HeldConnection) -> str:
    if held.busy:
        return "running a statement"
    return "idle in transaction" if held.in_transaction else "idle"


def timeout_message(report: TimeoutReport) -> str:
    """Return the text of a timeout's log record: the pool's numbers, then a line or two a holder."""
    lines = [
        f"pool {visible(report.pool)!r} timed out after {_seconds(report.timeout_seconds)}: "
        f"size {report.size}, overflow {report.overflow}, max {report.max}, {report.uses} in use, "
        f"{report.pending} other acquires in progress. Holders, the oldest first:"
    ]
    for held in report.held[:MAX_HOLDERS]:
        task = f", task {visible(held.task_name)!r}" if held.task_name else ""
        lines.append(f"  {described(held)}: {humanised(held.age_seconds)} old, {doing(held)}{task}")
        if held.stack:
            lines.append(f"    now at {where_now(held.stack)}")
    if len(report.held) > MAX_HOLDERS:
        lines.append(f"  … and {len(report.held) - MAX_HOLDERS} more")
    return "\n".join(lines)


def _seconds(seconds: float | None) -> str:
    return "waiting" if seconds is None else humanised(seconds)
