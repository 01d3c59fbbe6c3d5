"""Log what becomes of leaks and what pool timeouts met, and word the note on a timeout.

Logger `pool_exporter.leaks` gets one record at suspicion (WARNING), recovery (INFO) and
collection (WARNING), logger `pool_exporter.timeouts` a rate-limited one at a pool timeout
(WARNING). Each has the fields of its report as attributes, for structured logs: `event`, `pool`,
`owner`, `owner_function`, `owner_filename`, `owner_lineno`, `task`, `trace_id`, `age_seconds`, …
One of the application's own that has such a name stays; ours is then `pool_exporter_trace_id`, say.
"""

from __future__ import annotations

import logging
import os
import sys
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import asdict

from pool_exporter.faults import Faults
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

    def __init__(self, faults: Faults) -> None:
        self.recent: deque[LeakReport | TimeoutReport] = deque(maxlen=MOST_RECENT)
        self._faults = faults

    def add(self, reports: Sequence[LeakReport | TimeoutReport]) -> None:
        """Keep and log reports, in their order. Never raises, whatever a log handler does."""
        self.recent.extendleft(reports)
        for report in reports[:MOST_AT_ONCE]:
            self._log(report)
        left = [report for report in reports[MOST_AT_ONCE:] if isinstance(report, LeakReport)]
        if left:
            owners = sorted({visible(one.held.owner) for one in left})[:5]
            message = (
                f"pool {visible(left[0].held.pool)!r}: {len(left)} more reports of leaks at the same time "
                f"are counted only, among them of {', '.join(owners)}"
            )
            fields: dict[str, object] = {"event": "omitted", "omitted": len(left)}
            self._emit(leak_logger, logging.WARNING, message, fields)

    def _log(self, report: LeakReport | TimeoutReport) -> None:
        if isinstance(report, TimeoutReport):
            fields = {"event": "timeout", **asdict(report)}
            for held in fields["held"]:
                del held["statement"]  # SQL text may be shown where it was asked for, not written to a log
            self._emit(timeout_logger, logging.WARNING, timeout_message(report), fields)
        else:
            level = logging.INFO if report.event == "recovered" else logging.WARNING
            self._emit(leak_logger, level, leak_message(report), _leak_fields(report))

    def _emit(self, logger: logging.Logger, level: int, message: str, fields: Mapping[str, object]) -> None:
        """Log a message with fields, as `extra` does; but where a field is taken it gets a prefix.

        With `extra` a record factory of the application's that sets `trace_id`, say, would make
        each record raise.
        """
        try:
            if not logger.isEnabledFor(level):
                return
            record = logger.makeRecord(logger.name, level, __file__, 0, "%s", (message,), None, __name__)
            for name, value in fields.items():
                setattr(record, f"pool_exporter_{name}" if hasattr(record, name) else name, value)
            logger.handle(record)
        except Exception as error:
            self._faults.report("report", error)


def _leak_fields(report: LeakReport) -> dict[str, object]:
    fields = asdict(report.held)
    del fields["statement"]  # as above
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
        return f"{who} came to an end after all, after {age} (suspected as {report.kind})"
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
    others = groups[MOST_GROUPS:]
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
    for held in report.held[:MOST_HOLDERS]:
        task = f", task {visible(held.task_name)!r}" if held.task_name else ""
        lines.append(f"  {described(held)}: {humanised(held.age_seconds)} old, {doing(held)}{task}")
        if held.stack:
            lines.append(f"    now at {where_now(held.stack)}")
    if len(report.held) > MOST_HOLDERS:
        lines.append(f"  … and {len(report.held) - MOST_HOLDERS} more")
    return "\n".join(lines)


def where_now(stack: Sequence[str]) -> str:
    """Return where a task is, innermost first: its last step, and the last ones of the application's own."""
    own = [step for step in stack if _is_own(step.partition(":")[0])]
    steps = [*stack[-1:], *(step for step in reversed(own) if step != stack[-1])][: 1 + MOST_STEPS]
    return visible(" < ".join(steps), 1000)


def _is_own(module: str) -> bool:
    return module.partition(".")[0] not in FRAMEWORKS or module.startswith(
        ("pool_exporter.demo.", "pool_exporter.drill.")
    )


def _seconds(seconds: float | None) -> str:
    return "waiting" if seconds is None else humanised(seconds)
