"""Send requests straight to an ASGI application, or serve it with a real uvicorn."""

from __future__ import annotations

import contextlib
import gzip
import socket
import threading
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import uvicorn


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def text(self) -> str:
        compressed = self.headers.get("content-encoding") == "gzip"
        return (gzip.decompress(self.body) if compressed else self.body).decode()


async def ask(
    app: Any,
    path: str = "/",
    *,
    method: str = "GET",
    root_path: str = "",
    query: str = "",
    client: tuple[str, int] | None = ("127.0.0.1", 50000),
    headers: Sequence[tuple[str, str]] = (),
    **scope: Any,
) -> Answer:
    """Send one request straight to an application, by default from loopback."""
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    request = {
        "type": "http",
        "method": method,
        "path": path,
        "root_path": root_path,
        "query_string": query.encode(),
        "client": client,
        "headers": [(name.lower().encode(), value.encode("latin-1")) for name, value in headers],
        **scope,
    }
    await app(request, receive, send)
    start, *bodies = sent
    assert start["type"] == "http.response.start"
    assert [message.get("more_body", False) for message in bodies] == [True] * (len(bodies) - 1) + [False]
    names = [name.decode().lower() for name, _ in start["headers"]]
    assert len(names) == len(set(names)), "a header is sent twice"
    return Answer(
        start["status"],
        {name.decode().lower(): value.decode() for name, value in start["headers"]},
        b"".join(message["body"] for message in bodies),
    )


@contextlib.contextmanager
def running(app: Any) -> Iterator[str]:
    """Run an application in a thread on a free port of loopback; yield its URL, with no slash at its end."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(app, lifespan="on", log_level="critical", ws="none"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()
