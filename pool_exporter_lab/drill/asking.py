"""Ask an HTTP server on loopback one thing, without a client library."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from pool_exporter_lab.drill.processes import HOST

DEADLINE_SECONDS = 30.0


class Unanswered(Exception):
    """Say that no usable answer came: nobody listens, it took too long, or it is no HTTP."""


async def ask(
    port: int, method: str, target: str, *, deadline_seconds: float = DEADLINE_SECONDS
) -> tuple[int, bytes]:
    """Return status and body of an answer; raise `Unanswered` if there is none in time."""
    try:
        return await asyncio.wait_for(_ask(port, method, target), deadline_seconds)
    except (OSError, asyncio.TimeoutError, asyncio.IncompleteReadError, ValueError, IndexError) as error:
        raise Unanswered(f"{method} http://{HOST}:{port}{target}: {error!r}") from error


async def ask_json(port: int, target: str, *, deadline_seconds: float = DEADLINE_SECONDS) -> Any:
    """Return the JSON that a GET gives; raise `Unanswered` for any status but 200."""
    status, body = await ask(port, "GET", target, deadline_seconds=deadline_seconds)
    if status != 200:
        raise Unanswered(f"GET http://{HOST}:{port}{target}: status {status}")
    return json.loads(body)


async def answers(port: int, target: str) -> bool:
    """Tell whether a GET gives status 200 now."""
    try:
        status, _ = await ask(port, "GET", target, deadline_seconds=2.0)
    except Unanswered:
        return False
    return status == 200


async def _ask(port: int, method: str, target: str) -> tuple[int, bytes]:
    reader, writer = await asyncio.open_connection(HOST, port)
    try:
        # HTTP/1.0: the body is what comes until the end, never in chunks.
        writer.write(f"{method} {target} HTTP/1.0\r\nHost: {HOST}\r\nContent-Length: 0\r\n\r\n".encode())
        head, _, body = (await reader.read(-1)).partition(b"\r\n\r\n")
        return int(head.split()[1]), body
    finally:
        writer.close()
