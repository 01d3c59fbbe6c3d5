"""Say what the routes of a drill's application share, and what goes on beside them."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass, field

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from pool_exporter import Instrumentation, owner

SLEEP = text("select pg_sleep(:seconds)")
STEP_SECONDS = 0.05


@dataclass(slots=True)
class State:
    """Hold what the routes share: the pool, what they forget, and what goes on in the background."""

    engine: AsyncEngine
    pool: Instrumentation
    forgotten: list[AsyncConnection] = field(default_factory=list)
    background: set[asyncio.Task[None]] = field(default_factory=set)
    jobs_per_scrape: int = 0
    job_seconds: float = 0.0
    failures: dict[str, int] = field(default_factory=dict)
    """How many times more each of the application's own fallible parts is to fail, by its name."""

    def start(self, work: Coroutine[object, object, None]) -> None:
        """Start work that no request waits for."""
        task = asyncio.create_task(work)
        self.background.add(task)
        task.add_done_callback(self._ended)

    def stumble(self, part: str) -> None:
        """Raise if this part is to fail now."""
        if self.failures.get(part, 0) > 0:
            self.failures[part] -= 1
            raise RuntimeError(f"the application's own part for {part} fails, as the drill wants it")

    async def scraped(self) -> None:
        """Start the jobs that are in phase with the scrapes, and let them take their connections."""
        for _ in range(self.jobs_per_scrape):
            self.start(self._job())
        if self.jobs_per_scrape:
            await asyncio.sleep(STEP_SECONDS)

    async def _job(self) -> None:
        with owner("cron"):
            async with self.engine.connect() as connection:
                await connection.execute(SLEEP, {"seconds": self.job_seconds})

    def _ended(self, task: asyncio.Task[None]) -> None:
        self.background.discard(task)
        if not task.cancelled():
            task.exception()  # a fault of the drill: retrieved, so that asyncio does not log it
