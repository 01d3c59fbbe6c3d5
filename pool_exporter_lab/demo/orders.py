"""Serve the shop's orders, each route using the pool its own way; all of them give back what they take."""

from __future__ import annotations

import asyncio

from sqlalchemy import func, insert, select
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from pool_exporter_lab.demo.state import shop_of
from pool_exporter_lab.demo.tables import orders

PAYMENT_SECONDS = 0.25
"""How long the payment service takes, while the order's transaction is open: a common mistake."""
REPORT_SECONDS_PER_DAY = 0.1


async def list_orders(request: Request) -> Response:
    """Answer with the last orders."""
    async with shop_of(request).engine.connect() as connection:
        rows = await connection.execute(
            select(orders.c.id, orders.c.cents).order_by(orders.c.id.desc()).limit(20)
        )
        return JSONResponse([{"id": row.id, "cents": row.cents} for row in rows])


async def show_order(request: Request) -> Response:
    """Answer with one order."""
    key = request.path_params["id"]
    async with shop_of(request).engine.connect() as connection:
        cents = await connection.scalar(select(orders.c.cents).where(orders.c.id == key))
    return JSONResponse({"id": key, "cents": cents}, status_code=404 if cents is None else 200)


async def place_order(request: Request) -> Response:
    """Take an order, and the money for it in the middle of the transaction."""
    cents = int(request.query_params.get("cents", "100"))
    async with shop_of(request).engine.connect() as connection:
        await connection.execute(select(func.count()).select_from(orders))
        await asyncio.sleep(PAYMENT_SECONDS)
        placed = await connection.execute(insert(orders).values(cents=cents))
        await connection.commit()
    key = placed.inserted_primary_key
    return JSONResponse({"id": key[0] if key else None}, status_code=201)


async def report(request: Request) -> Response:
    """Answer with the turnover of some days, rendered while the connection is still held."""
    days = int(request.query_params.get("days", "7"))
    async with shop_of(request).engine.connect() as connection:
        total = await connection.scalar(select(func.sum(orders.c.cents)))
        await asyncio.sleep(REPORT_SECONDS_PER_DAY * days)
    return JSONResponse({"days": days, "cents": total or 0})
