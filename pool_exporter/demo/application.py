"""Define the demo's web application: a shop with a few routes, each of which uses the pool its own way."""

from __future__ import annotations

import asyncio

from sqlalchemy import Column, DateTime, Integer, MetaData, Table, func, insert, select
from sqlalchemy.exc import DBAPIError, TimeoutError
from sqlalchemy.ext.asyncio import AsyncEngine
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

PAYMENT_SECONDS = 0.25
"""How long the payment service takes, while the order's transaction is open: a common mistake."""
REPORT_SECONDS_PER_DAY = 0.1

_metadata = MetaData()
_orders = Table(
    "orders",
    _metadata,
    Column("id", Integer, primary_key=True),
    Column("cents", Integer, nullable=False),
    Column("placed_at", DateTime, nullable=False, server_default=func.current_timestamp()),
)


async def prepare(engine: AsyncEngine) -> None:
    """Create the tables."""
    async with engine.begin() as connection:
        await connection.run_sync(_metadata.create_all)


def application(engine: AsyncEngine, metrics: ASGIApp) -> Starlette:
    """Return the shop on `engine`, with `metrics` (the ASGI application of /metrics) beside it."""

    async def index(request: Request) -> Response:
        return PlainTextResponse("GET /orders, POST /orders?cents=100, GET /report?days=7, GET /metrics\n")

    async def list_orders(request: Request) -> Response:
        async with engine.connect() as connection:
            rows = await connection.execute(
                select(_orders.c.id, _orders.c.cents).order_by(_orders.c.id.desc()).limit(20)
            )
            return JSONResponse([{"id": row.id, "cents": row.cents} for row in rows])

    async def place_order(request: Request) -> Response:
        cents = int(request.query_params.get("cents", "100"))
        async with engine.connect() as connection:
            await connection.execute(select(func.count()).select_from(_orders))
            await asyncio.sleep(PAYMENT_SECONDS)
            placed = await connection.execute(insert(_orders).values(cents=cents))
            await connection.commit()
        key = placed.inserted_primary_key
        return JSONResponse({"id": key[0] if key else None}, status_code=201)

    async def report(request: Request) -> Response:
        days = int(request.query_params.get("days", "7"))
        async with engine.connect() as connection:
            total = await connection.scalar(select(func.sum(_orders.c.cents)))
            await asyncio.sleep(REPORT_SECONDS_PER_DAY * days)  # the rendering, done too early
        return JSONResponse({"days": days, "cents": total or 0})

    return Starlette(
        routes=[
            Route("/", index),
            Route("/orders", list_orders),
            Route("/orders", place_order, methods=["POST"]),
            Route("/report", report),
            Route("/metrics", metrics),  # two routes; a mount would redirect the first to the second
            Route("/metrics/", metrics),
        ],
        exception_handlers={TimeoutError: _busy, DBAPIError: _unavailable},
    )


async def _busy(request: Request, error: Exception) -> Response:
    """Answer when the pool gave no connection in time."""
    return PlainTextResponse(
        "no database connection in time\n", status_code=503, headers={"Retry-After": "1"}
    )


async def _unavailable(request: Request, error: Exception) -> Response:
    """Answer when the database fails; its message may hold SQL, so it stays here."""
    return PlainTextResponse("the database failed\n", status_code=503)
