"""Check who acquires in requests, with owners and traces, and in reduced mode."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import httpx
import pytest
from fastapi import BackgroundTasks, Depends, FastAPI
from opentelemetry.sdk.trace import TracerProvider
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from pool_exporter import HeldConnection, owner
from pool_exporter.capture import privates
from pool_exporter.capture.callers.middleware import OwnerMiddleware
from tests.capture.callers.applications import (
    NOWHERE,
    Application,
    assert_held,
    name_of,
    place,
    place_of,
)
from tests.capture.callers.conftest import MakeApplication
from tests.capture.callers.ways import SELECT


class Site:
    """A web application that acquires in each of its places, and remembers who had the connection."""

    def __init__(self, app: Application) -> None:
        self.app = app
        self.seen: list[HeldConnection] = []
        self.fastapi = FastAPI()
        self.fastapi.add_middleware(OwnerMiddleware)

        async def session() -> AsyncIterator[AsyncSession]:
            async with app.session() as session:
                await session.execute(SELECT)  # acquires
                yield session

        self.session = session

    def look(self) -> None:
        """Remember who has the connection now."""
        self.seen.append(self.app.held())

    async def get(self, path: str) -> None:
        """Serve a request."""
        await get(self.fastapi, path)

    def assert_seen(self, function: Callable[..., Any], owner: str) -> None:
        """Assert that it was this function every time."""
        assert self.seen
        for held in self.seen:
            # A framework may serve a part of a request in a task of its own.
            assert_held(held, place_of(function), owner=owner, task=held.task_name)
            assert held.task_name is not None


async def get(app: Any, path: str) -> httpx.Response:
    """Send a request to an ASGI application."""
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://testserver") as client:
        return await client.get(path)


@pytest.fixture
def site(app: Application) -> Site:
    """A web application."""
    return Site(app)


async def test_a_dependency_of_an_endpoint(site: Site) -> None:
    """The route owns what a dependency acquired, and the dependency is the function."""
    needed = Depends(site.session)

    @site.fastapi.get("/orders/{id}")
    async def order(id: int, session: AsyncSession = needed) -> None:
        await asyncio.sleep(0)
        site.look()

    await site.get("/orders/7")
    site.assert_seen(site.session, "GET /orders/{id}")


async def test_an_endpoint(site: Site) -> None:
    """An endpoint that acquires itself is the function."""

    @site.fastapi.get("/orders/{id}")
    async def order(id: int) -> None:
        async with site.app.engine.connect():  # acquires
            site.look()

    await site.get("/orders/7")
    site.assert_seen(order, "GET /orders/{id}")


async def test_the_background_task_of_a_request(site: Site) -> None:
    """What a background task acquires belongs to the route that asked for it."""

    async def bills() -> None:
        async with site.app.engine.connect():  # acquires
            site.look()

    @site.fastapi.get("/orders/{id}")
    async def order(id: int, tasks: BackgroundTasks) -> None:
        tasks.add_task(bills)

    await site.get("/orders/7")
    site.assert_seen(bills, "GET /orders/{id}")


async def test_a_response_that_streams(site: Site) -> None:
    """While a response streams, the dependency's connection belongs to the route still."""
    needed = Depends(site.session)

    @site.fastapi.get("/chat/stream")
    async def chat(session: AsyncSession = needed) -> StreamingResponse:
        async def words() -> AsyncIterator[str]:
            for word in ("one", "two"):
                site.look()
                yield word

        return StreamingResponse(words())

    await site.get("/chat/stream")
    site.assert_seen(site.session, "GET /chat/stream")
    assert len(site.seen) == 2


async def test_a_stream_that_acquires(site: Site) -> None:
    """A generator that acquires while the response streams has it, for the route."""

    async def words() -> AsyncIterator[str]:
        async with site.app.engine.connect():  # acquires
            site.look()
            yield "word"

    @site.fastapi.get("/chat/stream")
    async def chat() -> StreamingResponse:
        return StreamingResponse(words())

    await site.get("/chat/stream")
    site.assert_seen(words, "GET /chat/stream")


async def test_a_synchronous_endpoint(sync_app: Application) -> None:
    """An endpoint and a dependency that run in threads have the route too."""
    fastapi = FastAPI()
    fastapi.add_middleware(OwnerMiddleware)

    def connection_of() -> Iterator[Any]:
        with sync_app.engine.connect() as connection:  # acquires
            yield connection

    needed = Depends(connection_of)

    @fastapi.get("/orders/{id}")
    def order(id: int, connection: Any = needed) -> None:
        sync_app.assert_held_by(connection_of, owner="GET /orders/{id}", task=None)

    assert (await get(fastapi, "/orders/7")).status_code == 200


async def test_starlette_without_the_middleware(app: Application) -> None:
    """Without the middleware the endpoint owns it, by its name."""

    async def endpoint(request: Request) -> Response:
        async with app.engine.connect():  # acquires
            app.assert_held_by(endpoint)
        return PlainTextResponse("")

    assert (await get(Starlette(routes=[Route("/", endpoint)]), "/")).status_code == 200


async def test_a_background_task_without_the_application(app: Application) -> None:
    """What a framework calls for itself is no function of the application: unknown, not the framework."""
    session = app.session()

    async def endpoint(request: Request) -> Response:
        return PlainTextResponse("", background=BackgroundTask(session.execute, SELECT))

    assert (await get(Starlette(routes=[Route("/", endpoint)]), "/")).status_code == 200
    assert place(app.held()) == NOWHERE
    await session.close()


def test_a_wsgi_application(sync_app: Application) -> None:
    """A function that serves a request without asyncio has it, and `owner()` names its work."""

    def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        with sync_app.engine.connect():  # acquires
            sync_app.assert_held_by(application, owner=environ.get("owner"))
        start_response("200 OK", [])
        return [b""]

    application({}, lambda *_: None)
    with owner("GET /orders"):
        application({"owner": "GET /orders"}, lambda *_: None)


async def test_a_named_owner(app: Application) -> None:
    """The name given to the work owns it, and the function stands beside it."""
    with owner("nightly billing"):
        async with app.engine.connect():  # acquires
            app.assert_held_by(test_a_named_owner, owner="nightly billing")


async def test_an_owner_of_a_task_without_the_application(app: Application) -> None:
    """The name follows into a task that has no frame of the application."""
    with owner("nightly billing"):
        [connection] = await asyncio.gather(app.engine.connect())
    held = app.held()
    assert (place(held), held.owner) == (NOWHERE, "nightly billing")
    await connection.close()


@pytest.mark.parametrize("name", ["", "  ", 7, None, b"job", "x" * 201, "\ud800"])
def test_an_owner_that_is_no_name(name: Any) -> None:
    """A name that is none raises where it is given, and not in a checkout."""
    with pytest.raises((TypeError, ValueError), match=r"^name="):
        owner(name)


async def test_without_attribution(make: MakeApplication) -> None:
    """Switched off, nothing is looked for: the owner is unknown, named work or not."""
    app = make("asyncpg", attribution=False)
    with owner("nightly billing"):
        async with app.engine.connect():
            app.assert_held_by(NOWHERE, task=None)


async def test_a_current_span(app: Application) -> None:
    """The trace of the current span is kept, of the moment of the acquire; none where there is none."""
    tracer = TracerProvider().get_tracer(__name__)
    async with app.engine.connect():  # acquires
        with tracer.start_as_current_span("later"):
            app.assert_held_by(test_a_current_span)
    with tracer.start_as_current_span("request") as span:
        connection = await app.engine.connect()
    assert app.held().trace_id == f"{span.get_span_context().trace_id:032x}"
    await connection.close()


@pytest.fixture
def reduced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no version of SQLAlchemy be one that was tested, so that only events are used."""
    monkeypatch.setattr(privates, "TESTED_MINORS", ((1, 4),))


@pytest.mark.usefixtures("reduced")
@pytest.mark.parametrize("driver", ["asyncpg", "psycopg_async", "aiosqlite"])
async def test_reduced_mode(driver: str, make: MakeApplication) -> None:
    """The checkout event shows the same frame, task and owner."""
    app = make(driver)
    assert app.pool.snapshot().mode == "reduced"
    async with app.engine.connect():  # acquires
        app.assert_held_by(test_reduced_mode)
    session = app.session()
    with owner("nightly billing"):
        await session.execute(SELECT)
    assert (app.held().function, app.held().owner) == (name_of(test_reduced_mode), "nightly billing")
    await session.close()


@pytest.mark.usefixtures("reduced")
def test_reduced_mode_without_asyncio(make: MakeApplication) -> None:
    """The same on a synchronous engine."""
    app = make("psycopg")
    with app.engine.connect():  # acquires
        app.assert_held_by(test_reduced_mode_without_asyncio)
