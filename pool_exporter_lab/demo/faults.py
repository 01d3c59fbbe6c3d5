"""Serve the routes that are at fault, a route for each way to keep a connection too long."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Generic, TypeVar

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from pool_exporter_lab.demo.state import shop_of
from pool_exporter_lab.demo.tables import orders, users

MAX_CENTS_UNAPPROVED = 5000
"""The largest refund that nobody need approve."""
STREAM_SECONDS = 30.0

_WORD_SECONDS = 0.5
_T = TypeVar("_T")


class Dependent(Generic[_T]):
    """An endpoint with a dependency as FastAPI has them: entered before it, left after the response."""

    def __init__(
        self,
        dependency: Callable[[Request], AbstractAsyncContextManager[_T]],
        endpoint: Callable[[Request, _T], Awaitable[Response]],
    ) -> None:
        self._dependency = dependency
        self._endpoint = endpoint

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        request = Request(scope, receive)
        async with self._dependency(request) as value:
            response = await self._endpoint(request, value)
            await response(scope, receive, send)


async def refund_order(request: Request) -> Response:
    """Refund an order; where that needs an approval, forget the connection: the leak."""
    cents = int(request.query_params.get("cents", "100"))
    shop = shop_of(request)
    connection = await shop.engine.connect()
    paid = await connection.scalar(select(orders.c.cents).where(orders.c.id == request.path_params["id"]))
    if cents > MAX_CENTS_UNAPPROVED:
        shop.awaiting_approval.append(connection)
        return PlainTextResponse("somebody will approve this\n", status_code=202)
    await connection.close()
    return JSONResponse({"paid": paid, "refunded": cents})


@contextlib.asynccontextmanager
async def get_current_user(request: Request) -> AsyncIterator[str | None]:
    """Yield who asks; the session, and with its first statement a transaction, stays open until then."""
    async with AsyncSession(shop_of(request).engine) as session:
        name = await session.scalar(select(users.c.name).limit(1))
        yield name


async def stream_chat(request: Request, user: str | None) -> Response:
    """Answer word by word for `STREAM_SECONDS`, which needs no database at all."""

    async def words() -> AsyncIterator[str]:
        yield f"Well, {user or 'stranger'}, "
        for _ in range(round(STREAM_SECONDS / _WORD_SECONDS)):
            await asyncio.sleep(_WORD_SECONDS)
            yield "and so on, "
        yield "the end.\n"

    return StreamingResponse(words(), media_type="text/plain")


async def show_statistics(request: Request) -> Response:
    """Run one statement that takes long, as an analysis without an index does; PostgreSQL only."""
    seconds = float(request.query_params.get("seconds", "1"))
    async with shop_of(request).engine.connect() as connection:
        await connection.execute(select(func.pg_sleep(seconds)))
    return JSONResponse({"seconds": seconds})


async def print_invoice(request: Request) -> Response:
    """Drop the connection without close(): it is lost until the garbage collector finds it."""
    key = request.path_params["id"]
    connection = await shop_of(request).engine.connect()
    cents = await connection.scalar(select(orders.c.cents).where(orders.c.id == key))
    return JSONResponse({"id": key, "cents": cents})
