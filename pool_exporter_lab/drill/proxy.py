"""Stand between an application and its database as a network does: slow, forgetful, or silent."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

from pool_exporter_lab.drill.processes import listen

_CHUNK_BYTES = 65536
_TICK_SECONDS = 0.05

Open = Callable[[], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]


class Proxy:
    """Pass bytes on between a loopback port and a server; each fault is an attribute that acts at once.

    - `delay_seconds`: added to each message towards the server.
    - `connect_delay_seconds`: before a new connection is passed on.
    - `silent`: new connections are accepted and then nothing comes: half-open, as behind a firewall
      that drops packets.
    - `refuses`: new connections are closed at once, as by a sidecar that is not ready.
    - `cut()`: every connection so far is closed.
    - `idle_seconds`: a connection on which nothing passed for so long is cut, on both sides; None never.
    """

    def __init__(self, port: int, open_server: Open) -> None:
        self.port = port
        self.delay_seconds = 0.0
        self.connect_delay_seconds = 0.0
        self.silent = False
        self.refuses = False
        self.idle_seconds: float | None = None
        self._open_server = open_server
        self._cuts = 0

    def cut(self) -> None:
        """Close every connection that is passed on now."""
        self._cuts += 1

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take care of one client until it, the server or a fault ends it."""
        with contextlib.suppress(OSError):
            try:
                while self.silent:  # and if it heals meanwhile, the client has its connection after all
                    if reader.at_eof():
                        return
                    await asyncio.sleep(_TICK_SECONDS)
                if self.refuses:
                    return
                await asyncio.sleep(self.connect_delay_seconds)
                await self._pass_on(reader, writer)
            finally:
                writer.close()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server_reader, server_writer = await self._open_server()
        passed = [time.monotonic()]
        tasks = [
            asyncio.ensure_future(self._pump(reader, server_writer, passed, towards_server=True)),
            asyncio.ensure_future(self._pump(server_reader, writer, passed, towards_server=False)),
            asyncio.ensure_future(self._until_cut(passed)),
        ]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            server_writer.close()

    async def _pump(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        passed: list[float],
        *,
        towards_server: bool,
    ) -> None:
        while data := await reader.read(_CHUNK_BYTES):
            passed[0] = time.monotonic()
            if towards_server and self.delay_seconds:
                await asyncio.sleep(self.delay_seconds)
            writer.write(data)
            await writer.drain()

    async def _until_cut(self, passed: list[float]) -> None:
        cuts = self._cuts
        while cuts == self._cuts and (
            self.idle_seconds is None or time.monotonic() - passed[0] < self.idle_seconds
        ):
            await asyncio.sleep(_TICK_SECONDS)


@contextlib.asynccontextmanager
async def proxying(server_socket: Path) -> AsyncIterator[Proxy]:
    """Run a proxy in front of a server's Unix socket."""

    async def open_server() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_unix_connection(str(server_socket))

    listener = listen()
    proxy = Proxy(int(listener.getsockname()[1]), open_server)
    clients: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            clients.add(task)
            task.add_done_callback(clients.discard)
        with contextlib.suppress(asyncio.CancelledError):  # asyncio would log it; it is the end
            await proxy.serve(reader, writer)

    listening = await asyncio.start_server(serve, sock=listener)
    try:
        yield proxy
    finally:
        listening.close()
        for client in list(clients):
            client.cancel()
        await asyncio.gather(*clients, return_exceptions=True)
