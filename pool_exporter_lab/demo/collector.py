"""Let the garbage collector run often, as in a busier process, and SQLAlchemy's word on it stay inside."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import warnings
from collections.abc import AsyncIterator, Iterator

from sqlalchemy.exc import SAWarning

PAUSE_SECONDS = 0.5


@contextlib.asynccontextmanager
async def collecting() -> AsyncIterator[asyncio.Task[None]]:
    """Run the collector twice a second and once more at the end; yield the task that does it."""
    with _quiet():
        task = asyncio.create_task(_collect())
        try:
            yield task
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            gc.collect()


async def _collect() -> None:
    while True:
        await asyncio.sleep(PAUSE_SECONDS)
        gc.collect()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep SQLAlchemy's log record and warning of each such connection off stderr; they do not say whose it was."""
    logger, handler = logging.getLogger("sqlalchemy.pool"), logging.NullHandler()
    propagate = logger.propagate
    logger.addHandler(handler)
    logger.propagate = False
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The garbage collector is trying to clean up", SAWarning)
            yield
    finally:
        logger.propagate = propagate
        logger.removeHandler(handler)
