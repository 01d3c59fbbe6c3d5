"""Wrap the functions of one dialect instance that show pre-pings and the activity of a use."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

from pool_exporter.capture.errors import is_cancellation
from pool_exporter.capture.marks import mark_of
from pool_exporter.capture.tap import Tap
from pool_exporter.ledger.uses import PoolEntry

_STATEMENTS = ("do_execute", "do_executemany", "do_execute_no_params")

_ALWAYS_IN_TRANSACTION = frozenset({"asyncpg", "psycopg", "psycopg2"})
"""Drivers that are in a transaction from the first statement on, and tell it. So a rollback shows at the
ledger's next look, and `do_rollback` is left alone: it is on the hot path, for every return rolls back."""

MAX_TEXT_LENGTH = 2000
"""Characters kept of a statement, where its text was asked for."""


def wrap_dialect(tap: Tap, dialect: Any, *, statements: bool, sql_text: bool = False) -> Callable[[], None]:
    """Put the wrappers on the instance; return a function that takes off those still on top.

    With `statements` off, statements are neither counted nor seen as activity. With `sql_text`
    the text of the last one is kept.
    """
    wrappers = {"do_ping": _ping(tap, dialect.do_ping)}
    if statements:
        for name in _STATEMENTS:
            original = getattr(dialect, name)
            wrappers[name] = (_statement_with_text if sql_text else _statement)(tap, original)
        wrappers["do_commit"] = _end_of_transaction(tap, dialect.do_commit)
        if dialect.driver not in _ALWAYS_IN_TRANSACTION:
            wrappers["do_rollback"] = _end_of_transaction(tap, dialect.do_rollback)
    for name, wrapper in wrappers.items():
        setattr(dialect, name, wrapper)

    def unwrap() -> None:
        for name, wrapper in wrappers.items():
            if dialect.__dict__.get(name) is wrapper:
                previous = wrapper.__wrapped__
                if getattr(previous, "__self__", None) is dialect:
                    del dialect.__dict__[name]
                else:
                    setattr(dialect, name, previous)

    return unwrap


def _ping(tap: Tap, original: Callable[..., Any]) -> Callable[..., Any]:
    def do_ping(dbapi_connection: Any) -> Any:
        entry = _ping_begun(tap, dbapi_connection)
        if entry is None:
            return original(dbapi_connection)  # a ping of the application's own
        began = tap.ledger.clock()
        try:
            alive = original(dbapi_connection)
        except BaseException as error:
            _ping_ended(tap, entry, began, alive=False, error=error)
            raise
        _ping_ended(tap, entry, began, alive=bool(alive))
        return alive

    return _wraps(do_ping, original)


def _ping_begun(tap: Tap, dbapi_connection: Any) -> PoolEntry | None:
    try:
        entry = tap.ledger.entry_of(id(dbapi_connection))
        if entry is None or not tap.active:
            return None
        tap.ledger.settle()
        if entry.uses and not tap.reports_acquire(
            tap
        ):  # in use, and not being acquired once more (StaticPool)
            return None
        entry.pinging = True
    except Exception as error:
        tap.fault("ping", error)
        return None
    return entry


def _ping_ended(
    tap: Tap, entry: PoolEntry, began: float, *, alive: bool, error: BaseException | None = None
) -> None:
    entry.pinging = False
    try:
        if error is not None and is_cancellation(error):
            return  # it did not come to an end
        if not alive:
            entry.close_reason = "pre_ping"
        tap.ledger.ping_ended(tap.ledger.clock() - began, alive=alive)
    except Exception as failure:
        tap.fault("ping", failure)


def _statement_with_text(tap: Tap, original: Callable[..., Any]) -> Callable[..., Any]:
    execute = _statement(tap, original)

    def execute_with_text(cursor: Any, statement: Any, *arguments: Any, **options: Any) -> Any:
        try:
            context: Any = options.get("context") if options else arguments[-1]
            entry = mark_of(context.root_connection._dbapi_connection._connection_record)
            if isinstance(entry, PoolEntry) and entry.use is not None:
                entry.use.statement = str(statement)[:MAX_TEXT_LENGTH]
        except Exception as error:
            tap.fault("statement_text", error)
        return execute(cursor, statement, *arguments, **options)

    return _wraps(execute_with_text, original)


def _statement(tap: Tap, original: Callable[..., Any]) -> Callable[..., Any]:
    ledger = tap.ledger

    def execute(cursor: Any, *arguments: Any, **options: Any) -> Any:
        # SQLAlchemy passes the execution context last: (cursor, statement[, parameters], context).
        entry = _begin(tap, options.get("context") if options else arguments[-1])
        if entry is None:
            return original(cursor, *arguments, **options)
        try:
            return original(cursor, *arguments, **options)
        finally:
            entry.running -= 1
            try:  # noqa: SIM105  # as below
                entry.use.active_at = ledger.clock()  # type: ignore[union-attr]  # caught
            except AttributeError:  # the use ended meanwhile
                pass

    return _wraps(execute, original)


def _begin(tap: Tap, context: Any) -> PoolEntry | None:
    """Count a statement on its connection; None where it belongs to no use of ours.

    Such are the statements of a detached connection and of dialect initialisation.
    """
    try:
        record = context.root_connection._dbapi_connection._connection_record
        if record is None or not tap.active:
            return None
        entry: PoolEntry = record._pool_exporter
        use = entry.use
        if use is None or entry.ledger is not tap.ledger:
            return None
        entry.running += 1
        use.active_at = tap.ledger.clock()
        if context._is_server_side:
            entry.stream_ref = weakref.ref(context)
        if entry.shared:
            tap.ledger.statement()
        else:
            entry.statements += 1  # one caller has the connection, so nothing else counts here
    except AttributeError:  # a record that nobody reported yet
        return None
    except Exception as error:
        tap.fault("statement", error)
        return None
    return entry


def _end_of_transaction(tap: Tap, original: Callable[..., Any]) -> Callable[..., Any]:
    ledger = tap.ledger

    def end_transaction(dbapi_connection: Any) -> Any:
        try:
            use = dbapi_connection._connection_record._pool_exporter.use
            use.active_at = ledger.clock()
            use.was_in_transaction = False
        except AttributeError:  # a detached connection, a use that ended, one never seen
            pass
        return original(dbapi_connection)

    return _wraps(end_transaction, original)


def _wraps(wrapper: Any, original: Any) -> Callable[..., Any]:
    wrapper.__wrapped__ = original
    wrapper.__name__ = getattr(original, "__name__", wrapper.__name__)
    result: Callable[..., Any] = wrapper
    return result
