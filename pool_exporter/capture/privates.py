"""List every private name of SQLAlchemy that this package touches, and say which are missing.

`missing()` is what a test runs after an upgrade, and what `instrument()` asks before it relies
on the seam: on a SQLAlchemy where one is gone, it falls back to events.
"""

from __future__ import annotations

from importlib import import_module

TESTED_MINORS = ((2, 0), (2, 1))
"""The SQLAlchemy minor versions on which the whole truth table is tested."""

PRIVATE_NAMES = (
    # Overridden on the pool's class.
    "sqlalchemy.pool.base:Pool._return_conn",
    "sqlalchemy.pool.base:Pool._do_return_conn",
    "sqlalchemy.pool.base:Pool._close_connection",
    "sqlalchemy.pool.base:_ConnectionFairy._checkout",
    "sqlalchemy.pool.impl:QueuePool._dec_overflow",
    "sqlalchemy.pool.impl:SingletonThreadPool._cleanup",
    # Replaced on the pool (an instance attribute made by the setter of `_creator`).
    "sqlalchemy.pool.base:Pool._should_wrap_creator",
    # Overridden on the class of the fairies of a pool that shares its connection.
    "sqlalchemy.pool.base:_ConnectionFairy._checkin",
    "sqlalchemy.pool.base:_ConnectionFairy._connection_record",
    # Recognised in the traceback of a failed reset.
    "sqlalchemy.pool.base:_ConnectionFairy._reset",
    # Read: what a connection record says of its fairy and of its age.
    "sqlalchemy.pool.base:_ConnectionRecord.fairy_ref",
    "sqlalchemy.pool.base:_ConnectionRecord.starttime",
    "sqlalchemy.pool.base:_ConnectionRecord._ConnectionRecord__pool",
    "sqlalchemy.pool.base:_ConnectionRecord._soft_invalidate_time",
    # Used to add listeners to a copy of a target's own.
    "sqlalchemy.event.base:_Dispatch._update",
    "sqlalchemy.engine.interfaces:Dialect._has_events",
    # Wrapped by instrument_all().
    "sqlalchemy.engine.url:URL._instantiate_plugins",
)
"""`module:Class.attribute` of what lives on classes."""

PRIVATE_INSTANCE_NAMES = {
    "sqlalchemy.pool.base:Pool": (
        "_dialect",
        "_invalidate_time",
        "_invoke_creator",
        "_orig_logging_name",
        "_pre_ping",
        "_recycle",
        "_reset_on_return",
    ),
    "sqlalchemy.pool.impl:QueuePool": ("_max_overflow", "_overflow", "_pool", "_timeout"),
    "sqlalchemy.pool.impl:SingletonThreadPool": ("_fairy",),
    "sqlalchemy.engine.base:Connection": ("_dbapi_connection",),
    "sqlalchemy.engine.base:OptionEngine": ("_proxied",),
    "sqlalchemy.engine.default:DefaultExecutionContext": ("_is_server_side",),
}
"""Attributes that only instances have, by `module:Class`; a test makes the instances."""


def missing() -> list[str]:
    """Return the names of `PRIVATE_NAMES` that this SQLAlchemy does not have."""
    absent = []
    for name in PRIVATE_NAMES:
        module, _, path = name.partition(":")
        class_name, _, attribute = path.partition(".")
        owner = getattr(import_module(module), class_name, None)
        if owner is None or not hasattr(owner, attribute):
            absent.append(name)
    return absent
