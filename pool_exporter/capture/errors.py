"""Name exceptions as the driver names them, and tell a cancellation from a failure."""

from __future__ import annotations

import asyncio
from types import CodeType
from typing import Any

from sqlalchemy.exc import TimeoutError as PoolTimeoutError

try:
    from greenlet import GreenletExit
except ImportError:  # without greenlet nothing raises it

    class GreenletExit(BaseException):  # type: ignore[no-redef]  # a stand-in that is never raised
        """Stand in for greenlet's exception."""


POOL_TIMEOUT_CODE = "3o7r"
"""SQLAlchemy's code of the exception that a full pool raises."""


def is_pool_timeout(error: BaseException) -> bool:
    """Tell whether this is SQLAlchemy's pool timeout, not a driver's or an asyncio one."""
    return isinstance(error, PoolTimeoutError) and error.code == POOL_TIMEOUT_CODE


def is_cancellation(error: BaseException) -> bool:
    """Tell whether the error asks the caller to stop rather than says that something failed."""
    return isinstance(error, (asyncio.CancelledError, GreenletExit))


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
