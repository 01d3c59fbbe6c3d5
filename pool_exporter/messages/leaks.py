"""Log what becomes of leaks and what pool timeouts met, and word the note on a timeout.

Logger `pool_exporter.leaks` gets one record at suspicion (WARNING), recovery (INFO) and
collection (WARNING), logger `pool_exporter.timeouts` a rate-limited one at a pool timeout
(WARNING). Each has the fields of its report as attributes, for structured logs: `event`, `pool`,
`owner`, `owner_function`, `owner_filename`, `owner_lineno`, `task`, `trace_id`, `age_seconds`, …
One of the application's own that has such a name stays; ours is then `pool_exporter_trace_id`, say.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import asdict

from pool_exporter.messages.holders import described, doing
from pool_exporter.messages.timeouts import timeout_message
from pool_exporter.records import LeakReport, TimeoutReport
from pool_exporter.support.faults import Faults
from pool_exporter.support.text import humanised, visible

leak_logger = logging.getLogger("pool_exporter.leaks")


timeout_logger = logging.getLogger("pool_exporter.timeouts")


MAX_RECENT = 50
"""Reports kept for the status page."""


MAX_AT_ONCE = 20
"""Reports logged at one look; what happens thousands of times a second must not fill the log."""


class Reports:
    """Log the reports of one pool, and keep the last ones: `recent`, the newest first."""

    def __init__(self, faults: Faults) -> None:
        self.recent: deque[LeakReport | TimeoutReport] = deque(maxlen=MAX_RECENT)
        self._faults = faults

    def add(self, reports: Sequence[LeakReport | TimeoutReport]) -> None:
        """Keep and log reports, in their order. Never raises, whatever a log handler does."""
        self.recent.extendleft(reports)
        for report in reports[:MAX_AT_ONCE]:
            self._log(report)
        left = [report for report in reports[MAX_AT_ONCE:] if isinstance(report, LeakReport)]
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
