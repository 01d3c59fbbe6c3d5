"""Run the examples behind real servers with real workers, against a PostgreSQL of their own."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import httpx
import psutil
import pytest
from prometheus_client.multiprocess import MultiProcessCollector

from tests.postgres import PostgresServer
from tests.servers import until
from tests.support import ROOT, free_port

EXAMPLES = ROOT / "examples"
CLIENTS = 16
DEADLINE_SECONDS = 60.0


class Order(NamedTuple):
    """One order that a worker took: which one, and when the client knew it."""

    worker: int
    at: float


class Server:
    """A server with workers, and a client that counts what it did."""

    def __init__(
        self,
        command: list[str],
        port: int,
        environment: dict[str, str],
        directory: Path,
        postgres: PostgresServer,
    ) -> None:
        self.port = port
        self.directory = directory
        self.postgres = postgres
        self.orders: list[Order] = []
        self.unknown = 0  # orders whose answer never came: taken or not
        self._url = f"http://127.0.0.1:{port}"
        # A worker that is stopped between two requests must not keep a connection that we would use.
        limits = httpx.Limits(max_keepalive_connections=0)
        self._client = httpx.Client(base_url=self._url, limits=limits, timeout=20)
        self._log = (directory / "server.log").open("wb")
        self.process = subprocess.Popen(
            [str(Path(sys.executable).with_name(command[0])), *command[1:]],
            cwd=EXAMPLES,
            env={**os.environ, **environment},
            stdout=self._log,
            stderr=subprocess.STDOUT,
        )

    def take_orders(self, number: int) -> None:
        """Take so many orders, `CLIENTS` at a time, each by a connection of its own."""

        def one(_: int) -> None:
            try:
                answer = client.post("/orders")
            except httpx.HTTPError:
                self.unknown += 1
            else:
                self.orders.append(Order(int(answer.raise_for_status().json()["worker"]), time.monotonic()))

        # A new connection for each, so that all workers get some.
        limits = httpx.Limits(max_keepalive_connections=0)
        with (
            httpx.Client(base_url=self._url, limits=limits, timeout=20) as client,
            ThreadPoolExecutor(CLIENTS) as clients,
        ):
            list(clients.map(one, range(number)))

    def workers(self) -> set[int]:
        """Return the processes that have taken orders and are still there."""
        return {order.worker for order in self.orders if psutil.pid_exists(order.worker)}

    def value(self, name: str, **labels: str) -> float:
        """Return a number of the one /metrics, 0 where it has none."""
        try:
            text = self._client.get("/metrics").text
        except httpx.HTTPError:
            return 0.0
        wanted = {"pool": "orders", **labels}
        rendered = ",".join(f'{key}="{value}"' for key, value in sorted(wanted.items()))
        for line in text.splitlines():
            if line.startswith(f"sqlalchemy_pool_{name}{{{rendered}}} "):
                return float(line.rpartition(" ")[2])
        return 0.0

    def rows(self) -> int:
        """Return how many orders the database has."""
        with self.postgres.observer() as observer:
            row = observer.execute("SELECT count(*) FROM orders").fetchone()
            assert row is not None
            return int(row[0])

    def by_process(self) -> dict[str, tuple[float, int]]:
        """Return the checkins in each process's own files, and the orders that the database has of it."""
        with self.postgres.observer() as observer:
            rows = dict(
                observer.execute("SELECT worker::text, count(*) FROM orders GROUP BY worker").fetchall()
            )
        found = {}
        for file in sorted((self.directory / "metrics").glob("counter_*.db")):
            pid = file.stem.removeprefix("counter_")
            values = {
                sample.name: sample.value
                for family in MultiProcessCollector.merge([str(file)])  # type: ignore[no-untyped-call]  # untyped upstream
                for sample in family.samples
                if sample.labels == {"pool": "orders"}
            }
            found[pid] = (values.get("sqlalchemy_pool_checkins_total", 0.0), int(rows.get(pid, 0)))
        return found

    def log(self) -> str:
        """Return what the server printed."""
        return (self.directory / "server.log").read_text(errors="replace")

    def stop(self) -> None:
        """Stop the server and whatever it has started."""
        family = [self.process.pid, *(child.pid for child in self._children())]
        self.process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(20)
        for pid in family:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()
        self._client.close()
        self._log.close()

    def _children(self) -> list[psutil.Process]:
        try:
            return psutil.Process(self.process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []

    def processes(self, number: int) -> None:
        """Wait until so many workers are counted."""
        until(lambda: self.value("processes") == number, f"{number} workers: {self.log()[-2000:]}")

    def by_worker(self) -> Counter[int]:
        """Return how many orders each worker took, as its answers said."""
        return Counter(order.worker for order in self.orders)


class Start:
    """Start servers for one test."""

    def __init__(self, directory: Path, postgres: PostgresServer) -> None:
        self._directory = directory
        self._postgres = postgres
        self.started: list[Server] = []

    def __call__(
        self, driver: str | None, *command: str, environment: dict[str, str] | None = None
    ) -> Server:
        """Start a server by its command, in which `{port}` is its port.

        With a `driver` its workers have a database with a table of orders, and a directory to share.
        """
        port = free_port()
        directory = self._directory / str(len(self.started))
        directory.mkdir()
        environment = dict(environment or {})
        if driver is not None:
            with self._postgres.observer() as observer:
                observer.execute("DROP TABLE IF EXISTS orders")
                observer.execute("CREATE TABLE orders (id serial PRIMARY KEY, worker int)")
            files = directory / "metrics"
            files.mkdir()
            environment["DATABASE_URL"] = f"postgresql+{driver}://{self._postgres.address}"
            environment["PROMETHEUS_MULTIPROC_DIR"] = str(files)
        server = Server(
            [part.format(port=port) for part in command], port, environment, directory, self._postgres
        )
        self.started.append(server)
        return server


@pytest.fixture
def start(tmp_path: Path, postgres: PostgresServer) -> Iterator[Start]:
    """Start servers that are stopped at the end of the test."""
    starting = Start(tmp_path, postgres)
    yield starting
    for server in starting.started:
        server.stop()
