"""Write what was reported of a pool last: timeouts, and the steps in the lives of leaks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timezone

from pool_exporter.records import HeldConnection, LeakReport, TimeoutReport
from pool_exporter.serving.status.holders import overdue_kind, where
from pool_exporter.serving.status.tables import Row, table
from pool_exporter.serving.status.text import escaped, markup
from pool_exporter.support.text import humanised

MAX_REPORTS = 50
_MAX_OWNERS = 3
_HEADINGS = ("When", "What", "Who", "Details")
_EVENTS = {
    "suspected": ("overdue", "⚠ leak suspected"),
    "recovered": ("good", "✓ came back after all"),
    "collected": ("overdue", "✕ leak collected"),
}


def reports_table(pool: str, reports: Sequence[LeakReport | TimeoutReport], now: float) -> str:
    """Return the reports, the newest first as they come; `now` is the Unix time."""
    if not reports:
        return '<p class="none">No pool timeout and no leak so far.</p>'
    return table(
        "reports",
        pool,
        "Recent pool timeouts and leaks, the newest first",
        _HEADINGS,
        [_row(report, now) for report in reports[:MAX_REPORTS]],
        left_out=len(reports) - MAX_REPORTS,
    )


def moment(unix_time: float) -> str:
    """Return a Unix time as an element that says it in UTC."""
    try:
        time = datetime.fromtimestamp(unix_time, timezone.utc)
    except (OverflowError, ValueError, OSError):
        return "at an unknown time"
    return f'<time datetime="{time:%Y-%m-%dT%H:%M:%SZ}">{time:%H:%M:%S} UTC</time>'


def _row(report: LeakReport | TimeoutReport, now: float) -> Row:
    kind, what, who, details = _timeout(report) if isinstance(report, TimeoutReport) else _leak(report)
    ago = humanised(max(0.0, now - report.unix_time))
    when = f'{moment(report.unix_time)} <span class="note">{ago} ago</span>'
    return Row((when, f'<span class="badge {kind}">{what}</span>', who, details))


def _timeout(report: TimeoutReport) -> tuple[str, str, str, str]:
    waited = "" if report.timeout_seconds is None else f" after {humanised(report.timeout_seconds)}"
    limit = "" if report.max is None else f" of {report.max}"
    waiting = "" if report.pending is None else f", {report.pending} acquires in progress"
    return (
        "overdue",
        f"✕ pool timeout{waited}",
        _holders(report.held),
        f"{report.uses}{limit} used{waiting}",
    )


def _holders(held: Sequence[HeldConnection]) -> str:
    """Return who held how many, the most first, and the oldest age."""
    if not held:
        return "–"
    shares = Counter(one.owner for one in held).most_common()
    named = [f"{count} × {markup(owner)}" for owner, count in shares[:_MAX_OWNERS]]
    others = sum(count for _, count in shares[_MAX_OWNERS:])
    text = ", ".join([*named, *([f"{others} × others"] if others else [])])
    oldest = humanised(max(one.age_seconds for one in held))
    return f'{text} <span class="note">the oldest {oldest}</span>'


def _leak(report: LeakReport) -> tuple[str, str, str, str]:
    kind, what = _EVENTS.get(report.event, ("", escaped(report.event)))
    held = report.held
    place = where(held)
    who = markup(held.owner) + (f'<span class="place">{markup(place)}</span>' if place else "")
    details = f"held for {humanised(held.age_seconds)}"
    if report.kind is not None:
        details = f"{escaped(overdue_kind(report.kind))}, {details}"
    if held.backend_pid is not None:
        details += f", pid {held.backend_pid}"
    return kind, what, who, details
