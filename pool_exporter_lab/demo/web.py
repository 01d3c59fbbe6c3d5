"""Serve the demo's application with uvicorn, on a loopback port taken beforehand."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
from collections.abc import AsyncIterator, Iterator

import uvicorn
from starlette.types import ASGIApp

from pool_exporter_lab.demo.errors import DemoError

HOST = "127.0.0.1"

_POLL_SECONDS = 0.01


def listen(port: int) -> socket.socket:
    """Return a socket that listens on a loopback port, 0 for any free one.

    Taking it before anything else starts makes a port in use the first thing to be said. Raises
    `DemoError` if it cannot be had.
    """
    try:
        return socket.create_server((HOST, port))
    except OSError as error:
        why = (
            "is in use"
            if error.errno == errno.EADDRINUSE
            else f"cannot be opened ({os.strerror(error.errno or 0)})"
        )
        raise DemoError(
            f"argument --port: {port} {why} on {HOST}; name another port, or 0 for any free one",
            exit_code=2,
        ) from error


@contextlib.asynccontextmanager
async def served(app: ASGIApp, listener: socket.socket) -> AsyncIterator[asyncio.Task[None]]:
    """Serve `app` on `listener`; yield the server's task once it answers, and close it at the end."""
    config = uvicorn.Config(
        app,
        lifespan="off",
        ws="none",
        access_log=False,
        log_config=None,
        log_level="critical",  # errors are the application's to answer; a traceback may hold SQL
        timeout_graceful_shutdown=2,
    )
    server = _Server(config)
    task = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        while not server.started and not task.done():
            await asyncio.sleep(_POLL_SECONDS)
        yield task
    finally:
        server.should_exit = True
        await task


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to the demo, which has more to stop than this server."""
        yield
