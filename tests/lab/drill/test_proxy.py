"""The proxy does to a connection what a network does: it cuts, falls silent, and is slow."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from pool_exporter_lab.drill.proxy import Proxy, proxying

DEADLINE_SECONDS = 10.0


@contextlib.asynccontextmanager
async def echoing(path: Path) -> AsyncIterator[Proxy]:
    """Run a proxy before a server that sends back each line."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            writer.write(line)
        writer.close()

    async with await asyncio.start_unix_server(serve, str(path)), proxying(path) as proxy:
        yield proxy


class Client:
    """A connection through the proxy."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def echo(self, seconds: float = DEADLINE_SECONDS) -> bytes:
        """Send a line and return the answer: b"" if the connection was cut."""
        self.writer.write(b"hello\n")
        return await asyncio.wait_for(self.reader.readline(), seconds)


@contextlib.asynccontextmanager
async def connected(proxy: Proxy) -> AsyncIterator[Client]:
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    try:
        yield Client(reader, writer)
    finally:
        writer.close()


async def test_bytes_pass_both_ways(tmp_path: Path) -> None:
    """Without a fault what is sent comes back."""
    async with echoing(tmp_path / "s") as proxy, connected(proxy) as client:
        assert await client.echo() == b"hello\n"


async def test_a_cut_ends_the_connections_so_far_and_no_later_one(tmp_path: Path) -> None:
    """After cut() an open connection is at its end, and a new one works."""
    async with echoing(tmp_path / "s") as proxy, connected(proxy) as client:
        assert await client.echo() == b"hello\n"
        proxy.cut()
        assert await asyncio.wait_for(client.reader.read(), DEADLINE_SECONDS) == b""
        async with connected(proxy) as later:
            assert await later.echo() == b"hello\n"


async def test_silence_is_for_new_connections_until_it_ends(tmp_path: Path) -> None:
    """A new connection is accepted and not answered; an old one goes on; the new one does when silence ends."""
    async with echoing(tmp_path / "s") as proxy, connected(proxy) as old:
        assert await old.echo() == b"hello\n"
        proxy.silent = True
        async with connected(proxy) as new:
            with pytest.raises(asyncio.TimeoutError):
                await new.echo(0.3)
            assert await old.echo() == b"hello\n"
            proxy.silent = False
            assert await asyncio.wait_for(new.reader.readline(), DEADLINE_SECONDS) == b"hello\n"


async def test_what_is_idle_for_too_long_is_cut(tmp_path: Path) -> None:
    """A connection on which nothing passes ends by itself once idle_seconds is set."""
    async with echoing(tmp_path / "s") as proxy, connected(proxy) as client:
        assert await client.echo() == b"hello\n"
        proxy.idle_seconds = 0.1
        assert await asyncio.wait_for(client.reader.read(), DEADLINE_SECONDS) == b""


async def test_a_delay_is_added_to_each_message(tmp_path: Path) -> None:
    """An answer takes at least the delay."""
    async with echoing(tmp_path / "s") as proxy, connected(proxy) as client:
        proxy.delay_seconds = 0.2
        before = time.monotonic()
        assert await client.echo() == b"hello\n"
        assert time.monotonic() - before >= 0.2


async def test_a_proxy_that_refuses_hangs_up_on_new_connections_alone(tmp_path: Path) -> None:
    """A connection from before goes on, a new one is at its end at once, and later ones work again."""
    async with echoing(tmp_path / "s") as proxy, connected(proxy) as old:
        assert await old.echo() == b"hello\n"
        proxy.refuses = True
        async with connected(proxy) as new:
            assert await asyncio.wait_for(new.reader.read(), DEADLINE_SECONDS) == b""
        assert await old.echo() == b"hello\n"
        proxy.refuses = False
        async with connected(proxy) as later:
            assert await later.echo() == b"hello\n"
