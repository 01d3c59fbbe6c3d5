"""Check the names of routes below mounts, hosts, prefixes and routers."""

from __future__ import annotations

import httpx
import pytest
from fastapi import APIRouter, FastAPI, WebSocket
from starlette.applications import Starlette
from starlette.endpoints import HTTPEndpoint
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.responses import Response
from starlette.routing import Host, Mount, Route, Router, WebSocketRoute

from pool_exporter.capture.callers.middleware import OwnerMiddleware
from pool_exporter.capture.callers.owner import current_owner
from tests.capture.callers.requests import (
    AcquiringMiddleware,
    Owners,
    PassingMiddleware,
    Receive,
    Scope,
    Send,
    acquiring,
    request,
    served,
    starlette,
)

# How routes are composed


async def test_the_middleware_may_stand_around_the_application(owners: Owners) -> None:
    """Around an application, where nothing knows it on entry, the route is named as well."""
    app = Starlette(routes=[Mount("/shops/{shop}", routes=[Route("/orders", acquiring(owners))])])
    assert (await request(OwnerMiddleware(app), "/shops/1/orders")).is_success
    router = Router([Route("/orders/{id}", acquiring(owners))])
    assert (await request(OwnerMiddleware(router), "/orders/1")).is_success
    assert owners == ["GET /shops/{shop}/orders", "GET /orders/{id}"]


async def test_starlette_within_fastapi_names_mount_and_route(owners: Owners) -> None:
    """A Starlette application mounted in FastAPI adds its template to that of the mount."""
    app = FastAPI()
    app.mount("/sub/{tenant}", Starlette(routes=[Route("/orders/{id}", acquiring(owners))]))
    app.add_middleware(OwnerMiddleware)
    assert (await request(app, "/sub/acme/orders/1")).is_success
    assert owners == ["GET /sub/{tenant}/orders/{id}"]


async def test_fastapi_within_starlette_names_mount_and_route(owners: Owners) -> None:
    """A FastAPI application mounted in Starlette adds its template, prefix included, to that of the mount."""
    sub, router = FastAPI(), APIRouter()
    router.add_api_route("/{id}", lambda id: owners.append(current_owner()))
    sub.include_router(router, prefix="/orders")
    assert (await request(starlette(Mount("/sub/{tenant}", sub)), "/sub/acme/orders/1")).is_success
    assert owners == ["GET /sub/{tenant}/orders/{id}"]


@pytest.mark.parametrize("path", ["/orders/1", "/orders"])
async def test_a_middleware_in_a_mounted_application_knows_the_mount(owners: Owners, path: str) -> None:
    """Added to a mounted application only, or there too, it names the whole template all the same."""
    sub = FastAPI()
    sub.add_api_route("/orders", lambda: owners.append(current_owner()))
    sub.add_api_route("/orders/{id}", lambda id: owners.append(current_owner()))
    sub.add_middleware(OwnerMiddleware)
    outer = Mount("/sub/{tenant}", sub)
    for app in (Starlette(routes=[outer]), starlette(outer)):
        assert (await request(app, "/sub/acme" + path)).is_success
    assert owners == ["GET /sub/{tenant}" + path.replace("1", "{id}")] * 2


async def test_mounts_nest_and_may_be_wrapped(owners: Owners) -> None:
    """Mounts in mounts, at the empty path too, and middlewares around what is mounted, are seen through."""
    inner = Mount(
        "", GZipMiddleware(Router([Route("/", acquiring(owners)), Route("/{id}", acquiring(owners))]))
    )
    app = starlette(
        Mount("/api", routes=[Mount("/orders", routes=[inner], middleware=[Middleware(PassingMiddleware)])])
    )
    for path in ("/api/orders/", "/api/orders/1"):
        assert (await request(app, path)).is_success
    assert owners == ["GET /api/orders/", "GET /api/orders/{id}"]


async def test_a_mounted_application_without_routes_is_named_by_its_mount(owners: Owners) -> None:
    """Within any other ASGI application the mount's template is all there is to say."""

    async def other(scope: Scope, receive: Receive, send: Send) -> None:
        owners.append(current_owner())
        await Response()(scope, receive, send)

    assert (await request(starlette(Mount("/legacy/{tenant}", other)), "/legacy/acme/a/b")).is_success
    assert owners == ["GET /legacy/{tenant}/{path}"]


async def test_included_routers_of_fastapi_name_their_prefixes(owners: Owners) -> None:
    """Routers with prefixes, in each other, twice, and with routes of every kind, name the whole template."""

    def acquire() -> None:
        owners.append(current_owner())

    leaf = APIRouter()
    leaf.add_api_route("/items/{id}", acquire)
    leaf.add_route("/plain/{id}", acquiring(owners))
    leaf.mount("/mounted", Starlette(routes=[Route("/{id}", acquiring(owners))]))
    middle = APIRouter()
    middle.add_api_route("", acquire)
    middle.include_router(leaf, prefix="/{order}")
    app = FastAPI()
    app.add_api_route("/{id}", acquire)
    app.include_router(middle, prefix="/orders")
    app.include_router(middle, prefix="/archive")
    app.add_middleware(OwnerMiddleware)
    paths = {
        "/1": "/{id}",
        "/orders": "/{id}",
        "/orders/1/items/2": "/orders/{order}/items/{id}",
        "/archive/1/items/2": "/archive/{order}/items/{id}",
        "/archive/1/plain/2": "/archive/{order}/plain/{id}",
        "/archive/1/mounted/2": "/archive/{order}/mounted/{id}",
    }
    for path in paths:
        assert (await request(app, path)).is_success, path
    assert owners == [f"GET {template}" for template in paths.values()]


async def test_hosts_are_seen_through(owners: Owners) -> None:
    """A route of the host that is asked for is named by its path; that of another host is not."""
    app = starlette(
        Host("api.example.org", Router([Route("/orders/{id}", acquiring(owners))])),
        Host("{tenant}.example.org", Router([Route("/{page}", acquiring(owners))])),
    )
    assert (await request(app, "/orders/1", host="api.example.org")).is_success
    assert (await request(app, "/start", host="acme.example.org")).is_success
    assert (await request(app, "/orders/1", host="acme.example.org")).status_code == 404
    assert owners == ["GET /orders/{id}", "GET /{page}"]


async def test_a_host_without_routes_names_nothing(owners: Owners) -> None:
    """Within any other ASGI application for a host there is no template, and so no owner."""

    async def other(scope: Scope, receive: Receive, send: Send) -> None:
        owners.append(current_owner())
        await Response()(scope, receive, send)

    assert (await request(starlette(Host("testserver", other)), "/a/b")).is_success
    assert owners == [None]


async def test_a_proxys_prefix_is_no_part_of_the_route(owners: Owners) -> None:
    """The root path under which a proxy serves the application is left out, wherever it is configured."""
    app = FastAPI()
    app.root_path = "/behind"  # as the deprecated argument of this name does
    app.add_api_route("/orders/{id}", lambda id: owners.append(current_owner()))
    app.mount("/sub", Starlette(routes=[Route("/{id}", acquiring(owners))]))
    wrapped = OwnerMiddleware(app)
    for path in ("/behind/orders/1", "/orders/1", "/behind/sub/1"):
        assert (await request(wrapped, path)).is_success
    transport = httpx.ASGITransport(starlette(*app.routes), root_path="/proxied")
    async with httpx.AsyncClient(transport=transport, base_url="http://testserver") as client:
        assert (await client.get("/proxied/sub/1")).is_success
    assert owners == ["GET /orders/{id}"] * 2 + ["GET /sub/{id}"] * 2


async def test_converters_are_no_part_of_the_template(owners: Owners) -> None:
    """A parameter stands as its name, whatever it matches, slashes included."""
    app = starlette(
        Route("/orders/{id:int}.json", acquiring(owners)), Route("/files/{path:path}", acquiring(owners))
    )
    for path in ("/orders/1.json", "/files/a/b/c.txt"):
        assert (await request(app, path)).is_success
    assert owners == ["GET /orders/{id}.json", "GET /files/{path}"]


async def test_the_route_that_is_chosen_is_the_one_that_is_named(owners: Owners) -> None:
    """Of several routes that match, a full match goes before one of another method, the first before others."""
    app = starlette(
        Route("/{anything}", acquiring(owners), methods=["POST"]),
        Route("/orders", acquiring(owners)),
        Route("/{name}", acquiring(owners)),
    )
    app.add_middleware(AcquiringMiddleware, owners=owners)
    app.add_middleware(OwnerMiddleware)
    for method, path in (("GET", "/orders"), ("GET", "/1"), ("POST", "/orders")):
        assert (await request(app, path, method)).is_success
    assert owners == ["GET /orders"] * 2 + ["GET /{name}"] * 2 + ["POST /{anything}"] * 2


# Methods


async def test_a_head_request_is_named_as_such(owners: Owners) -> None:
    """HEAD on a route for GET, which Starlette serves, has its own name."""
    assert (
        await request(starlette(Route("/orders/{id}", acquiring(owners))), "/orders/1", "HEAD")
    ).is_success
    assert owners == ["HEAD /orders/{id}"]


async def test_a_refused_method_names_the_route_that_refuses_it(owners: Owners) -> None:
    """What a middleware acquires for a request that ends in 405 belongs to that route and method."""
    app = starlette(Route("/orders/{id}", acquiring(owners)))
    app.add_middleware(AcquiringMiddleware, owners=owners)
    app.add_middleware(OwnerMiddleware)
    assert (await request(app, "/orders/1", "PATCH")).status_code == 405
    assert owners == ["PATCH /orders/{id}"]


@pytest.mark.parametrize("method", ["PROPFIND", "X" * 10_000, "get", "\u202e"])
async def test_unusual_methods_share_one_name(owners: Owners, method: str) -> None:
    """A client's own words for a method make no labels."""

    class Endpoint(HTTPEndpoint):
        async def dispatch(self) -> None:
            owners.append(current_owner())
            await Response()(self.scope, self.receive, self.send)

    assert await served(
        starlette(Route("/dav/{id}", Endpoint)), {"type": "http", "method": method, "path": "/dav/1"}
    )
    assert owners == ["OTHER /dav/{id}"]


# Websockets


async def test_websockets_name_their_route(owners: Owners) -> None:
    """A websocket names its route as long as it is open, with `WS` for a method, mounted and included too."""

    async def chat(socket: WebSocket) -> None:
        await socket.accept()
        owners.append(current_owner())
        await socket.close()

    router, app = APIRouter(), FastAPI()
    router.add_api_websocket_route("/{room}", chat)
    router.add_websocket_route("/plain/{room}", chat)
    app.include_router(router, prefix="/chat")
    app.add_api_route("/chat/{room}", lambda: None)
    app.mount("/sub", Starlette(routes=[WebSocketRoute("/{room}", chat)]))
    app.add_middleware(OwnerMiddleware)
    for path in ("/chat/7", "/chat/plain/7", "/sub/7"):
        sent = await served(app, {"type": "websocket", "path": path})
        assert [message["type"] for message in sent] == ["websocket.accept", "websocket.close"]
    assert owners == ["WS /chat/{room}", "WS /chat/plain/{room}", "WS /sub/{room}"]
    assert current_owner() is None
