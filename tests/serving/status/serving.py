"""Serve a status page with a real uvicorn, in a thread."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import uvicorn
from prometheus_client import CollectorRegistry

from pool_exporter.records import PoolStatus
from pool_exporter.serving.status.app import status_app


@contextlib.contextmanager
def running(app: Any) -> Iterator[str]:
    """Run an application on a free port of loopback and give its URL, with no slash at its end."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(app, lifespan="on", log_level="critical", ws="none"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


@contextlib.contextmanager
def showing(source: Callable[[], Sequence[PoolStatus]], **options: Any) -> Iterator[str]:
    """Run the status page of these pools and give its URL."""
    with running(status_app(source, registry=CollectorRegistry(), **options)) as url:
        yield url


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    text: str


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
    """Send one request straight to an ASGI application, by default from loopback."""
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
    names = [name.decode() for name, _ in start["headers"]]
    assert len(names) == len(set(names)), "a header is sent twice"
    return Answer(
        start["status"],
        {name.decode(): value.decode() for name, value in start["headers"]},
        b"".join(message["body"] for message in bodies).decode(),
    )


def page_of(*statuses: PoolStatus, **options: Any) -> Any:
    """Return the application with these pools, and a registry that has none."""
    return status_app(lambda: statuses, registry=CollectorRegistry(), **options)
