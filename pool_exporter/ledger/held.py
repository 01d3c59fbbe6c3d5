"""Make a `HeldConnection` of one use: who has the connection, since when, and what it does."""

from __future__ import annotations

from pool_exporter.ledger.probe import Probe
from pool_exporter.ledger.uses import PoolEntry, Use
from pool_exporter.records import HeldConnection


def held_connection(
    pool: str, entry: PoolEntry, use: Use, now: float, probe: Probe, *, exempt: bool
) -> HeldConnection:
    """Return the record of a use as it is at `now`, a reading of the ledger's clock in seconds."""
    site = use.site
    details = probe.details(entry, use)
    running = bool(entry.running)
    busy = running or probe.busy(entry, use)
    return HeldConnection(
        pool=pool,
        owner=use.owner,
        function=site.function if site is not None else None,
        filename=site.code.co_filename if site is not None else None,
        lineno=site.line(use.instruction) if site is not None else None,
        task_name=use.task_name,
        trace_id=f"{use.span.trace_id:032x}" if use.span is not None else None,
        age_seconds=max(0.0, now - use.started_at),
        quiet_seconds=0.0 if busy else max(0.0, now - max(use.active_at, use.busy_at)),
        busy=busy,
        running=running,
        in_transaction=details.in_transaction,
        backend_pid=details.backend_pid,
        local_port=details.local_port,
        overdue=use.overdue,
        exempt=exempt,
        statement=use.statement,
        stack=details.stack,
    )
