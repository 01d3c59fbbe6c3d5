"""Applications that name the owner of a request, and a client for them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute

from pool_exporter.capture.callers.middleware import OwnerMiddleware
from pool_exporter.capture.callers.owner import current_owner

Scope = MutableMapping[str, Any]


Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]


Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


App = Callable[[Scope, Receive, Send], Awaitable[None]]


Owners = list["str | None"]


@pytest.fixture
def owners() -> Owners:
    """The owner at each moment at which a connection would have been acquired."""
    return []


async def request(app: App, path: str, method: str = "GET", **headers: str) -> httpx.Response:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://testserver") as client:
        return await client.request(method, path, headers=headers)


async def served(app: App, scope: Scope) -> list[MutableMapping[str, Any]]:
    """Serve a scope as it is, and return what was sent."""
    sent: list[MutableMapping[str, Any]] = []

    async def receive() -> MutableMapping[str, Any]:
        return {"type": "websocket.connect" if scope["type"] == "websocket" else "http.request"}

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    await app({"headers": [], "query_string": b"", "root_path": "", **scope}, receive, send)
    return sent


def acquiring(owners: Owners) -> Callable[[Request], Awaitable[Response]]:
    """Make an endpoint that acquires a connection."""

    async def endpoint(request: Request) -> Response:
        owners.append(current_owner())
        return PlainTextResponse("")

    return endpoint


def starlette(*routes: BaseRoute) -> Starlette:
    return Starlette(routes=routes, middleware=[Middleware(OwnerMiddleware)])


class AcquiringMiddleware:
    """Acquire a connection before the application within has routed the request."""

    def __init__(self, app: App, owners: Owners) -> None:
        self.app = app
        self.owners = owners

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            self.owners.append(current_owner())
        await self.app(scope, receive, send)


class PassingMiddleware(BaseHTTPMiddleware):
    """Run the application within in a task of its own, as this class of Starlette does."""

    async def dispatch(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
        return await call_next(request)
