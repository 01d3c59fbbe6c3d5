"""Name the task in progress, and the names by which this package marks SQLAlchemy's objects."""

from __future__ import annotations

import sys
import threading
from typing import Any

ATTRIBUTE = "_pool_exporter"
"""The attribute under which this package keeps its own object on one of SQLAlchemy's."""


def current_greenlet() -> Any:
    """Return the greenlet in progress, None where there can be none: nobody has imported them.

    Not imported here: SQLAlchemy 2.1 installs greenlet only with its asyncio extra, and a synchronous
    application has no use for it.
    """
    greenlet = sys.modules.get("greenlet")
    getcurrent = getattr(greenlet, "getcurrent", None)  # absent while it is still being imported
    return None if getcurrent is None else getcurrent()


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
