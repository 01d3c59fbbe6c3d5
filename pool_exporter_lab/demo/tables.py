"""Define the tables of the demo's shop."""

from __future__ import annotations

from sqlalchemy import Column, DateTime, Integer, MetaData, String, Table, func, insert
from sqlalchemy.ext.asyncio import AsyncEngine

FIRST_ORDERS = 50

_metadata = MetaData()
orders = Table(
    "orders",
    _metadata,
    Column("id", Integer, primary_key=True),
    Column("cents", Integer, nullable=False),
    Column("placed_at", DateTime, nullable=False, server_default=func.current_timestamp()),
)
users = Table("users", _metadata, Column("id", Integer, primary_key=True), Column("name", String(50)))


async def prepare(engine: AsyncEngine) -> None:
    """Create the tables, with one user and the first orders."""
    async with engine.begin() as connection:
        await connection.run_sync(_metadata.create_all)
        await connection.execute(insert(users).values(name="Ada"))
        await connection.execute(
            insert(orders), [{"cents": 100 * number} for number in range(1, FIRST_ORDERS + 1)]
        )
