"""Say what the ledger asks of a use that no event tells, and what it gets where nobody can answer."""

from __future__ import annotations

from typing import NamedTuple

from pool_exporter.ledger.uses import PoolEntry, Use


class ConnectionDetails(NamedTuple):
    """What a driver and a task tell of a use without I/O, as in `HeldConnection`."""

    in_transaction: bool | None = None
    backend_pid: int | None = None
    local_port: int | None = None
    stack: tuple[str, ...] = ()


class Probe:
    """Answer what the ledger asks about a use that no event has ended; must not raise or do I/O.

    This one knows no more than the events told.
    """

    def already_returned(self, entry: PoolEntry, use: Use) -> bool:
        """Tell whether the use is over although nothing said so."""
        return False

    def busy(self, entry: PoolEntry, use: Use) -> bool:
        """Tell whether the driver works for this use at this moment."""
        return False

    def in_transaction(self, entry: PoolEntry) -> bool | None:
        """Tell whether the connection is in a transaction, None where the driver cannot tell."""
        return None

    def details(self, entry: PoolEntry, use: Use) -> ConnectionDetails:
        """Return what is to be known of a use, for a record of it."""
        return ConnectionDetails()
