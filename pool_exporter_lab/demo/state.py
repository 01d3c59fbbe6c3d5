"""Say what the routes of the demo's shop share: the engine, and what one of them forgets."""

from __future__ import annotations

from dataclasses import dataclass, field

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from starlette.requests import Request


@dataclass(frozen=True, slots=True)
class Shop:
    """Hold what stands in `app.state.shop`."""

    engine: AsyncEngine
    awaiting_approval: list[AsyncConnection] = field(default_factory=list)
    """Connections of refunds that somebody is to approve: nobody ever comes to look."""

    async def close(self) -> None:
        """Close what was forgotten, so that the database can go."""
        while self.awaiting_approval:
            await self.awaiting_approval.pop().close()


def shop_of(request: Request) -> Shop:
    """Return the shop that a request came to."""
    shop: Shop = request.app.state.shop
    return shop
