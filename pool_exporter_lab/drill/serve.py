"""Run an application of a drill as a process: `python -m pool_exporter_lab.drill.serve SETTINGS DESCRIPTOR`."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import sys

from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool, NullPool

from pool_exporter import instrument
from pool_exporter_lab.demo.collector import collecting
from pool_exporter_lab.demo.web import served
from pool_exporter_lab.drill.application import application
from pool_exporter_lab.drill.mishaps import bring_along
from pool_exporter_lab.drill.scale import POLICY
from pool_exporter_lab.drill.settings import Settings, decoded
from pool_exporter_lab.drill.state import State


def main(settings: Settings, listener: socket.socket) -> None:
    """Serve until SIGTERM."""
    asyncio.run(_serve(settings, listener))


async def _serve(settings: Settings, listener: socket.socket) -> None:
    ending = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ending.set)
    engine = _engine(settings)
    pool = instrument(engine, name=settings.name, leaks=POLICY)
    async with contextlib.AsyncExitStack() as stack:
        if settings.collects:
            await stack.enter_async_context(collecting())
        state = State(engine, pool)
        if settings.fallible:
            bring_along(state)
        await stack.enter_async_context(served(application(state), listener))
        await ending.wait()


def _engine(settings: Settings) -> AsyncEngine:
    if settings.null_pool:
        return create_async_engine(settings.url, poolclass=NullPool, connect_args=dict(settings.connect))
    return create_async_engine(
        settings.url,
        poolclass=AsyncAdaptedQueuePool,
        connect_args=dict(settings.connect),
        **settings.pool,
    )


if __name__ == "__main__":
    main(decoded(sys.argv[1]), socket.socket(fileno=int(sys.argv[2])))
