"""The names by which this package marks SQLAlchemy's objects, and a key for the task in progress."""

from __future__ import annotations

import threading
from typing import Any

from pool_exporter.capture.callers.greenlets import current_greenlet

ATTRIBUTE = "_pool_exporter"
"""The attribute under which this package keeps its own object on one of SQLAlchemy's."""


def task_key() -> int:
    """Return a number that is the same throughout one call into SQLAlchemy.

    Under asyncio SQLAlchemy runs each call in a greenlet of its own; a synchronous call stays
    in its thread.
    """
    greenlet = current_greenlet()
    return threading.get_ident() if greenlet is None else id(greenlet)


def mark_of(target: Any) -> Any:
    """Return what this package keeps on one of SQLAlchemy's objects, None if nothing."""
    try:
        return target.__dict__.get(ATTRIBUTE)
    except AttributeError:
        return None
