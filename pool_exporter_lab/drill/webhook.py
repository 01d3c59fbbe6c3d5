"""Receive what Alertmanager sends: who fired, for which job, and when it came."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

from pool_exporter_lab.drill.processes import HOST, listen

_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
_DOWN = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
_REFUSAL = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Notice:
    """Hold one alert of a notification, and when it came by the monotonic clock, in seconds.

    `subject` is the job that it is about, or the database server if it is about one.
    """

    alert: str
    subject: str
    severity: str
    description: str
    firing: bool
    received: float


@dataclass(slots=True)
class Receiver:
    """Hold what has come so far.

    `delay_seconds` and `refuses` make the receiver slow or down; `taken` counts the notifications that it took,
    `refused` those that it turned away.
    """

    port: int
    delay_seconds: float = 0.0
    refuses: bool = False
    refused: int = 0
    taken: int = 0
    notices: list[Notice] = field(default_factory=list)
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def described(self) -> str:
        """Return which receiver it is, and what it did so far."""
        return f"the receiver {url_of(self)}, which took {self.taken} and turned {self.refused} away"

    async def until(self, condition: Callable[[], bool], seconds: float) -> bool:
        """Return True as soon as `condition()` is, asked at each news, or False after so many seconds."""
        deadline = time.monotonic() + seconds
        while not condition():
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            self._news.clear()
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._news.wait(), left)
        return True

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take one notification."""
        try:
            body = await _body(reader)
            received = time.monotonic()
            await asyncio.sleep(self.delay_seconds)
            if self.refuses:
                self.refused += 1
                writer.write(_DOWN)
            else:
                notices = parse(body, received)
                self.notices.extend(notices)
                self.taken += bool(notices)
                writer.write(_ANSWER if notices else _REFUSAL)
            self._news.set()
            await writer.drain()
        except (OSError, ValueError, asyncio.IncompleteReadError):
            pass  # somebody who is not Alertmanager
        finally:
            writer.close()


def parse(body: bytes, received: float) -> list[Notice]:
    """Return the alerts in a notification of Alertmanager's; nothing if it is none."""
    try:
        alerts = json.loads(body)["alerts"]
        return [
            Notice(
                alert=alert["labels"]["alertname"],
                subject=alert["labels"].get("job") or alert["labels"].get("server", ""),
                severity=alert["labels"].get("severity", ""),
                description=alert.get("annotations", {}).get("description", ""),
                firing=alert["status"] == "firing",
                received=received,
            )
            for alert in alerts
        ]
    except (ValueError, KeyError, TypeError, AttributeError):
        return []


@contextlib.asynccontextmanager
async def receiving(delay_seconds: float = 0.0) -> AsyncIterator[Receiver]:
    """Listen on a loopback port for notifications."""
    listener = listen()
    receiver = Receiver(int(listener.getsockname()[1]), delay_seconds)
    server = await asyncio.start_server(receiver.serve, sock=listener)
    try:
        yield receiver
    finally:
        server.close()
        await server.wait_closed()


def url_of(receiver: Receiver) -> str:
    """Return where Alertmanager is to send notifications."""
    return f"http://{HOST}:{receiver.port}/"


async def _body(reader: asyncio.StreamReader) -> bytes:
    length = 0
    for line in (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower().split("\r\n"):
        name, _, value = line.partition(":")
        if name == "content-length":
            length = int(value)
    return await reader.readexactly(length)
