"""Restart the demo's database server again and again, as an upgrade or a failover does."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from pool_exporter_lab.demo.postgresql import Server

UP_SECONDS = 8.0
DOWN_SECONDS = 2.0


@contextlib.asynccontextmanager
async def restarting(server: Server) -> AsyncIterator[asyncio.Task[None]]:
    """Stop the server after `UP_SECONDS` and start it after `DOWN_SECONDS`, in turns; yield the task that does it."""
    task = asyncio.create_task(_restart(server))
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _restart(server: Server) -> None:
    while True:
        await asyncio.sleep(UP_SECONDS)
        server.stop()
        await asyncio.sleep(DOWN_SECONDS)
        await server.start()
