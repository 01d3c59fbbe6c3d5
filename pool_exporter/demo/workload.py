"""Drive the demo with HTTP clients whose number comes and goes in waves, so that the pool fills."""

from __future__ import annotations

import asyncio
import contextlib
import math
import random
from collections.abc import AsyncIterator, Sequence

WAVE_SECONDS = 20.0
CREST_SECONDS = 6.0
"""When the first crest comes, after the start."""
MOST_CLIENTS = 86
FEWEST_CLIENTS = 3
THINK_SECONDS = 0.2
"""Mean pause of a client between an answer and its next request."""

_AWAY_SECONDS = 0.1
_RETRY_SECONDS = 0.5


def demand(seconds: float) -> int:
    """Return how many clients are active so long after the start."""
    height = (1 + math.cos(2 * math.pi * (seconds - CREST_SECONDS) / WAVE_SECONDS)) / 2
    return round(FEWEST_CLIENTS + (MOST_CLIENTS - FEWEST_CLIENTS) * height)


def choose(dice: random.Random) -> tuple[str, str]:
    """Return the method and target of a client's next request."""
    throw = dice.random()
    if throw < 0.5:
        return "GET", "/orders"
    if throw < 0.85:
        return "POST", f"/orders?cents={dice.randint(100, 9999)}"
    return "GET", f"/report?days={dice.randint(1, 10)}"


@contextlib.asynccontextmanager
async def workload(host: str, port: int, seed: int) -> AsyncIterator[Sequence[asyncio.Task[None]]]:
    """Run the clients against an HTTP server; yield their tasks, which end only by a failure.

    The same seed makes each client choose the same requests and pauses in the same order.
    """
    start = asyncio.get_running_loop().time()
    clients = [
        asyncio.create_task(_client(host, port, number, start, random.Random(f"{seed}/{number}")))  # noqa: S311
        for number in range(MOST_CLIENTS)
    ]
    try:
        yield clients
    finally:
        for client in clients:
            client.cancel()
        await asyncio.gather(*clients, return_exceptions=True)


async def _client(host: str, port: int, number: int, start: float, dice: random.Random) -> None:
    """Ask one thing after another over one connection, as long as the demand includes this client."""
    clock = asyncio.get_running_loop().time
    while True:
        try:
            async with _connection(host, port) as (reader, writer):
                while True:
                    if number >= demand(clock() - start):
                        await asyncio.sleep(_AWAY_SECONDS)
                        continue
                    await asyncio.sleep(dice.expovariate(1 / THINK_SECONDS))
                    method, target = choose(dice)
                    head = f"{method} {target} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 0\r\n\r\n"
                    writer.write(head.encode())
                    await _read_answer(reader)
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


async def _read_answer(reader: asyncio.StreamReader) -> None:
    """Read one answer and forget it; the application always says how long its answers are."""
    length = 0
    head = await reader.readuntil(b"\r\n\r\n")
    for line in head.decode("latin-1").split("\r\n"):
        name, _, value = line.partition(":")
        if name.lower() == "content-length":
            length = int(value)
    await reader.readexactly(length)
