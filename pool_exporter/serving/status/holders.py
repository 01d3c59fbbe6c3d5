"""Write the table of who holds a pool's connections."""

from __future__ import annotations

from collections.abc import Sequence

from pool_exporter.records import HeldConnection
from pool_exporter.serving.status.tables import Row, table
from pool_exporter.serving.status.text import escaped, markup
from pool_exporter.support.text import humanised, visible

MAX_ROWS = 100
_MAX_FRAMES = 12
_HEADINGS = ("Held by", "Age", "Quiet", "State", "Task, and where it is now", "Backend", "Trace")
_NOTHING = '<span class="nothing">–</span>'
OVERDUE_KINDS = {
    "idle": "idle",
    "idle_in_transaction": "idle in transaction",
    "busy": "busy",
    "orphaned": "orphaned",
}


def holders_table(pool: str, held: Sequence[HeldConnection]) -> str:
    """Return the holders, overdue ones first, then the oldest; at most 100, and how many there are more."""
    if not held:
        return '<p class="none">Nobody holds a connection.</p>'
    shown = sorted(held, key=lambda one: one.overdue is None)[:MAX_ROWS]
    return table(
        "holders",
        pool,
        "Held connections: the overdue first, then the oldest",
        _HEADINGS,
        [_row(one) for one in shown],
        left_out=len(held) - MAX_ROWS,
    )


def overdue_kind(kind: str) -> str:
    """Return the words for a kind of overdue use."""
    return OVERDUE_KINDS.get(kind, visible(kind))


def where(held: HeldConnection) -> str:
    """Return the acquiring frame as `module:function (file.py:12)`, "" if it is not known."""
    place = "" if held.filename is None else held.filename.replace("\\", "/").rpartition("/")[2]
    if place and held.lineno is not None:
        place += f":{held.lineno}"
    if held.function is None or not place:
        return held.function or place
    return f"{held.function} ({place})"


def _row(held: HeldConnection) -> Row:
    trace = _NOTHING if held.trace_id is None else f"<code>{markup(held.trace_id)}</code>"
    cells = (
        _holder(held),
        f'<span class="nowrap">{humanised(held.age_seconds)}</span>',
        f'<span class="nowrap">{humanised(held.quiet_seconds)}</span>',
        _state(held),
        _task(held),
        _backend(held),
        trace,
    )
    return Row(cells, marked=held.overdue is not None)


def _holder(held: HeldConnection) -> str:
    text = f'<span class="owner">{markup(held.owner)}</span>'
    if place := where(held):
        full = "" if held.filename is None else f' title="{escaped(held.filename, 500)}"'
        text += f'<span class="place"{full}>{markup(place)}</span>'
    if held.statement is not None:
        text += f'<code class="statement">{markup(held.statement)}</code>'
    return text


def _state(held: HeldConnection) -> str:
    badges = []
    if held.overdue is not None:
        badges.append(("overdue", "⚠ overdue"))
        badges.append(("overdue", escaped(overdue_kind(held.overdue))))
    if held.busy and held.overdue != "busy":
        badges.append(("", "busy"))
    if held.in_transaction and held.overdue != "idle_in_transaction":
        badges.append(("", "in transaction"))
    if held.exempt:
        badges.append(("", "exempt"))
    return " ".join(f'<span class="badge {kind}">{text}</span>' for kind, text in badges) or _NOTHING


def _task(held: HeldConnection) -> str:
    name = "" if held.task_name is None else markup(held.task_name)
    if not held.stack:
        return name or _NOTHING
    now = f'<span class="place">{markup(held.stack[-1])}</span>'
    if len(held.stack) == 1:
        return f"{name}{now}"
    key = escaped(f"{held.pool}/{held.owner}/{held.task_name}/{held.backend_pid}/{held.local_port}")
    frames = "".join(f"<li>{markup(frame)}</li>" for frame in held.stack[-_MAX_FRAMES:])
    left_out = len(held.stack) - _MAX_FRAMES
    outer = f"<li>… {left_out} further out</li>" if left_out > 0 else ""
    return (
        f'{name}<details data-key="{key}"><summary>{now}</summary>'
        f'<ol class="stack">{outer}{frames}</ol></details>'
    )


def _backend(held: HeldConnection) -> str:
    known = [
        f'<span class="nowrap">{what} {number}</span>'
        for what, number in (("pid", held.backend_pid), ("port", held.local_port))
        if number is not None
    ]
    return " <br>".join(known) or _NOTHING
