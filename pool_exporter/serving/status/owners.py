"""Write the owners' shares of a pool: what each holds now, and of all time in use."""

from __future__ import annotations

from pool_exporter.records import PoolSnapshot
from pool_exporter.serving.status.bars import share
from pool_exporter.serving.status.tables import Row, table
from pool_exporter.serving.status.text import markup
from pool_exporter.support.text import humanised


def owners_table(snapshot: PoolSnapshot) -> str:
    """Return the owners, those who hold the most now first, with bars of their shares."""
    connections, seconds = snapshot.owner_connections, snapshot.owner_use_seconds
    owners = sorted(
        {*connections, *seconds, *snapshot.owner_leaks},
        key=lambda owner: (-connections.get(owner, 0), -seconds.get(owner, 0.0), owner),
    )
    if not owners:
        return '<p class="none">No connection was used so far.</p>'
    uses, total = sum(connections.values()), sum(seconds.values())
    rows = [
        Row(
            (
                markup(owner),
                _held_now(connections.get(owner, 0), uses),
                _use_time(seconds.get(owner, 0.0), total),
                str(snapshot.owner_leaks.get(owner, 0)),
            )
        )
        for owner in owners
    ]
    return table(
        "owners",
        snapshot.name,
        "Owners: those who hold the most now first",
        ("Owner", "Holds now", "Share of use time", "Leaks"),
        rows,
    )


def _held_now(connections: int, uses: int) -> str:
    return f"<b>{connections}</b>{share(_fraction(connections, uses))}"


def _use_time(seconds: float, total: float) -> str:
    part = _fraction(seconds, total)
    return f'<b>{part:.0%}</b> <span class="note">{humanised(seconds)}</span>{share(part)}'


def _fraction(part: float, whole: float) -> float:
    return part / whole if whole > 0 else 0.0
