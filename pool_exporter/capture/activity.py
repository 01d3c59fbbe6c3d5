"""Tell what a use is doing at this moment, without I/O: from the record, the cursor, the driver."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

from pool_exporter.capture.context import mark_of
from pool_exporter.uses import Entry, Use

PSYCOPG_ACTIVE = 1  # psycopg.pq.TransactionStatus.ACTIVE: a command or a COPY is in progress


class RecordProbe:
    """Answer the ledger's questions by looking at SQLAlchemy's connection record."""

    def ended_silently(self, entry: Entry, use: Use) -> bool:
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

    def busy(self, entry: Entry, use: Use) -> bool:
        """Tell whether a server-side cursor is open in the use or its driver is at work."""
        context = entry.stream_ref() if entry.stream_ref is not None else None
        if context is not None and _cursor_open(context.cursor):
            return True
        record = entry.record_ref() if entry.record_ref is not None else None
        return record is not None and _driver_busy(record.driver_connection)


def _cursor_open(cursor: Any) -> bool:
    if cursor is None:
        return False
    inner = getattr(cursor, "_cursor", cursor)  # the driver's own, None once closed
    return inner is not None and not getattr(inner, "closed", False)


def _driver_busy(connection: Any) -> bool:
    info = getattr(connection, "info", None)
    if getattr(info, "transaction_status", None) == PSYCOPG_ACTIVE:
        return True
    locked = getattr(getattr(connection, "lock", None), "locked", None)  # psycopg, in notifies() too
    if callable(locked) and locked():
        return True
    if getattr(getattr(connection, "_stmt_exclusive_section", None), "_acquired", 0):  # asyncpg
        return True
    listeners = getattr(connection, "_listeners", None)  # asyncpg, after LISTEN
    if listeners and isinstance(listeners, dict):
        return True
    return _awaits_answer(getattr(connection, "_protocol", None))


def _awaits_answer(protocol: Any) -> bool:
    """Tell whether asyncpg's protocol waits for the server, in a COPY for one.

    It says so nowhere but in a future, which its C class lets nobody see but the collector.
    """
    if type(protocol).__module__.partition(".")[0] != "asyncpg":
        return False
    return any(isinstance(one, asyncio.Future) and not one.done() for one in gc.get_referents(protocol))
