"""Tell what a driver knows of its own connection, without I/O: at work, in a transaction, pid, port.

What is asked is SQLAlchemy's *driver connection*. Its driver is known by the module of its class and
is never imported. All functions may be called from any thread, at any time; of a connection that is
closed, or of a driver that is not known, they tell nothing. What a driver last heard from its server
stands until it notices that the server is gone.
"""

from __future__ import annotations

import asyncio
import gc
import os
import socket
from typing import Any

PSYCOPG = ("psycopg", "psycopg2")
SQLITE = ("sqlite3", "aiosqlite")
MYSQL = ("pymysql", "asyncmy", "aiomysql")
DRIVERS = frozenset(("asyncpg", *PSYCOPG, *SQLITE, *MYSQL))
"""The drivers that are known, by the package that their connections come from."""

IDLE, ACTIVE, IN_TRANSACTION, IN_ERROR = range(4)
"""libpq's PGTransactionStatusType; ACTIVE means that a command or a COPY is in progress."""
SERVER_STATUS_IN_TRANS, SERVER_STATUS_AUTOCOMMIT = 1, 2
"""Bits of the status that a MySQL server sends at the end of its answers."""


def busy(connection: Any) -> bool:
    """Tell whether the driver is at work: a call, a COPY, or a LISTEN for which it waits."""
    driver = _driver_of(connection)
    if driver == "asyncpg":
        return (
            bool(_read(_read(connection, "_stmt_exclusive_section"), "_acquired"))
            or bool(_read(connection, "_listeners"))  # after LISTEN
            or _awaits_answer(_read(connection, "_protocol"))
        )
    if driver in PSYCOPG:
        locked = _ask(_read(connection, "lock"), "locked")  # in notifies() too
        return locked is True or _read(_read(connection, "info"), "transaction_status") == ACTIVE
    return False


def in_transaction(connection: Any) -> bool | None:
    """Tell whether a transaction is open on the server, a failed one too; None where it cannot be known.

    That is the server's sense of it: SQLAlchemy's own transaction begins there with its first
    statement, and in SQLite with the first that writes.
    """
    driver = _open_driver_of(connection)
    if driver == "asyncpg":
        return _flag(_ask(connection, "is_in_transaction"))
    if driver in SQLITE:
        return _flag(_read(connection, "in_transaction"))
    if driver in PSYCOPG:
        return _in_psycopg_transaction(connection)
    if driver in MYSQL:
        return _in_mysql_transaction(connection)
    return None


def backend_pid(connection: Any) -> int | None:
    """Return the server's id of the connection: PostgreSQL's backend pid, MySQL's thread id."""
    driver = _open_driver_of(connection)
    if driver == "asyncpg":
        return _positive(_ask(connection, "get_server_pid"))
    if driver in PSYCOPG:
        return _positive(_read(_read(connection, "info"), "backend_pid"))
    if driver in MYSQL:
        return _positive(_ask(connection, "thread_id"))
    return None


def local_port(connection: Any) -> int | None:
    """Return the port of this end of a TCP connection; None on a Unix socket."""
    driver = _open_driver_of(connection)
    name: Any = None
    if driver in PSYCOPG:
        name = _name_of_socket(_ask(connection, "fileno"))
    elif driver == "pymysql":
        name = _ask(_read(connection, "_sock"), "getsockname")
    elif driver in ("asyncpg", "asyncmy", "aiomysql"):
        name = _ask(_transport(connection), "get_extra_info", "sockname")
    return _positive(name[1]) if isinstance(name, tuple) and len(name) > 1 else None


def _in_psycopg_transaction(connection: Any) -> bool | None:
    """Ask libpq, which hides behind ACTIVE whether the command in progress is in a transaction.

    Without autocommit every command is, since psycopg begins one before the first.
    """
    status = _read(_read(connection, "info"), "transaction_status")
    if status == ACTIVE:
        return True if _read(connection, "autocommit") is False else None
    return {IDLE: False, IN_TRANSACTION: True, IN_ERROR: True}.get(status)


def _in_mysql_transaction(connection: Any) -> bool | None:
    """Ask for the server's last status, which most drivers do not take from the end of a result set.

    So without autocommit a result may have begun a transaction that they do not know of.
    """
    status = _read(connection, "server_status")
    if not isinstance(status, int):
        return None
    if status & SERVER_STATUS_IN_TRANS:
        return True
    result = _read(connection, "_result")  # of the last command; none after a commit or a rollback
    if status & SERVER_STATUS_AUTOCOMMIT or result is None or _read(result, "server_status"):
        return False
    return None


def _awaits_answer(protocol: Any) -> bool:
    """Tell whether asyncpg's protocol waits for the server, in a COPY for one.

    It says so nowhere but in a future, which its C class lets nobody see but the collector.
    """
    return any(isinstance(one, asyncio.Future) and not one.done() for one in gc.get_referents(protocol))


def _transport(connection: Any) -> Any:
    """Return the asyncio transport of a connection, or the writer that aiomysql and old asyncmy have."""
    return _read(connection, "_transport") or _read(connection, "_writer")


def _name_of_socket(descriptor: Any) -> Any:
    """Return the name of this end of a socket that libpq owns; of a copy, for nothing here to close it."""
    try:
        duplicate = os.dup(descriptor)
    except (OSError, TypeError):  # closed meanwhile, or never open
        return None
    try:
        twin = socket.socket(fileno=duplicate)
    except OSError:  # not a socket any more
        os.close(duplicate)
        return None
    with twin:
        return _ask(twin, "getsockname")


def _driver_of(connection: Any) -> str | None:
    """Return the known driver of a connection, of a subclass or a wrapper too; None if there is none."""
    # Not type(): a wrapper's `__class__` is that of what it wraps.
    for kind in _ask(_read(connection, "__class__"), "mro") or ():
        package = str(kind.__module__).partition(".")[0]
        if package in DRIVERS:
            return package
    return None


def _open_driver_of(connection: Any) -> str | None:
    """Return the known driver of a connection that is open; libpq and SQLite refuse what is closed themselves."""
    driver = _driver_of(connection)
    closed = False
    if driver == "asyncpg":
        closed = _ask(connection, "is_closed") is True
    elif driver == "pymysql":
        closed = _read(connection, "open") is False
    elif driver in ("asyncmy", "aiomysql"):
        closed = _ask(_transport(connection), "is_closing") is not False  # None once it is closed
    return None if closed else driver


def _read(asked: Any, name: str) -> Any:
    """Return an attribute; None where it is missing, or where a driver refuses it when closed."""
    try:
        return getattr(asked, name)
    except Exception:  # each driver raises its own
        return None


def _ask(asked: Any, method: str, *arguments: object) -> Any:
    """Call a method that does no I/O; None where it is missing, or where a driver refuses when closed."""
    try:
        return getattr(asked, method)(*arguments)
    except Exception:  # each driver raises its own
        return None


def _flag(answer: Any) -> bool | None:
    return answer if isinstance(answer, bool) else None


def _positive(answer: Any) -> int | None:
    return answer if isinstance(answer, int) and answer > 0 else None
