"""Name exceptions as the driver names them, and tell a cancellation from a failure."""

from __future__ import annotations

import asyncio
import sys
from types import CodeType
from typing import Any

from sqlalchemy.exc import TimeoutError as PoolTimeoutError

POOL_TIMEOUT_CODE = "3o7r"
"""SQLAlchemy's code of the exception that a full pool raises."""


def is_pool_timeout(error: BaseException) -> bool:
    """Tell whether this is SQLAlchemy's pool timeout, not a driver's or an asyncio one."""
    return isinstance(error, PoolTimeoutError) and error.code == POOL_TIMEOUT_CODE


def is_cancellation(error: BaseException) -> bool:
    """Tell whether the error asks the caller to stop rather than says that something failed."""
    if isinstance(error, asyncio.CancelledError):
        return True
    # Where nobody has imported greenlet, nothing raises it.
    stop: Any = getattr(sys.modules.get("greenlet"), "GreenletExit", None)
    return stop is not None and isinstance(error, stop)


def driver_error(error: BaseException) -> str:
    """Return the `module.Class` of the driver's own exception behind SQLAlchemy's wrappers."""
    seen = 0
    while seen < 8 and type(error).__module__.startswith("sqlalchemy."):
        cause: Any = getattr(error, "orig", None) or error.__cause__
        if not isinstance(cause, BaseException):
            break
        error = cause
        seen += 1
    return f"{type(error).__module__}.{type(error).__qualname__}"


def passed_through(error: BaseException, code: CodeType) -> bool:
    """Tell whether the error came out of a call of the function that has this code."""
    step = error.__traceback__
    while step is not None:
        if step.tb_frame.f_code is code:
            return True
        step = step.tb_next
    return False
