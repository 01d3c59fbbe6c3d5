"""Several workers without a directory to share: no series looks reset, and one port serves one of them."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor

import httpx
import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.servers import until
from tests.serving.servers.conftest import Server, Start
from tests.support import free_port

HERE = os.path.dirname(__file__)
UVICORN = ("uvicorn", "--app-dir", HERE, "apps:asgi", "--port", "{port}", "--log-level", "info", "--workers")
GUNICORN = ("gunicorn", "--chdir", HERE, "apps:wsgi", "-b", "127.0.0.1:{port}", "-w")
GRANIAN = (
    "granian",
    "--working-dir",
    HERE,
    "apps:asgi",
    "--interface",
    "asgi",
    "--port",
    "{port}",
    "--workers",
)


def checkouts(url: str) -> dict[str | None, float]:
    """Return the checkouts that one scrape shows, by process label."""
    text = httpx.get(url, timeout=20).raise_for_status().text
    return {
        sample.labels.get("process"): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == "sqlalchemy_pool_checkouts_total"
    }


def ready(server: Server) -> str:
    """Return the URL of a server that answers."""
    url = f"http://127.0.0.1:{server.port}/metrics"

    def answers() -> bool:
        with contextlib.suppress(httpx.TransportError):
            return httpx.get(url).status_code == 200
        return False

    until(answers, f"the server answers: {server.log()[-2000:]}")
    return url


@pytest.mark.parametrize("command", [UVICORN, GUNICORN, GRANIAN], ids=["uvicorn", "gunicorn", "granian"])
def test_a_scrape_of_another_worker_is_another_series(start: Start, command: tuple[str, ...]) -> None:
    """Each worker has a process label of its own, within which nothing ever goes back."""
    server = start(None, *command, "3")
    url = ready(server)
    seen: dict[str | None, list[float]] = defaultdict(list)
    bursts = 0

    def two_workers() -> bool:
        nonlocal bursts
        bursts += 1
        most: dict[str | None, float] = {}
        with ThreadPoolExecutor(16) as clients:  # a server may give all to one while that one has time
            for shown in clients.map(checkouts, [url] * 16):
                for process, value in shown.items():
                    most[process] = max(value, most.get(process, 0.0))
        for process, value in most.items():
            seen[process].append(value)
        return len(seen) > 1 and bursts >= 3

    until(two_workers, "two workers have answered")
    assert None not in seen
    assert {psutil.Process(int(str(process))).is_running() for process in seen} == {True}
    assert all(values == sorted(values) for values in seen.values())
    assert "set PROMETHEUS_MULTIPROC_DIR to an empty directory" in server.log()


@pytest.mark.parametrize("command", [UVICORN, GUNICORN], ids=["uvicorn", "gunicorn"])
def test_a_single_worker_has_no_process_label(start: Start, command: tuple[str, ...]) -> None:
    """Who is alone needs nothing to be told apart by."""
    server = start(None, *command, "1")
    assert checkouts(ready(server)).keys() == {None}
    assert "PROMETHEUS_MULTIPROC_DIR" not in server.log()


def test_the_environment_has_the_last_word(start: Start) -> None:
    """Where a server is not known, or known wrongly, a variable says whether there are several workers."""
    server = start(None, *GUNICORN, "1", environment={"POOL_EXPORTER_PROCESS_LABEL": "1"})
    assert None not in checkouts(ready(server))
    server = start(None, *UVICORN, "2", environment={"POOL_EXPORTER_PROCESS_LABEL": "0"})
    assert checkouts(ready(server)).keys() == {None}


def listener(port: int) -> int | None:
    """Return the process that listens on a port."""
    for connection in psutil.net_connections("tcp"):
        if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port:
            return connection.pid
    return None


@pytest.mark.parametrize("command", [UVICORN, GUNICORN], ids=["uvicorn", "gunicorn"])
def test_one_worker_serves_and_another_takes_its_place(start: Start, command: tuple[str, ...]) -> None:
    """start_server() from three workers: one has the port; when it is killed, another has it."""
    metrics = free_port()
    server = start(None, *command, "3", environment={"METRICS_PORT": str(metrics)})
    ready(server)
    until(lambda: listener(metrics), "one worker listens")
    first = listener(metrics)
    assert first is not None
    assert checkouts(f"http://127.0.0.1:{metrics}/metrics").keys() == {str(first)}
    assert f"port {metrics} will show the worker that has it, and no other" in server.log()
    os.kill(first, signal.SIGKILL)
    until(lambda: listener(metrics) not in (None, first), f"another listens: {server.log()[-3000:]}")
    (process,) = checkouts(f"http://127.0.0.1:{metrics}/metrics")
    assert process != str(first)


def test_a_port_that_a_stranger_has_is_an_error(start: Start) -> None:
    """No worker waits for somebody who will not go: the error names the port and the remedy."""
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        port = stranger.getsockname()[1]
        server = start(None, *GUNICORN, "2", environment={"METRICS_PORT": str(port)})
        until(lambda: "give another port" in server.log(), "the error is said")
    assert f"port={port}: Address already in use on 127.0.0.1" in server.log()
