"""Check `OwnerMiddleware`: each way to serve a request names its route, and nothing else does."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import types
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, MutableMapping
from typing import Any

import httpx
import pytest
from fastapi import APIRouter, BackgroundTasks, Depends, FastAPI, WebSocket
from fastapi.routing import APIRoute
from sqlalchemy.util import greenlet_spawn
from starlette.applications import Starlette
from starlette.authentication import AuthCredentials, AuthenticationBackend, SimpleUser
from starlette.background import BackgroundTask
from starlette.endpoints import HTTPEndpoint
from starlette.middleware import Middleware
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import HTTPConnection, Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Host, Mount, Route, Router, WebSocketRoute

from pool_exporter.capture.callers.middleware import OwnerMiddleware
from pool_exporter.capture.callers.owner import current_owner, owner

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


class CopyingMiddleware:
    """Give the application within a scope of its own, so that what it puts there is not seen outside."""

    def __init__(self, app: App) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.app(dict(scope), receive, send)


class RewritingMiddleware:
    """Take a version off the path, as behind some gateways."""

    def __init__(self, app: App) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["path"] = scope["path"].removeprefix("/v1")
        await self.app(scope, receive, send)


# Ways to serve a request


async def test_a_session_of_a_dependency_belongs_to_the_streaming_route(owners: Owners) -> None:
    """Dependencies, the endpoint and the stream, long after the endpoint returned, name their route."""
    app = FastAPI()
    app.add_middleware(OwnerMiddleware)

    async def session() -> AsyncIterator[str]:
        owners.append(current_owner())
        yield "session"
        owners.append(current_owner())

    def user(session: str = Depends(session)) -> Iterator[str]:
        owners.append(current_owner())  # in a thread
        yield "user"

    async def words() -> AsyncIterator[str]:
        for word in ("a", "b"):
            await asyncio.sleep(0)
            owners.append(current_owner())
            yield word

    @app.post("/chat/{room}/stream")
    async def stream(room: str, user: str = Depends(user)) -> StreamingResponse:
        owners.append(current_owner())
        return StreamingResponse(words())

    assert (await request(app, "/chat/7/stream", "POST")).text == "ab"
    assert owners == ["POST /chat/{room}/stream"] * 6


async def test_background_tasks_belong_to_the_route(owners: Owners) -> None:
    """What runs after the response was sent, on the loop or in a thread, names its route."""
    app = FastAPI()
    app.add_middleware(OwnerMiddleware)

    async def write() -> None:
        owners.append(current_owner())

    def write_in_a_thread() -> None:
        owners.append(current_owner())

    @app.put("/orders/{id}")
    async def put(id: int, tasks: BackgroundTasks) -> None:
        tasks.add_task(write)
        tasks.add_task(write_in_a_thread)

    async def get(request: Request) -> Response:
        return PlainTextResponse("", background=BackgroundTask(write))

    app.add_route("/plain/{id}", get)
    assert (await request(app, "/orders/1", "PUT")).is_success
    assert (await request(app, "/plain/1")).is_success
    assert owners == ["PUT /orders/{id}"] * 2 + ["GET /plain/{id}"]


async def test_slow_requests_at_once_keep_their_routes() -> None:
    """Requests that wait at the same time name their own routes, before the wait and after."""
    waiting: list[str] = []
    both_wait = asyncio.Event()

    async def slow(request: Request) -> Response:
        before = current_owner()
        waiting.append(request.url.path)
        if len(waiting) == 2:
            both_wait.set()
        await both_wait.wait()
        return PlainTextResponse(f"{before}, {current_owner()}")

    app = starlette(Route("/slow/{id}", slow), Route("/other/{id}", slow, methods=["DELETE"]))
    responses = await asyncio.gather(request(app, "/slow/1"), request(app, "/other/2", "DELETE"))
    assert [response.text for response in responses] == [
        "GET /slow/{id}, GET /slow/{id}",
        "DELETE /other/{id}, DELETE /other/{id}",
    ]
    assert current_owner() is None


async def test_an_endpoint_in_a_thread_belongs_to_its_route(owners: Owners) -> None:
    """An endpoint that is a plain function, run in a thread, names its route."""
    app = FastAPI()
    app.add_middleware(OwnerMiddleware)

    @app.get("/orders/{id}")
    def get(id: int) -> None:
        owners.append(current_owner())

    assert (await request(app, "/orders/1")).is_success
    assert owners == ["GET /orders/{id}"]


async def test_a_task_of_a_request_belongs_to_its_route(owners: Owners) -> None:
    """A task that a request started names its route, even if it asks first when the request is over."""
    over = asyncio.Event()
    tasks: list[asyncio.Task[None]] = []

    async def later() -> None:
        await over.wait()
        owners.append(current_owner())

    async def get(request: Request) -> Response:
        tasks.append(asyncio.create_task(later()))
        return PlainTextResponse("")

    assert (await request(starlette(Route("/orders/{id}", get)), "/orders/1")).is_success
    over.set()
    await asyncio.gather(*tasks)
    assert owners == ["GET /orders/{id}"]


async def test_the_greenlet_of_sqlalchemy_sees_the_route(owners: Owners) -> None:
    """Where SQLAlchemy runs its pool, in a greenlet, the route is known."""

    async def get(request: Request) -> Response:
        owners.append(await greenlet_spawn(current_owner))
        return PlainTextResponse("")

    assert (await request(starlette(Route("/orders/{id}", get)), "/orders/1")).is_success
    assert owners == ["GET /orders/{id}"]


class PassingMiddleware(BaseHTTPMiddleware):
    """Run the application within in a task of its own, as this class of Starlette does."""

    async def dispatch(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
        return await call_next(request)


@pytest.mark.parametrize("outermost", [True, False], ids=["outermost", "innermost"])
async def test_a_base_http_middleware_changes_nothing(owners: Owners, outermost: bool) -> None:
    """Around a BaseHTTPMiddleware or within it, endpoint, stream and background task name their route."""

    async def acquire() -> None:
        owners.append(current_owner())

    async def words() -> AsyncIterator[str]:
        await acquire()
        yield "a"

    async def get(request: Request) -> Response:
        await acquire()
        return StreamingResponse(words(), background=BackgroundTask(acquire))

    stack = [Middleware(OwnerMiddleware), Middleware(PassingMiddleware)]
    app = Starlette(
        routes=[Route("/orders/{id}", get)], middleware=stack if outermost else list(reversed(stack))
    )
    assert (await request(app, "/orders/1")).text == "a"
    assert owners == ["GET /orders/{id}"] * 3


async def test_an_error_ends_the_request() -> None:
    """An exception of the application passes, and leaves no owner behind."""

    async def get(request: Request) -> Response:
        raise LookupError(current_owner())

    with pytest.raises(LookupError, match=r"GET /orders/\{id\}"):
        await request(starlette(Route("/orders/{id}", get)), "/orders/1")
    assert current_owner() is None


def test_a_request_that_another_context_ends_raises_nothing() -> None:
    """A request that was never finished may be closed by whoever collects it."""

    @types.coroutine
    def suspended() -> Iterator[None]:
        yield

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await suspended()

    serving = served(OwnerMiddleware(app), {"type": "http", "method": "GET", "path": "/"})
    contextvars.copy_context().run(serving.send, None)
    with owner("collector"):
        serving.close()
        assert current_owner() == "collector"


async def test_an_owner_within_a_request_counts_instead_of_the_route(owners: Owners) -> None:
    """A block of `owner()` names its own work, and after it the route counts again."""

    async def get(request: Request) -> Response:
        with owner("price-update"):
            owners.append(current_owner())
        owners.append(current_owner())
        return PlainTextResponse("")

    assert (await request(starlette(Route("/orders/{id}", get)), "/orders/1")).is_success
    assert owners == ["price-update", "GET /orders/{id}"]


# Where a session is opened before the request is routed


class AcquiringBackend(AuthenticationBackend):
    """Acquire a connection to find out who asks, then again."""

    def __init__(self, owners: Owners) -> None:
        self.owners = owners

    async def authenticate(self, conn: HTTPConnection) -> tuple[AuthCredentials, SimpleUser]:
        self.owners.append(current_owner())
        return AuthCredentials(), SimpleUser("someone")


async def test_authentication_before_routing_belongs_to_the_route(owners: Owners) -> None:
    """A session of an authentication middleware, opened before the router ran, names the route to come."""
    app = starlette(
        Route("/orders/new", acquiring(owners)),
        Mount("/shops/{shop:int}", routes=[Route("/orders/{id:int}", acquiring(owners), methods=["POST"])]),
    )
    app.add_middleware(AuthenticationMiddleware, backend=AcquiringBackend(owners))
    app.add_middleware(OwnerMiddleware)
    assert (await request(app, "/shops/4/orders/1", "POST")).is_success
    assert owners == ["POST /shops/{shop}/orders/{id}"] * 2


async def test_authentication_belongs_to_an_included_route_of_fastapi(owners: Owners) -> None:
    """The route to come is found in routers that routers include, under all their prefixes."""
    inner, outer, app = APIRouter(), APIRouter(prefix="/shops"), FastAPI()
    inner.add_api_route("/{id}", lambda id: owners.append(current_owner()), methods=["POST"])
    outer.include_router(inner, prefix="/{shop}/orders")
    app.include_router(outer, prefix="/api")
    app.add_middleware(AuthenticationMiddleware, backend=AcquiringBackend(owners))
    app.add_middleware(OwnerMiddleware)
    assert (await request(app, "/api/shops/4/orders/1", "POST")).is_success
    assert owners == ["POST /api/shops/{shop}/orders/{id}"] * 2


async def test_a_path_that_is_rewritten_before_routing_names_the_route_that_serves_it(owners: Owners) -> None:
    """A middleware may rewrite the path; what is not found before it did is found afterwards."""
    app = starlette(Route("/orders/{id}", acquiring(owners)))
    app.add_middleware(RewritingMiddleware)
    app.add_middleware(AcquiringMiddleware, owners=owners)
    app.add_middleware(OwnerMiddleware)
    assert (await request(app, "/v1/orders/1")).is_success
    assert owners == [None, "GET /orders/{id}"]


@pytest.mark.parametrize("within", [False, True], ids=["around", "within"])
async def test_a_scope_that_is_copied_hides_no_route(owners: Owners, within: bool) -> None:
    """Where a middleware hands on a copy of the scope, the route is found by the path."""
    app = Starlette(routes=[Route("/orders/{id}", acquiring(owners))])
    wrapped: App = CopyingMiddleware(app)
    if within:
        app.add_middleware(CopyingMiddleware)
        wrapped = app
    assert (await request(OwnerMiddleware(wrapped), "/orders/1")).is_success
    assert owners == ["GET /orders/{id}"]


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
