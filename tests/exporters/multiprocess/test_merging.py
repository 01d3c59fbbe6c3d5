"""What is read of all workers' files: as prometheus_client merges them, whatever state they are in."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from prometheus_client import Counter, generate_latest, values
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import create_engine
from sqlalchemy.pool import QueuePool

from pool_exporter import instrument, metrics_app, start_server
from pool_exporter.exporters.multiprocess import liveness
from pool_exporter.exporters.multiprocess.merge import WorkersCollector, workers_registry
from pool_exporter.exporters.multiprocess.publisher import Publisher
from tests.exporters.multiprocess.conftest import Workers
from tests.exporters.multiprocess.test_publishing import Process, orders


def families(path: Path) -> dict[str, float]:
    """Return the merged values of unlabelled pools, by sample name."""
    return {
        sample.name: sample.value
        for family in WorkersCollector(str(path)).collect()
        for sample in family.samples
        if sample.labels == {"pool": "orders"}
    }


def test_a_torn_file_costs_its_own_numbers(workers: Workers, caplog: pytest.LogCaptureFixture) -> None:
    """A damaged file is left out and named in the log, once; the others are served."""
    Process(orders()).publish()
    torn = workers.path / "counter_4711.db"
    torn.write_bytes((workers.path / "counter_1001.db").read_bytes()[:700])
    (workers.path / "gauge_livesum_4711.db").write_bytes(b"\xff\xff\xff\x7f" + os.urandom(100))
    collector = WorkersCollector(str(workers.path))
    with caplog.at_level(logging.ERROR, "pool_exporter"):
        for _ in range(3):
            found = {s.name: s.value for f in collector.collect() for s in f.samples if len(s.labels) == 1}
    assert found["sqlalchemy_pool_checkouts_total"] == 980
    assert sorted(Path(r.getMessage().split(" is damaged")[0]).name for r in caplog.records) == [
        "counter_4711.db",
        "gauge_livesum_4711.db",
    ]


def test_a_file_that_was_cut_off_is_removed(workers: Workers) -> None:
    """An empty file stops prometheus_client's own collector; it goes when its process has had time enough to write."""
    Process(orders()).publish()
    empty = workers.path / "counter_4711.db"
    empty.touch()
    liveness.remove_dead(str(workers.path))
    assert empty.exists()
    os.utime(empty, (0, 0))
    liveness.remove_dead(str(workers.path))
    assert not empty.exists()
    assert workers.value("checkouts_total") == 980


def test_a_directory_that_is_gone_is_an_empty_page(workers: Workers) -> None:
    """Nothing to read is nothing to say, and no error."""
    assert generate_latest(workers_registry(str(workers.path / "gone"))) == b""


@pytest.fixture
def other_process() -> Iterator[subprocess.Popen[bytes]]:
    """Run a process that does nothing."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        yield process
        process.kill()


def leave_heartbeat(path: Path, **changes: object) -> None:
    """Leave a heartbeat file as another process would."""
    said = {**liveness.Heartbeat.own()._asdict(), **changes}
    Path(liveness.heartbeat_path(str(path), int(str(said["pid"])))).write_text(json.dumps(said))


def test_gauges_of_a_killed_worker_are_left_out(
    workers: Workers, other_process: subprocess.Popen[bytes]
) -> None:
    """A worker that was killed holds nothing any more, though nobody called mark_process_dead."""
    workers.become(other_process.pid)
    Process(orders(used=6)).publish()
    leave_heartbeat(workers.path, pid=other_process.pid, started=liveness._started(other_process.pid))
    workers.become(1001)
    Process(orders(used=1)).publish()
    assert workers.value("processes") == 2
    other_process.send_signal(signal.SIGSTOP)  # a frozen worker is a worker
    assert families(workers.path)["sqlalchemy_pool_processes"] == 2
    other_process.kill()
    other_process.wait()
    found = families(workers.path)
    assert found["sqlalchemy_pool_processes"] == 1
    assert found["sqlalchemy_pool_checkouts_total"] == 2 * 980
    assert workers.value("connections", state="used") == 1
    assert not Path(liveness.heartbeat_path(str(workers.path), other_process.pid)).exists()


def test_a_later_process_with_the_pid_of_a_dead_one_does_not_keep_its_gauges(workers: Workers) -> None:
    """The pid is in use, by a process that started at another time than the one of the heartbeat."""
    leave_heartbeat(workers.path, started="1")
    assert liveness.remove_dead(str(workers.path)) == [os.getpid()]
    leave_heartbeat(workers.path, started="1")
    liveness.write_heartbeat(str(workers.path))  # the later one publishes too: the files are its own now
    assert liveness.remove_dead(str(workers.path)) == []


def test_a_process_of_another_pid_namespace_is_left_alone(workers: Workers) -> None:
    """That no process has this pid here means nothing for a process of another container."""
    leave_heartbeat(workers.path, pid=2**22 + 1, namespace="pid:[1]")
    assert liveness.remove_dead(str(workers.path)) == []
    leave_heartbeat(workers.path, pid=2**22 + 1)
    assert liveness.remove_dead(str(workers.path)) == [2**22 + 1]


def test_a_directory_shared_by_two_applications_is_warned_of(
    workers: Workers, other_process: subprocess.Popen[bytes]
) -> None:
    """The warning names the other one's program and the remedy; workers of one application and dead ones are none."""
    path, other = str(workers.path), other_process.pid
    leave_heartbeat(workers.path, pid=other, started="")
    assert liveness.write_heartbeat(path) is None
    leave_heartbeat(workers.path, pid=other, started="", program="/srv/other/app.py")
    warning = liveness.write_heartbeat(path)
    assert warning is not None
    assert f"'/srv/other/app.py' (process {other}) too" in warning
    assert "give each application a directory of its own" in warning
    other_process.kill()
    other_process.wait()
    assert liveness.write_heartbeat(path) is None


def test_a_damaged_heartbeat_counts_for_nothing(workers: Workers) -> None:
    """Half a file is no process, neither alive nor dead."""
    Path(liveness.heartbeat_path(str(workers.path), 4711)).write_text('{"pid": 47')
    assert liveness.heartbeats(str(workers.path)) == []
    assert liveness.remove_dead(str(workers.path)) == []


# --- what is served ----------------------------------------------------------------------


def fetch(app: object, path: str = "/metrics") -> str:
    """Return what an ASGI application answers."""

    async def get() -> str:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://app") as client:  # type: ignore[arg-type]  # as loose as metrics_app's own type
            return (await client.get(path)).raise_for_status().text

    return asyncio.run(get())


def test_the_default_registry_stands_for_all_workers(workers: Workers) -> None:
    """metrics_app() and start_server() serve every worker's pools, and the application's own metrics too."""
    Process(orders()).publish()
    workers.become(1002)
    Process(orders()).publish()
    counter = Counter("orders_total", "Orders.", registry=None)
    counter.inc(3)
    served = fetch(metrics_app())
    names = {family.name for family in text_string_to_metric_families(served)}
    assert 'sqlalchemy_pool_checkouts_total{pool="orders"} 1960.0' in served.splitlines()
    assert "orders" in names
    filtered = fetch(metrics_app(), "/metrics?name[]=sqlalchemy_pool_checkouts_total")
    assert 'sqlalchemy_pool_checkouts_total{pool="orders"} 1960.0' in filtered.splitlines()
    with start_server(0) as server:
        assert httpx.get(server.url).text == served


def test_openmetrics_of_all_workers_parses(workers: Workers) -> None:
    """The other format is right too."""
    from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse

    Process(orders()).publish()

    async def get() -> str:
        transport = httpx.ASGITransport(metrics_app())
        async with httpx.AsyncClient(transport=transport, base_url="http://app") as client:
            headers = {"accept": "application/openmetrics-text; version=1.0.0"}
            return (await client.get("/metrics", headers=headers)).raise_for_status().text

    found = {s.name: s.value for f in parse(asyncio.run(get())) for s in f.samples if len(s.labels) == 1}
    assert found["sqlalchemy_pool_checkouts_total"] == 980


def test_a_scrape_sees_what_has_just_happened(sharing: Publisher) -> None:
    """What this process has to say is published before its files are read."""
    app = metrics_app()
    engine = create_engine("sqlite://", poolclass=QueuePool)
    with instrument(engine, name="fresh") as pool:
        engine.connect().close()
        assert 'sqlalchemy_pool_checkouts_total{pool="fresh"} 1.0' in fetch(app)
        engine.connect().close()
        assert 'sqlalchemy_pool_checkouts_total{pool="fresh"} 2.0' in fetch(app)
        assert pool.snapshot().checkouts == 2
    assert 'sqlalchemy_pool_processes{pool="fresh"} 0.0' in fetch(app)
    assert values.ValueClass._multiprocess is True
