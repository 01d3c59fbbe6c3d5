"""The one /metrics of many workers against what the clients did and what the database has."""

from __future__ import annotations

import os
import signal
import threading
import time

import pytest

from tests.servers import until
from tests.serving.servers.conftest import CLIENTS, Server, Start

QUIET_SECONDS = 1.1
"""More than the second whose work a killed worker may take with it."""

UVICORN = ("uvicorn", "orders:app", "--port", "{port}", "--log-level", "warning", "--workers")
GRANIAN = ("granian", "orders:app", "--interface", "asgi", "--port", "{port}", "--no-access-log", "--workers")
GUNICORN = ("gunicorn", "-c", "gunicorn.conf.py", "-b", "127.0.0.1:{port}")


def agree(server: Server, lost: int = 0) -> None:
    """Check that /metrics, the clients and the database agree on every order but `lost` ones at most."""
    rows = server.rows()
    assert len(server.orders) <= rows <= len(server.orders) + server.unknown

    def counted(name: str) -> int:
        return int(server.value(name))

    # What is acquired and not given back yet, in the moment of a publication, follows in the next.
    for name in (
        "checkouts_total",
        "checkins_total",
        "use_seconds_count",
        "wait_seconds_count",
        "acquires_total",
    ):
        until(
            lambda name=name: rows - lost <= counted(name) <= rows + (server.unknown if lost else 0),
            f"{rows} orders, {counted(name)} {name}",
        )


def kill(server: Server) -> int:
    """Kill the worker that took most orders; return it."""
    ((worker, _),) = server.by_worker().most_common(1)
    alive = server.workers()
    victim = worker if worker in alive else alive.pop()
    os.kill(victim, signal.SIGKILL)
    return victim


def check_a_server(server: Server, workers: int) -> None:
    """Take orders through a kill at rest, a kill under load and a rolling restart; the books must balance."""
    server.processes(workers)
    server.take_orders(400)
    agree(server)

    time.sleep(QUIET_SECONDS)  # the promise is about a second of real time
    kill(server)
    server.processes(workers)
    server.take_orders(200)
    agree(server)

    loading = threading.Thread(target=server.take_orders, args=(400,))
    loading.start()
    enough = len(server.orders) + 100
    until(lambda: len(server.orders) > enough, "half the load is taken")
    killed_at = time.monotonic()
    victim = kill(server)
    loading.join()
    server.processes(workers)
    last_second = sum(o.worker == victim and o.at > killed_at - 1.0 for o in server.orders)
    lost_at_most = last_second + CLIENTS
    agree(server, lost=lost_at_most)

    time.sleep(QUIET_SECONDS)
    until(lambda: server.value("connections", state="used") == 0, "what the killed worker held is gone")
    before, rows_before = server.value("checkins_total"), server.rows()
    earlier = server.workers()
    server.process.send_signal(signal.SIGHUP)
    until(lambda: not (earlier & server.workers()), "every worker is a new one", seconds=60)
    server.processes(workers)
    server.take_orders(200)
    added = server.rows() - rows_before
    try:
        until(
            lambda: server.value("checkins_total") - before == added,
            "all that came after the kill is counted",
        )
    except AssertionError:
        raise AssertionError((before, added, server.value("checkins_total"), server.by_process())) from None


def test_eight_uvicorn_workers(start: Start) -> None:
    """uvicorn's own supervisor: two kills and a restart of all workers, one after the other."""
    server = start("asyncpg", *UVICORN, "8")
    check_a_server(server, 8)
    assert server.value("connections_max") == 8 * 5


def test_four_granian_workers(start: Start) -> None:
    """granian's workers, that a signal has restarted."""
    server = start("asyncpg", *GRANIAN, "4", "--respawn-failed-workers")
    check_a_server(server, 4)


@pytest.mark.parametrize("preload", [False, True], ids=["", "preload"])
def test_gunicorn_with_sync_workers(start: Start, preload: bool) -> None:
    """Synchronous workers; with --preload the engine is there before the fork, and the parent is no worker."""
    options = ["--preload"] if preload else []
    server = start("psycopg", *GUNICORN, "-w", "4", *options, "orders_wsgi:app")
    check_a_server(server, 4)
    assert server.value("connections_max") == 4


def test_gunicorn_with_uvicorn_workers(start: Start) -> None:
    """gunicorn's supervision and uvicorn's event loop."""
    server = start("asyncpg", *GUNICORN, "-w", "4", "-k", "uvicorn_worker.UvicornWorker", "orders:app")
    check_a_server(server, 4)
    assert server.value("connections_max") == 4 * 5
