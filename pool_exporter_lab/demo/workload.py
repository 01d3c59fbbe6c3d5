"""Drive the demo with crowds of HTTP clients, each of which asks for its own things at its own pace."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count

Request = tuple[str, str]
"""Method and target."""

_AWAY_SECONDS = 0.1
_RETRY_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Crowd:
    """Hold what clients of one kind do.

    - `clients`: how many there are at most.
    - `choose`: returns the next request that the dice, a client's own, fall for.
    - `pause`: returns the seconds before that request, likewise.
    - `active`: returns how many of the clients are active so many seconds after the start.
    """

    clients: int
    choose: Callable[[random.Random], Request]
    pause: Callable[[random.Random], float]
    active: Callable[[float], int]


@contextlib.asynccontextmanager
async def workload(
    crowds: Sequence[Crowd], host: str, port: int, seed: int
) -> AsyncIterator[Sequence[asyncio.Task[None]]]:
    """Run the clients against an HTTP server; yield their tasks, which end only by a failure.

    The same seed makes each client choose the same requests and pauses in the same order.
    """
    clock = asyncio.get_running_loop().time
    start = clock()
    numbers = count()
    clients = [
        asyncio.create_task(
            _client(
                crowd,
                partial(_is_active, crowd, number, clock, start),
                random.Random(f"{seed}/{next(numbers)}"),  # noqa: S311
                (host, port),
            )
        )
        for crowd in crowds
        for number in range(crowd.clients)
    ]
    try:
        yield clients
    finally:
        for client in clients:
            client.cancel()
        await asyncio.gather(*clients, return_exceptions=True)


def _is_active(crowd: Crowd, number: int, clock: Callable[[], float], start: float) -> bool:
    return number < crowd.active(clock() - start)


async def _client(
    crowd: Crowd, is_active: Callable[[], bool], dice: random.Random, server: tuple[str, int]
) -> None:
    """Ask one thing after another over one connection, as long as it is active."""
    while True:
        try:
            async with _connection(*server) as (reader, writer):
                while True:
                    if not is_active():
                        await asyncio.sleep(_AWAY_SECONDS)
                        continue
                    await asyncio.sleep(crowd.pause(dice))
                    method, target = crowd.choose(dice)
                    head = f"{method} {target} HTTP/1.1\r\nHost: {server[0]}\r\nContent-Length: 0\r\n\r\n"
                    writer.write(head.encode())
                    await read_answer(reader)
        except (OSError, asyncio.IncompleteReadError):
            await asyncio.sleep(_RETRY_SECONDS)  # the server hung up, as it may between two requests


@contextlib.asynccontextmanager
async def _connection(
    host: str, port: int
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection(host, port)
    try:
        yield reader, writer
    finally:
        writer.close()


async def read_answer(reader: asyncio.StreamReader) -> None:
    """Read one answer and forget it: of the length that it says, or in chunks, as a stream comes."""
    length, chunked = 0, False
    head = await reader.readuntil(b"\r\n\r\n")
    for line in head.decode("latin-1").lower().split("\r\n"):
        name, _, value = line.partition(":")
        if name == "content-length":
            length = int(value)
        chunked = chunked or (name == "transfer-encoding" and "chunked" in value)
    await reader.readexactly(length)
    while chunked:
        size = int(await reader.readuntil(b"\r\n"), 16)
        await reader.readexactly(size + len(b"\r\n"))
        chunked = size > 0
