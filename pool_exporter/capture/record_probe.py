"""Tell what a use is doing at this moment, without I/O: from the record, the cursor, the driver."""

from __future__ import annotations

from typing import Any

from pool_exporter.capture import drivers
from pool_exporter.capture.callers import stacks
from pool_exporter.capture.marks import mark_of
from pool_exporter.ledger.probe import ConnectionDetails, Probe
from pool_exporter.ledger.uses import PoolEntry, Use


class RecordProbe(Probe):
    """Answer the ledger's questions by looking at SQLAlchemy's connection record."""

    def already_returned(self, entry: PoolEntry, use: Use) -> bool:
        """Tell whether the record was given back although no return was reported.

        SQLAlchemy clears `fairy_ref` first of all when a record is given back. A record that
        has lost its connection too is being detached, and its event is on its way.
        """
        record = entry.record_ref() if entry.record_ref is not None else None
        if record is None or len(entry.uses) > 1:
            return False
        fairy = use.fairy_ref()
        if fairy is not None and mark_of(fairy) is not None:
            return False  # its connection is shared: another's return cleared `fairy_ref`, it reports its own
        return record.fairy_ref is None and record.dbapi_connection is not None

    def busy(self, entry: PoolEntry, use: Use) -> bool:
        """Tell whether a server-side cursor is open in the use or its driver is at work."""
        context = entry.stream_ref() if entry.stream_ref is not None else None
        if context is not None and _cursor_open(context.cursor):
            return True
        return drivers.busy(_driver_connection(entry))

    def in_transaction(self, entry: PoolEntry) -> bool | None:
        """Tell whether the connection is in a transaction, None where the driver cannot tell."""
        connection = _driver_connection(entry)
        return None if connection is None else drivers.in_transaction(connection)

    def details(self, entry: PoolEntry, use: Use) -> ConnectionDetails:
        """Return what the driver and the use's task tell without I/O."""
        task = use.task_ref() if use.task_ref is not None else None
        stack = stacks.task_stack(task)
        connection = _driver_connection(entry)
        if connection is None:
            return ConnectionDetails(stack=stack)
        return ConnectionDetails(
            in_transaction=drivers.in_transaction(connection),
            backend_pid=drivers.backend_pid(connection),
            local_port=drivers.local_port(connection),
            stack=stack,
        )


def _driver_connection(entry: PoolEntry) -> Any:
    record = entry.record_ref() if entry.record_ref is not None else None
    return record.driver_connection if record is not None else None


def _cursor_open(cursor: Any) -> bool:
    if cursor is None:
        return False
    inner = getattr(cursor, "_cursor", cursor)  # the driver's own, None once closed
    return inner is not None and not getattr(inner, "closed", False)
