"""Check that what a request acquires belongs to its route."""

from __future__ import annotations

import asyncio
import contextvars
import types
from collections.abc import AsyncIterator, Iterator

import pytest
from fastapi import APIRouter, BackgroundTasks, Depends, FastAPI
from sqlalchemy.util import greenlet_spawn
from starlette.applications import Starlette
from starlette.authentication import AuthCredentials, AuthenticationBackend, SimpleUser
from starlette.background import BackgroundTask
from starlette.middleware import Middleware
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.requests import HTTPConnection, Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Mount, Route

from pool_exporter.capture.callers.middleware import OwnerMiddleware
from pool_exporter.capture.callers.owner import current_owner, owner
from tests.capture.callers.requests import (
    AcquiringMiddleware,
    App,
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
