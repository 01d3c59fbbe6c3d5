"""Name the task in progress, and the names by which this package marks SQLAlchemy's objects."""

from __future__ import annotations

import threading
from typing import Any

try:
    from greenlet import getcurrent
except ImportError:  # SQLAlchemy 2.1 installs greenlet only with its asyncio extra
    getcurrent = None  # type: ignore[assignment]  # tested for below

__all__ = ["ATTRIBUTE", "getcurrent", "mark_of", "task_key"]

ATTRIBUTE = "_pool_exporter"
"""The attribute under which this package keeps its own object on one of SQLAlchemy's."""


def task_key() -> int:
    """Return a number that is the same throughout one call into SQLAlchemy.

    Under asyncio SQLAlchemy runs each call in a greenlet of its own; a synchronous call stays
    in its thread.
    """
    if getcurrent is not None:
        return id(getcurrent())
    return threading.get_ident()


def mark_of(target: Any) -> Any:
    """Return what this package keeps on one of SQLAlchemy's objects, None if nothing."""
    try:
        return target.__dict__.get(ATTRIBUTE)
    except AttributeError:
        return None
