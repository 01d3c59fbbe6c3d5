"""Play a fleet of instances to a real Prometheus: expositions that move, and the hours before."""

from __future__ import annotations

import contextlib
import re
import sys
import threading
from collections.abc import Iterable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from sqlalchemy import create_engine, text
from sqlalchemy.pool import QueuePool

from pool_exporter import instrument

JOB = "fleet"
_SAMPLE = re.compile(r"^([a-zA-Z_:][\w:]*)(\{.*\})? ([-+0-9.eE]+|NaN)$")
_RISING = re.compile(r"_(total|bucket|sum|count)$")
_RANGED = re.compile(r"([a-z_:]+)(?:\{[^}]*\})?\[(\d+)(ms|s|m|h|d)\]")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def recorded_exposition(pools: int) -> str:
    """Return what the library exposes of some pools that have been used: the shape of one instance."""
    registry = CollectorRegistry()
    with contextlib.ExitStack() as stack:
        for number in range(pools):
            engine = create_engine(
                "sqlite://", poolclass=QueuePool, pool_recycle=3600, connect_args={"check_same_thread": False}
            )
            stack.callback(engine.dispose)
            stack.enter_context(instrument(engine, name=f"pool-{number}", registry=registry))
            for _ in range(3):
                with engine.connect() as connection:
                    connection.execute(text("SELECT 1"))
        return generate_latest(registry).decode()


def moved(exposition: str, step: int) -> str:
    """Return an exposition in which everything that rises has risen by some steps."""
    lines = []
    for line in exposition.splitlines():
        sample = _SAMPLE.match(line)
        if sample and _RISING.search(sample[1]):
            lines.append(f"{sample[1]}{sample[2] or ''} {float(sample[3]) + step}")
        else:
            lines.append(line)
    return "\n".join(lines) + "\n"


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Let Prometheus end in the middle of a scrape, as it does when a run is over."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class Fleet:
    """Answer every scrape of every instance with the same exposition, which moves with each round."""

    def __init__(self, exposition: str, rounds: int) -> None:
        bodies = [moved(exposition, step).encode() for step in range(rounds)]
        seen: dict[str, int] = {}

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                seen[self.path] = seen.get(self.path, -1) + 1
                body = bodies[min(seen[self.path], rounds - 1)]
                self.send_response(200)
                self.send_header("Content-Type", "text/plain; version=0.0.4")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:
                """Say nothing of each scrape."""

        self._server = _Server(("127.0.0.1", 0), Handler)
        self.address = f"127.0.0.1:{self._server.server_address[1]}"

    @contextlib.contextmanager
    def serving(self) -> Iterator[str]:
        """Serve until it is left; yield the address."""
        thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        thread.start()
        try:
            yield self.address
        finally:
            self._server.shutdown()
            self._server.server_close()
            thread.join()


def long_windows(expressions: Iterable[str], longer_than: float) -> dict[str, float]:
    """Return the series that some expression looks back over for longer than so many seconds, and how far."""
    found: dict[str, float] = {}
    for expression in expressions:
        for name, number, unit in _RANGED.findall(expression):
            seconds = int(number) * _SECONDS[unit]
            if seconds > longer_than:
                found[name] = max(seconds, found.get(name, 0.0))
    return found


def write_history(
    path: Path, windows: dict[str, float], exposition: str, instances: int, ends: float, every: float
) -> int:
    """Write OpenMetrics of the time before, for each of these series its window; return the samples."""
    samples = 0
    shapes = [match for match in map(_SAMPLE.match, exposition.splitlines()) if match]
    pools = [match[2][1:-1] for match in shapes if match[1] == "sqlalchemy_pool_connections_max"]
    with path.open("w") as output:
        for name, window in windows.items():
            times = [ends - every * step for step in range(int(window / every), 0, -1)]
            scraped = [match[2][1:-1] for match in shapes if match[1] == name and match[2]]
            for own in scraped or _recorded(name, pools):
                # What is recorded for the whole fleet has no instance.
                for instance in range(1 if name.startswith("job_pool:") else instances):
                    labels = [f'job="{JOB}"', own, f'instance="i-{instance}"']
                    given = labels[:2] if name.startswith("job_pool:") else labels
                    head = f"{name}{{{','.join(filter(None, given))}}}"
                    output.writelines(
                        f"{head} {float(step)} {moment:.3f}\n" for step, moment in enumerate(times)
                    )
                    samples += len(times)
        output.write("# EOF\n")
    return samples


def _recorded(name: str, pools: list[str]) -> list[str]:
    """Return the further labels of a recorded series."""
    if name.startswith("instance:"):
        return [""]
    return [pool + (',kind="busy"' if "overdue" in name else "") for pool in pools]
