"""Log what becomes of leaks and what pool timeouts met, and word the note on a timeout.

Logger `pool_exporter.leaks` gets one record at suspicion (WARNING), recovery (INFO) and
collection (WARNING), logger `pool_exporter.timeouts` a rate-limited one at a pool timeout
(WARNING). Each report has the fields of its report as attributes, for structured logs: `event`, `pool`,
`owner`, `owner_function`, `owner_filename`, `owner_lineno`, `task`, `trace_id`, `age_seconds`, …
"""

from __future__ import annotations

import logging
import os
import sys
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import asdict

from pool_exporter.records import HeldConnection, LeakReport, TimeoutReport
from pool_exporter.wording import humanised, visible

FRAMEWORKS = sys.stdlib_module_names | {
    *("sqlalchemy", "asyncpg", "psycopg", "aiosqlite", "asyncmy", "starlette", "fastapi", "litestar"),
    *("uvicorn", "granian", "hypercorn", "anyio", "greenlet", "pool_exporter"),
}
"""Whose steps of a stack say little about the application."""
MOST_STEPS = 3
"""Steps of the application's own that are shown of a stack."""

leak_logger = logging.getLogger("pool_exporter.leaks")
timeout_logger = logging.getLogger("pool_exporter.timeouts")

MOST_RECENT = 50
"""Reports kept for the status page."""
MOST_AT_ONCE = 20
"""Reports logged at one look; what happens thousands of times a second must not fill the log."""
MOST_GROUPS = 3
"""Owners named in the note on a timeout."""
MOST_HOLDERS = 20
"""Holders listed in the log record of a timeout."""


class Reports:
    """Log the reports of one pool, and keep the last ones: `recent`, the newest first."""

    def __init__(self) -> None:
        self.recent: deque[LeakReport | TimeoutReport] = deque(maxlen=MOST_RECENT)

    def add(self, reports: Sequence[LeakReport | TimeoutReport]) -> None:
        """Keep and log reports, in their order; what a log handler raises is the caller's to keep."""
        for report in reports[:MOST_AT_ONCE]:
            self.recent.appendleft(report)
            if isinstance(report, LeakReport):
                _log_leak(report)
            else:
                _log_timeout(report)
        left = reports[MOST_AT_ONCE:]
        if left:
            leak_logger.warning(
                "%d more reports of leaks at the same time are counted only, among them of %s",
                len(left),
                ", ".join(
                    sorted({visible(one.held.owner) for one in left if isinstance(one, LeakReport)})[:5]
                ),
                extra={"event": "omitted", "omitted": len(left)},
            )


def _log_leak(report: LeakReport) -> None:
    held = report.held
    level = logging.INFO if report.event == "recovered" else logging.WARNING
    leak_logger.log(level, "%s", leak_message(report), extra=_leak_fields(report, held))


def _leak_fields(report: LeakReport, held: HeldConnection) -> dict[str, object]:
    fields = asdict(held)
    # `filename` and `lineno` of a log record are those of the logging call.
    for name in ("function", "filename", "lineno"):
        fields[f"owner_{name}"] = fields.pop(name)
    fields["task"] = fields.pop("task_name")
    return {"event": report.event, "kind": report.kind, **fields}


def leak_message(report: LeakReport) -> str:
    """Return the sentence of a leak's log record, in one line."""
    held = report.held
    who = f"pool {visible(held.pool)!r}: a connection acquired by {described(held)}"
    age = humanised(held.age_seconds)
    if report.event == "suspected":
        return f"{who} looks leaked: held for {age}, {doing(held)} ({report.kind}); {_remedy(report.kind)}"
    if report.event == "recovered":
        return f"{who} was given back after all, after {age} (suspected as {report.kind})"
    return (
        f"{who} was dropped without close() and taken by the garbage collector after {age}; "
        "use `async with` or close() it in a `finally`"
    )


def _remedy(kind: str | None) -> str:
    if kind == "idle_in_transaction":
        return "commit, roll back or close it before waiting for anything else"
    if kind == "orphaned":
        return "its engine was disposed of; whoever holds it should have closed it before"
    return "close it, or exempt the owner in LeakPolicy(exempt=…) if it is meant to be held"


def described(held: HeldConnection) -> str:
    """Return who holds a connection: the owner, with the function and its line beside it."""
    owner = visible(held.owner)
    where = f"{visible(held.filename)}:{held.lineno}" if held.filename else ""
    if held.function is None:
        return owner
    function = visible(held.function)
    return f"{owner} ({where})" if function == owner else f"{owner} ({function}, {where})"


def doing(held: HeldConnection) -> str:
    """Return what a holder does with its connection."""
    if held.busy:
        return "running a statement"
    idle = "idle in transaction" if held.in_transaction else "idle"
    return f"{idle} for {humanised(held.quiet_seconds)}"


def timeout_note(report: TimeoutReport) -> str:
    """Return what holds the pool, for the exception that says that it is full."""
    pool = f"pool_exporter: pool {visible(report.pool)!r}"
    if not report.held:
        return f"{pool}: no connection is in use; {report.pending or 0} other acquires are in progress"
    capacity = report.max if report.max is not None else report.uses
    groups = _grouped(report.held)
    parts = [
        f"{count} of {capacity} connections held by {who}, oldest {humanised(oldest.age_seconds)}, {_state(oldest)}"
        for who, count, oldest in groups[:MOST_GROUPS]
    ]
    left = sum(count for _, count, _ in groups[MOST_GROUPS:])
    if left:
        parts.append(f"{left} by others")
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


def _log_timeout(report: TimeoutReport) -> None:
    lines = [
        f"pool {visible(report.pool)!r} timed out after {_seconds(report.timeout_seconds)}: "
        f"size {report.size}, overflow {report.overflow}, max {report.max}, {report.uses} in use, "
        f"{report.pending} other acquires in progress. Holders, the oldest first:"
    ]
    for held in report.held[:MOST_HOLDERS]:
        task = f", task {visible(held.task_name)!r}" if held.task_name else ""
        lines.append(f"  {described(held)}: {humanised(held.age_seconds)} old, {doing(held)}{task}")
        if held.stack:
            lines.append(f"    now at {where_now(held.stack)}")
    if len(report.held) > MOST_HOLDERS:
        lines.append(f"  … and {len(report.held) - MOST_HOLDERS} more")
    fields = asdict(report)
    timeout_logger.warning("%s", "\n".join(lines), extra={"event": "timeout", **fields})


def where_now(stack: Sequence[str]) -> str:
    """Return where a task is, innermost first: its last step, and the last ones of the application's own."""
    own = [step for step in stack if _is_own(step.partition(":")[0])]
    steps = [*stack[-1:], *(step for step in reversed(own) if step != stack[-1])][: 1 + MOST_STEPS]
    return visible(" < ".join(steps), 1000)


def _is_own(module: str) -> bool:
    return module.partition(".")[0] not in FRAMEWORKS or module.startswith("pool_exporter.demo.")


def _seconds(seconds: float | None) -> str:
    return "waiting" if seconds is None else humanised(seconds)
