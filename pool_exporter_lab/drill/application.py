"""Put the drills' web application together: routes that use a pool well, and routes that do not."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, TimeoutError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from pool_exporter import OwnerMiddleware, metrics_app, owner
from pool_exporter.messages.verdict import verdict
from pool_exporter_lab.demo.faults import Dependent
from pool_exporter_lab.drill.state import SLEEP, STEP_SECONDS, State

_ONE = text("select 1")
_WORD_SECONDS = 0.25


def application(state: State) -> Starlette:
    """Return the application; its routes are named after what they do with a connection."""
    metrics = metrics_app()

    class Metrics:
        """Serve /metrics, once what is in phase with the scrapes has begun."""

        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            """Serve one scrape."""
            await state.scraped()
            await metrics(scope, receive, send)

    app = Starlette(
        routes=[
            Route("/work", work),
            Route("/call", call_elsewhere),
            Route("/update", update),
            Route("/export", export),
            Route("/chat", Dependent(current_user, chat)),
            Route("/impatient", impatient),
            Route("/leak", leak, methods=["POST"]),
            Route("/leak-cancelled", leak_cancelled, methods=["POST"]),
            Route("/drop", drop, methods=["POST"]),
            Route("/listen", listen, methods=["POST"]),
            Route("/batch", batch, methods=["POST"]),
            Route("/cron", cron, methods=["POST"]),
            Route("/dispose", dispose, methods=["POST"]),
            Route("/fail", fail, methods=["POST"]),
            Route("/uninstrument", uninstrument, methods=["POST"]),
            Route("/verdict", say_verdict),
            Route("/metrics", Metrics()),
        ],
        middleware=[Middleware(OwnerMiddleware)],
        exception_handlers={TimeoutError: _busy, DBAPIError: _unavailable, OSError: _unavailable},
    )
    app.state.drill = state
    return app


async def work(request: Request) -> Response:
    """Run one statement of so many seconds."""
    async with _engine(request).connect() as connection:
        await connection.execute(SLEEP, {"seconds": _number(request, "seconds", 0.01)})
    return PlainTextResponse("done\n")


async def call_elsewhere(request: Request) -> Response:
    """Ask another service while the transaction is open; with `commit=1` only the connection is kept."""
    async with _engine(request).connect() as connection:
        await connection.execute(_ONE)
        if _number(request, "commit", 0):
            await connection.commit()
        await asyncio.sleep(_number(request, "seconds", 1))
    return PlainTextResponse("done\n")


async def update(request: Request) -> Response:
    """Update the one row that everybody updates."""
    async with _engine(request).begin() as connection:
        await connection.execute(text("update counters set value = value + 1 where id = 1"))
    return PlainTextResponse("done\n")


async def export(request: Request) -> Response:
    """Stream rows from a server-side cursor, slowly, for so many seconds: honest and long."""
    rows = round(_number(request, "seconds", 1) / STEP_SECONDS)

    async def lines() -> AsyncIterator[str]:
        async with _engine(request).connect() as connection:
            query = text("select n from generate_series(1, :rows) n").execution_options(yield_per=1)
            async for row in await connection.stream(query, {"rows": rows}):
                await asyncio.sleep(STEP_SECONDS)
                yield f"{row.n}\n"

    return StreamingResponse(lines(), media_type="text/plain")


@contextlib.asynccontextmanager
async def current_user(request: Request) -> AsyncIterator[AsyncSession]:
    """Yield a session that has looked up who asks; its transaction stays open until the response ends."""
    async with AsyncSession(_engine(request)) as session:
        await session.execute(_ONE)
        yield session


async def chat(request: Request, session: AsyncSession) -> Response:
    """Stream words that need no database for so many seconds."""

    async def words() -> AsyncIterator[str]:
        for _ in range(round(_number(request, "seconds", 1) / _WORD_SECONDS)):
            await asyncio.sleep(_WORD_SECONDS)
            yield "word "

    return StreamingResponse(words(), media_type="text/plain")


async def impatient(request: Request) -> Response:
    """Give up connecting after so many seconds, as a client with a deadline does."""
    try:
        connection = await asyncio.wait_for(_engine(request).connect(), _number(request, "seconds", 0.1))
    except asyncio.TimeoutError:
        return PlainTextResponse("gave up\n", status_code=504)
    await connection.close()
    return PlainTextResponse("done\n")


async def leak(request: Request) -> Response:
    """Forget so many connections: they stay out for good."""
    for _ in range(round(_number(request, "times", 1))):
        connection = await _engine(request).connect()
        await connection.execute(_ONE)
        _state(request).forgotten.append(connection)
    return PlainTextResponse("done\n")


async def leak_cancelled(request: Request) -> Response:
    """Be cancelled between taking a connection and giving it back, without a `finally`."""

    async def careless() -> None:
        connection = await _engine(request).connect()
        _state(request).forgotten.append(connection)
        await connection.execute(_ONE)
        await asyncio.sleep(_number(request, "seconds", 1))
        _state(request).forgotten.remove(connection)  # never reached
        await connection.close()

    with contextlib.suppress(asyncio.TimeoutError):
        await asyncio.wait_for(careless(), _number(request, "patience", 0.2))
    return PlainTextResponse("gave up\n", status_code=504)


async def drop(request: Request) -> Response:
    """Drop a connection without close(): it is lost until the garbage collector finds it."""
    connection = await _engine(request).connect()
    await connection.execute(_ONE)
    return PlainTextResponse("done\n")


async def listen(request: Request) -> Response:
    """Start a worker that keeps a connection for LISTEN, as long as the application runs."""

    async def listener() -> None:
        with owner("listener"):
            async with _engine(request).connect() as connection:
                await connection.execute(text("listen news"))
                await connection.commit()
                await asyncio.Event().wait()

    _state(request).start(listener())
    return PlainTextResponse("started\n")


async def batch(request: Request) -> Response:
    """Start a job of so many seconds in one transaction, with a pause between its statements."""
    seconds = _number(request, "seconds", 1)
    pause = _number(request, "pause", 0.2)

    async def job() -> None:
        with owner(request.query_params.get("owner", "batch:nightly")):
            async with _engine(request).begin() as connection:
                for _ in range(round(seconds / (pause + STEP_SECONDS))):
                    await connection.execute(SLEEP, {"seconds": STEP_SECONDS})
                    await asyncio.sleep(pause)

    _state(request).start(job())
    return PlainTextResponse("started\n")


async def cron(request: Request) -> Response:
    """Run so many jobs of so many seconds at each scrape from now on."""
    state = _state(request)
    state.jobs_per_scrape = round(_number(request, "jobs", 5))
    state.job_seconds = _number(request, "seconds", 0.1)
    return PlainTextResponse("done\n")


async def dispose(request: Request) -> Response:
    """Dispose of the engine's pool, as a deploy or a change of the password does."""
    await _engine(request).dispose()
    return PlainTextResponse("done\n")


async def fail(request: Request) -> Response:
    """Let one of the application's own parts fail so many times from now on."""
    _state(request).failures[request.query_params["part"]] = round(_number(request, "times", 1))
    return PlainTextResponse("done\n")


async def uninstrument(request: Request) -> Response:
    """Lose the pool's metrics while the application goes on, as an upgrade gone wrong does."""
    _state(request).pool.uninstrument()
    return PlainTextResponse("done\n")


async def say_verdict(request: Request) -> Response:
    """Say what the status page would say of the pool now."""
    pool = _state(request).pool
    said = verdict(pool.snapshot(), pool.held())
    return JSONResponse({"state": said.state, "text": said.text})


async def _busy(request: Request, error: Exception) -> Response:
    return PlainTextResponse("no database connection in time\n", status_code=503)


async def _unavailable(request: Request, error: Exception) -> Response:
    return PlainTextResponse("the database failed\n", status_code=503)


def _state(request: Request) -> State:
    state: State = request.app.state.drill
    return state


def _engine(request: Request) -> AsyncEngine:
    return _state(request).engine


def _number(request: Request, name: str, default: float) -> float:
    return float(request.query_params.get(name, default))
