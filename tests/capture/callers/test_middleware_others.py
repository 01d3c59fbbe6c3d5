"""Check Litestar, requests without a route, and what the middleware costs."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import MutableMapping
from typing import Any

import pytest
from fastapi import APIRouter, FastAPI
from fastapi.routing import APIRoute
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Mount, Route

from pool_exporter.capture.callers.middleware import OwnerMiddleware
from pool_exporter.capture.callers.owner import current_owner, owner
from tests.capture.callers.requests import (
    AcquiringMiddleware,
    App,
    Owners,
    Receive,
    Scope,
    Send,
    acquiring,
    request,
    served,
    starlette,
)

# Litestar


class LitestarLike:
    """Do to a scope what Litestar 2.25 does: its routes are no Starlette routes, and it cuts a root path."""

    routes = (object(),)

    def __init__(self, owners: Owners, template: str | None, within: App | None = None) -> None:
        self.owners = owners
        self.template = template
        self.within = within

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["app"] = scope["litestar_app"] = self
        scope["path"] = scope["path"].removeprefix(scope["root_path"])
        self.owners.append(current_owner())
        if self.template is not None:
            scope["path_template"] = self.template
            scope["route_handler"] = object()
            self.owners.append(current_owner())
        await (self.within or Response())(scope, receive, send)


@pytest.mark.parametrize(("kind", "verb"), [("http", "PUT"), ("websocket", "WS")])
async def test_litestar_names_its_routes(owners: Owners, kind: str, verb: str) -> None:
    """The template that Litestar puts into the scope names the request, from then on."""
    app = OwnerMiddleware(LitestarLike(owners, "/orders/{order_id}"))
    await served(app, {"type": kind, "method": "PUT", "path": "/orders/1"})
    assert owners == [None, f"{verb} /orders/{{order_id}}"]


async def test_litestar_may_run_the_middleware_itself(owners: Owners) -> None:
    """As a middleware of Litestar's, which run after routing, it knows the template on entry."""
    app = LitestarLike(
        owners, "/orders/{order_id}", within=OwnerMiddleware(AcquiringMiddleware(Response(), owners))
    )
    await served(app, {"type": "http", "method": "GET", "path": "/orders/1"})
    assert owners == [None, None, "GET /orders/{order_id}"]


async def test_litestar_names_no_unmatched_request(owners: Owners) -> None:
    """A request without a template has no owner."""
    await served(
        OwnerMiddleware(LitestarLike(owners, None)), {"type": "http", "method": "GET", "path": "/nothing"}
    )
    assert owners == [None]


async def test_litestar_within_starlette_names_mount_and_route(owners: Owners) -> None:
    """Litestar's template follows that of the mount, even if Starlette has a route of the path that is left."""
    app = starlette(
        Mount("/t/{tenant}", LitestarLike(owners, "/orders/{id}")), Route("/orders/{x}", acquiring([]))
    )
    assert (await request(app, "/t/acme/orders/1")).is_success
    assert owners == ["GET /t/{tenant}/{path}", "GET /t/{tenant}/orders/{id}"]


async def test_starlette_within_litestar_names_its_route(owners: Owners) -> None:
    """Litestar has no template for what it mounts, and cuts the path: the route within names the request."""
    inner = Starlette(routes=[Route("/items/{id}", acquiring(owners))])

    async def cut(scope: Scope, receive: Receive, send: Send) -> None:
        scope["path"] = "/items/1"
        await inner(scope, receive, send)

    app = OwnerMiddleware(LitestarLike(owners, "", within=cut))
    await served(app, {"type": "http", "method": "GET", "path": "/sub/items/1"})
    assert owners == [None, None, "GET /items/{id}"]


# Requests without a route


@pytest.mark.parametrize("path", ["/wp-login.php", "/sub/nothing", "/orders", "/orders/", "/sub"])
async def test_an_unmatched_request_has_no_owner(owners: Owners, path: str) -> None:
    """A 404, in a mounted application too, and a redirect to the path with a slash, are named by nothing."""

    async def not_found(request: Request, error: Exception) -> Response:
        owners.append(current_owner())
        return PlainTextResponse("", 404)

    app = starlette(
        Route("/orders/{id}", acquiring(owners)),
        Route("/orders/{id}/items/", acquiring(owners)),
        Mount("/sub", Starlette(routes=[Route("/{id:int}", acquiring(owners))])),
    )
    app.add_exception_handler(404, not_found)
    app.add_middleware(AcquiringMiddleware, owners=owners)
    app.add_middleware(OwnerMiddleware)
    assert (await request(app, path)).status_code in (307, 404)
    assert set(owners) == {None}


async def test_an_application_without_routes_has_no_owners(owners: Owners) -> None:
    """Around an application of an unknown kind nothing is named, and nothing goes wrong."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        owners.append(current_owner())
        scope["route"] = scope["router"] = object()  # as another framework may
        owners.append(current_owner())
        await Response()(scope, receive, send)

    assert (await request(OwnerMiddleware(app), "/orders/1")).is_success
    assert owners == [None, None]


async def test_other_scopes_pass(owners: Owners) -> None:
    """The lifespan of an application has no owner."""
    seen: list[Scope] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope)
        owners.append(current_owner())

    scope: Scope = {"type": "lifespan"}

    async def receive() -> MutableMapping[str, Any]:
        return {}

    async def send(message: MutableMapping[str, Any]) -> None:
        pass

    with owner("startup"):
        await OwnerMiddleware(app)(scope, receive, send)
    assert owners == ["startup"]
    assert seen[0] is scope


async def test_disabled_it_names_nothing(owners: Owners, monkeypatch: pytest.MonkeyPatch) -> None:
    """With `POOL_EXPORTER_DISABLED=1` when it is made, requests pass and have no owner."""
    monkeypatch.setenv("POOL_EXPORTER_DISABLED", "1")
    app = OwnerMiddleware(Starlette(routes=[Route("/orders/{id}", acquiring(owners))]))
    monkeypatch.delenv("POOL_EXPORTER_DISABLED")
    assert (await request(app, "/orders/1")).is_success
    assert owners == [None]


# What it costs


class CountingRoute(APIRoute):
    """Count how often it is matched."""

    matched = 0

    def matches(self, scope: Scope) -> Any:
        self.matched += 1
        return super().matches(scope)


def counting(*routes: CountingRoute) -> FastAPI:
    app = FastAPI()
    app.router.routes[:] = routes
    app.add_middleware(OwnerMiddleware)
    return app


async def test_a_request_that_acquires_nothing_matches_nothing() -> None:
    """As long as nobody asks for the owner, routes are matched by the router alone."""
    route = CountingRoute("/orders/{id}", lambda id: "")
    assert (await request(counting(route), "/orders/1")).is_success
    assert route.matched == 1


async def test_a_route_is_looked_for_once(owners: Owners) -> None:
    """However often a request acquires, its route is matched once more; no other route is, once it is known."""

    def get(id: int) -> None:
        owners.extend(current_owner() for _ in range(3))

    other, route = CountingRoute("/other", get), CountingRoute("/orders/{id}", get)
    assert (await request(counting(other, route), "/orders/1")).is_success
    assert owners == ["GET /orders/{id}"] * 3
    assert (other.matched, route.matched) == (1, 2)


async def test_a_route_of_an_included_router_is_looked_for_once(owners: Owners) -> None:
    """Once FastAPI has chosen a route, no other one is matched, under the prefix of a router either."""
    other, router = CountingRoute("/other", lambda: ""), APIRouter()
    router.add_api_route("/{id}", lambda id: owners.append(current_owner()))
    app = counting(other)
    app.include_router(router, prefix="/orders")
    assert (await request(app, "/orders/1")).is_success
    assert owners == ["GET /orders/{id}"]
    assert other.matched == 1


async def test_a_named_request_is_let_go() -> None:
    """A task that outlives its request keeps the name, not all that the request had, once it was asked for."""

    class Payload:
        pass

    over = asyncio.Event()
    tasks: list[asyncio.Task[str | None]] = []
    payloads: list[weakref.ref[Payload]] = []

    async def later() -> str | None:
        current_owner()
        await over.wait()
        return current_owner()

    async def get(request: Request) -> Response:
        request.state.payload = Payload()
        payloads.append(weakref.ref(request.state.payload))
        tasks.append(asyncio.create_task(later()))
        await asyncio.sleep(0)
        return PlainTextResponse("")

    assert (await request(starlette(Route("/orders/{id}", get)), "/orders/1")).is_success
    gc.collect()
    assert payloads[0]() is None
    over.set()
    assert await tasks[0] == "GET /orders/{id}"
