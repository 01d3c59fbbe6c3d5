"""Give one scenario what it plays with: applications, load, proxies, servers of its own, and a clock."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from psycopg import sql
from sqlalchemy import URL

from pool_exporter_lab.demo.workload import Crowd, workload
from pool_exporter_lab.drill import postgresql
from pool_exporter_lab.drill.errors import DrillError
from pool_exporter_lab.drill.exporter import exporting
from pool_exporter_lab.drill.monitoring import Prometheus
from pool_exporter_lab.drill.pgbouncer import PgBouncer, pgbouncer
from pool_exporter_lab.drill.processes import HOST
from pool_exporter_lab.drill.proxy import Proxy, proxying
from pool_exporter_lab.drill.running import Application
from pool_exporter_lab.drill.scale import minutes
from pool_exporter_lab.drill.settings import POOL, Settings
from pool_exporter_lab.drill.webhook import Receiver


@dataclass(frozen=True, slots=True)
class Servers:
    """Hold what all scenarios share.

    - `mutes`: which alerts the causes mute, by their full names.
    - `tell`: takes a line about how far a scenario is, for whoever waits.
    """

    programs: Mapping[str, Path]
    directory: Path
    postgresql: postgresql.Server
    prometheus: Prometheus
    receiver: Receiver
    mutes: Mapping[str, Collection[str]]
    tell: Callable[[str], None]


class Stage:
    """What a scenario plays with. All of it ends with `stack`; `name` is its job, pool and database."""

    def __init__(self, name: str, seed: int, servers: Servers, stack: contextlib.AsyncExitStack) -> None:
        self.name = name
        self.servers = servers
        self.stack = stack
        self.dice = random.Random(f"{seed}/{name}")  # noqa: S311 - for pauses and choices
        self.applications: list[Application] = []
        self.began = time.monotonic()
        self._seed = seed
        self._tasks: list[asyncio.Task[None]] = []
        self._has_database = False

    async def url(self, driver: str = "asyncpg") -> URL:
        """Return the URL of this scenario's own database on the server that all share."""
        if not self._has_database:
            self._has_database = True
            await self.servers.postgresql.execute(
                sql.SQL("create database {}").format(sql.Identifier(self.name))
            )
        return self.servers.postgresql.url(self.name, driver)

    async def application(
        self,
        url: URL | None = None,
        *,
        workers: int = 1,
        null_pool: bool = False,
        collects: bool = False,
        fallible: bool = False,
        started: bool = True,
        connect: Mapping[str, float | bool | str | None] | None = None,
        **pool: float | bool,
    ) -> Application:
        """Start an application, by default on this scenario's own database, and have it scraped.

        With `started=False` it is left to the scenario when it starts; that it is scraped takes Prometheus seconds.
        """
        url = url or await self.url()
        settings = Settings(
            name=self.name,
            url=url.render_as_string(hide_password=False),
            pool={} if null_pool else {**POOL, **pool},
            connect=connect or {},
            null_pool=null_pool,
            collects=collects,
            fallible=fallible,
        )
        application = Application(settings, self.servers.directory, workers)
        self.stack.push_async_callback(application.close)
        if started:
            await application.start()
        self.applications.append(application)
        self._scrape()
        return application

    async def retire(self, application: Application) -> None:
        """Take an application away for good, as a deploy does with what it has replaced."""
        self.applications.remove(application)
        self._scrape()
        await application.stop()

    async def load(self, application: Application, *crowds: Crowd) -> None:
        """Let crowds of clients ask an application from now on."""
        seed = self._seed + len(self._tasks)
        self._tasks += await self.stack.enter_async_context(workload(crowds, HOST, application.port, seed))

    def often(self, ask: Callable[[], object], *, seconds: Callable[[], float]) -> None:
        """Call `ask()`, awaiting what it returns, again and again with pauses of so many seconds."""

        async def repeat() -> None:
            while True:
                answer = ask()
                if asyncio.iscoroutine(answer):
                    await answer
                await asyncio.sleep(seconds())

        self.background(asyncio.create_task(repeat()))

    def background(self, task: asyncio.Task[None]) -> None:
        """Keep a task until the scenario ends, and cancel it then."""
        self._tasks.append(task)
        self.stack.push_async_callback(_cancelled, task)

    async def proxy(self) -> tuple[Proxy, URL]:
        """Put a proxy before the shared server; return it and the URL through it."""
        url = await self.url()
        proxy = await self.stack.enter_async_context(proxying(self.servers.postgresql.socket))
        return proxy, url.set(host=HOST, port=proxy.port, query={"ssl": "disable"})

    async def own_server(self, *settings: str) -> postgresql.Server:
        """Start a PostgreSQL server for this scenario alone."""
        return await self.stack.enter_async_context(postgresql.server(*settings))

    async def export(self, server: postgresql.Server) -> None:
        """Have the settings of a server scraped, as PostgreSQL's usual exporter gives them."""
        program = self.servers.programs["prometheus-postgres-exporter"]
        port = await self.stack.enter_async_context(exporting(program, server))
        job = f"{self.name}-postgres"
        self.stack.callback(self.servers.prometheus.scrape, job, [])
        self.servers.prometheus.scrape(job, [port])

    async def pgbouncer(self, **settings: float) -> tuple[PgBouncer, URL]:
        """Put a pgbouncer before the shared server; return it and the URL through it."""
        await self.url()
        program = self.servers.programs["pgbouncer"]
        bouncer = await self.stack.enter_async_context(
            pgbouncer(program, self.servers.postgresql, **settings)
        )
        return bouncer, bouncer.url(self.name)

    async def minutes(self, number: float) -> None:
        """Wait so many minutes of production; raise what ended a background task meanwhile."""
        await asyncio.sleep(minutes(number))
        self.check()

    def check(self) -> None:
        """Raise what ended a task that ought to run as long as the scenario."""
        for task in self._tasks:
            if task.done() and not task.cancelled():
                task.result()
                raise DrillError(f"{self.name}: a part of the workload ended by itself")

    def begin(self) -> None:
        """Take the time: the fault begins now."""
        self.began = time.monotonic()
        self.servers.tell(f"{self.name}: it begins")

    def _scrape(self) -> None:
        self.servers.prometheus.scrape(self.name, [one.port for one in self.applications])


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
