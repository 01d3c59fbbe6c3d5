"""Take orders with any number of workers, and serve the pools of all of them at /metrics.

Run it by uvicorn, granian or gunicorn as README.md beside this file says. DATABASE_URL names a
PostgreSQL database, by default `postgresql+asyncpg://localhost/orders`.
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from pool_exporter import OwnerMiddleware, instrument, metrics_app

engine = create_async_engine(
    os.environ.get("DATABASE_URL", "postgresql+asyncpg://localhost/orders"), pool_size=3, max_overflow=2
)
instrument(engine, name="orders")


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    yield
    await engine.dispose()


app = FastAPI(lifespan=lifespan)
app.add_middleware(OwnerMiddleware)
app.add_route("/metrics", metrics_app())


@app.post("/orders")
async def order() -> dict[str, int]:
    """Write down one order; say which worker did it."""
    async with engine.begin() as connection:
        await connection.execute(
            text("INSERT INTO orders (worker) VALUES (:worker)"), {"worker": os.getpid()}
        )
    return {"worker": os.getpid()}
