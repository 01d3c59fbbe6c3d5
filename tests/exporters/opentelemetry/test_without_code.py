"""Run an application that knows nothing of us by `opentelemetry-instrument`: real processes, a real PostgreSQL."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy

from tests.exporters.opentelemetry.receiving import Export, Point, Receiver, receiving
from tests.postgres import PostgresServer

APPLICATION = Path(__file__).with_name("application.py")
INSTRUMENT = Path(sys.executable).with_name("opentelemetry-instrument")
CONVENTIONS = json.loads(Path(__file__).with_name("conventions.json").read_text())
NAMES = {metric["name"] for metric in CONVENTIONS["metrics"]}
PREFIX = "db.client.connection."
NAME = "application-without-code"
OURS, THEIRS = "pool_exporter", "opentelemetry.instrumentation.sqlalchemy"
SECONDS = 30.0
OPENTELEMETRY_WORKS = sqlalchemy.__version__ < "2.1"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


class Running:
    """An application that holds two connections of a pool of three, and one idle, until it may go on."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def finish(self) -> str:
        """Let it come to its end, which must be a good one; return what it wrote to its stderr."""
        out, err = self._process.communicate("", timeout=SECONDS)
        assert (self._process.returncode, out) == (0, "done\n"), err
        return err


@contextlib.contextmanager
def application(postgres: PostgresServer, receiver: Receiver, **environment: str) -> Iterator[Running]:
    """Run the application, as `opentelemetry-instrument` does it; yield it when it holds."""
    inherited = {
        name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "POOL_EXPORTER_"))
    }
    settings = {
        "APPLICATION_URL": f"postgresql+asyncpg://{postgres.address}",
        "APPLICATION_NAME": NAME,
        "OTEL_METRICS_EXPORTER": "otlp",
        "OTEL_TRACES_EXPORTER": "none",
        "OTEL_LOGS_EXPORTER": "none",
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint,
        "OTEL_METRIC_EXPORT_INTERVAL": "100",  # milliseconds
    }
    process = subprocess.Popen(
        [str(INSTRUMENT), sys.executable, str(APPLICATION)],
        env={**inherited, **settings, **environment},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        if process.stdout.readline() != "holding\n":
            raise AssertionError(process.communicate(timeout=SECONDS)[1])
        yield Running(process)
    finally:
        process.kill()
        process.communicate()


def by_state(points: list[Point], key: str) -> list[tuple[str, int]]:
    return sorted((point.attributes[key], point.value) for point in points)


def scopes_of(export: Export, prefix: str) -> set[str]:
    """Return the scopes with a metric of such a name."""
    return {scope for scope, metrics in export.items() for name in metrics if name.startswith(prefix)}


def test_every_convention_is_emitted_with_true_values(postgres: PostgresServer, receiver: Receiver) -> None:
    """All nine metrics of the conventions arrive, once each, and say what the database says."""
    with application(postgres, receiver) as running:
        export = receiver.wait_for(lambda one: OURS in one, SECONDS)
        backends = len(postgres.backends(NAME))
        running.finish()
    ours = {name.removeprefix(PREFIX): points for name, points in export[OURS].items() if name in NAMES}
    counts = by_state(ours.pop("count"), PREFIX + "state")
    assert counts == [("idle", 1), ("used", 2)]
    assert backends == 3
    assert {name: [point.value for point in points] for name, points in ours.items()} == {
        "max": [3],
        "idle.max": [2],
        "idle.min": [0],
        "pending_requests": [0],
        "timeouts": [1],
        "wait_time": [3],
        "use_time": [1],
        "create_time": [3],
    }
    assert scopes_of(export, PREFIX) == {OURS}
    (attributes,) = (point.attributes for point in ours["max"])
    assert attributes == {
        PREFIX + "pool.name": f"127.0.0.1:{postgres.port}/postgres",
        "db.system.name": "postgresql",
        "db.namespace": "postgres",
        "server.address": "127.0.0.1",
        "server.port": postgres.port,
    }


def test_what_happens_last_is_flushed_at_the_end(postgres: PostgresServer, receiver: Receiver) -> None:
    """The last export, when the process ends, has the uses that ended just before; nothing is open any more."""
    with application(postgres, receiver, OTEL_METRIC_EXPORT_INTERVAL="3600000") as running:
        running.finish()
    (export,) = receiver.exports
    assert [point.value for point in export[OURS][PREFIX + "use_time"]] == [3]
    assert by_state(export[OURS][PREFIX + "count"], PREFIX + "state") == [("idle", 0), ("used", 0)]


def test_opentelemetrys_own_instrumentation_goes_on_beside_it(
    postgres: PostgresServer, receiver: Receiver
) -> None:
    """Where it works, its deprecated metric is there too, under its own name, with what it counts without us."""
    own = "db.client.connections.usage"
    exports = []
    for disabled in ("", "pool_exporter"):
        with application(postgres, receiver, OTEL_PYTHON_DISABLED_INSTRUMENTATIONS=disabled) as running:
            if OPENTELEMETRY_WORKS or not disabled:
                exports.append(receiver.wait_for(bool, SECONDS))
            running.finish()
    if not OPENTELEMETRY_WORKS:
        assert scopes_of(exports[0], own) == set()
        return
    with_us, without_us = (by_state(export[THEIRS][own], "state") for export in exports)
    assert with_us == without_us
    assert scopes_of(exports[0], own) == {THEIRS}
    assert with_us == [("idle", 2), ("used", 4)]  # of an async engine it counts each connection twice


def test_the_sdk_can_be_switched_off(postgres: PostgresServer, receiver: Receiver) -> None:
    """With OTEL_SDK_DISABLED=true the application works, and nothing is exported."""
    with application(postgres, receiver, OTEL_SDK_DISABLED="true") as running:
        assert "Traceback" not in running.finish()
    assert receiver.exports == []


def test_ours_can_be_switched_off(postgres: PostgresServer, receiver: Receiver) -> None:
    """With OTEL_PYTHON_DISABLED_INSTRUMENTATIONS=pool_exporter nothing of ours is there."""
    with application(postgres, receiver, OTEL_PYTHON_DISABLED_INSTRUMENTATIONS="pool_exporter") as running:
        errors = running.finish()
    assert all(OURS not in export for export in receiver.exports)
    assert "pool '127.0.0.1" not in errors  # the timeout that the application had is not told of


def test_the_library_can_be_switched_off(postgres: PostgresServer, receiver: Receiver) -> None:
    """With POOL_EXPORTER_DISABLED=1 nothing of ours is there either."""
    with application(postgres, receiver, POOL_EXPORTER_DISABLED="1") as running:
        running.finish()
    assert all(OURS not in export for export in receiver.exports)
