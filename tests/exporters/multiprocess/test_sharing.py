"""What a whole process publishes: from its first pool on, over forks, and until it ends or is killed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.multiprocess import MultiProcessCollector
from sqlalchemy import create_engine
from sqlalchemy.pool import QueuePool

from pool_exporter import instrument
from pool_exporter.exporters.multiprocess import liveness
from pool_exporter.exporters.multiprocess.merge import WorkersCollector
from pool_exporter.exporters.multiprocess.publisher import Publisher
from pool_exporter.exporters.multiprocess.value_files import PUBLISH_SECONDS
from pool_exporter.instrumentation.runtime import RUNTIME
from tests.exporters.multiprocess.conftest import Workers
from tests.servers import until

HEAD = """
import os, sys, time, logging, signal
logging.basicConfig(format="%(levelname)s %(message)s")
from sqlalchemy import create_engine
from sqlalchemy.pool import QueuePool
from pool_exporter import instrument
engine = create_engine("sqlite://", poolclass=QueuePool, pool_size=2, max_overflow=1)
pool = instrument(engine, name="orders")
"""


def run(program: str, path: Path, *, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run a program with a directory to share."""
    return subprocess.run(
        [
            sys.executable,
            "-W",
            "error",
            "-W",
            "ignore:unclosed database:ResourceWarning",
            "-c",
            HEAD + program,
        ],
        capture_output=True,
        text=True,
        check=check,
        timeout=60,
        env={**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(path)},
    )


def value(path: Path, name: str, **labels: str) -> float | None:
    """Return a merged value of processes that have ended, as their files have it."""
    return _value(MultiProcessCollector(None, str(path)).collect(), name, labels)


def value_now(path: Path, name: str, **labels: str) -> float | None:
    """Return a merged value while processes may still be making their files."""
    return _value(WorkersCollector(str(path)).collect(), name, labels)


def _value(families: Iterable[Metric], name: str, labels: dict[str, str]) -> float | None:
    wanted = {"pool": "orders", **labels}
    for family in families:
        for sample in family.samples:
            if sample.name == "sqlalchemy_pool_" + name and sample.labels == wanted:
                return float(sample.value)
    return None


def test_a_process_that_ends_leaves_its_counters_complete(tmp_path: Path) -> None:
    """The last use before the end is counted, and nothing is held any more."""
    done = run("held = engine.connect()\nfor _ in range(9): engine.connect().close()\n", tmp_path)
    assert done.stderr == ""
    assert value(tmp_path, "checkouts_total") == 10
    assert value(tmp_path, "connections", state="used") == 0
    assert value(tmp_path, "processes") == 0


def test_an_engine_that_was_dropped_is_counted_to_its_end(tmp_path: Path) -> None:
    """Uses after the last publication count, also where engine and pool are gone before the next."""
    run(
        "from pool_exporter.instrumentation.runtime import RUNTIME\n"
        "RUNTIME.watcher.stop()\n"
        "RUNTIME.sharing.publish()\n"
        "for _ in range(7): engine.connect().close()\n"
        "engine.dispose(); del engine, pool\n"
        "import gc; gc.collect()\n"
        "RUNTIME.sharing.publish()\n",
        tmp_path,
    )
    assert value(tmp_path, "checkouts_total") == 7
    assert value(tmp_path, "connections_max") == 0


def test_the_next_publication_is_half_a_second_away(workers: Workers, sharing: Publisher) -> None:
    """That is the most that a killed process loses, and half of what is promised; longer looks do not delay it."""
    engine = create_engine("sqlite://", poolclass=QueuePool)
    with instrument(engine, name="orders", leaks=None):
        RUNTIME.watcher.stop()
        engine.connect().close()
        assert RUNTIME.check() == PUBLISH_SECONDS == 0.5
        assert workers.value("checkouts_total") == 1
        engine.connect().close()
        assert RUNTIME.check() == PUBLISH_SECONDS
        assert workers.value("checkouts_total") == 2


def test_a_killed_process_leaves_what_it_published(tmp_path: Path) -> None:
    """What the background thread published before SIGKILL is in the files."""
    with subprocess.Popen(
        [
            sys.executable,
            "-c",
            HEAD
            + "for _ in range(25): engine.connect().close()\nheld = engine.connect()\nprint(flush=True)\n"
            "time.sleep(60)\n",
        ],
        stdout=subprocess.PIPE,
        env={**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)},
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        until(lambda: value_now(tmp_path, "checkouts_total") == 26, "the uses are published")
        process.kill()
    assert value(tmp_path, "checkouts_total") == 26
    assert value_now(tmp_path, "connections", state="used") is None  # it holds nothing any more


def test_a_forked_child_has_files_of_its_own(tmp_path: Path) -> None:
    """Parent and child both go on; what the parent had counted is counted once."""
    done = run(
        "for _ in range(5): engine.connect().close()\n"
        "child = os.fork()\n"
        "if child == 0: engine.dispose(close=False)\n"
        "for _ in range(3): engine.connect().close()\n"
        "if child: os.waitpid(child, 0)\n",
        tmp_path,
    )
    assert done.stderr == ""
    assert value(tmp_path, "checkouts_total") == 5 + 3 + 3
    assert len(list(tmp_path.glob("counter_*.db"))) == 2


def test_a_preloading_parent_is_no_worker(tmp_path: Path) -> None:
    """Who forks before it has used a pool adds nothing to what the workers may open."""
    done = run(
        "from pool_exporter.instrumentation.runtime import RUNTIME\n"
        "children = []\n"
        "for _ in range(2):\n"
        "    child = os.fork()\n"
        "    if child == 0:\n"
        "        engine.connect().close()\n"
        "        RUNTIME.sharing.publish()\n"
        "        signal.pause()\n"
        "    children.append(child)\n"
        "time.sleep(1.5)\n"
        "RUNTIME.sharing.publish()\n"
        "from pool_exporter.exporters.multiprocess.merge import workers_registry\n"
        "from pool_exporter.exporters.multiprocess.value_files import directory\n"
        "registry = workers_registry(directory())\n"
        "print(registry.get_sample_value('sqlalchemy_pool_processes', {'pool': 'orders'}))\n"
        "print(registry.get_sample_value('sqlalchemy_pool_connections_max', {'pool': 'orders'}))\n"
        "for child in children: os.kill(child, 9); os.waitpid(child, 0)\n",
        tmp_path,
    )
    assert done.stdout.split() == ["2.0", "6.0"]


def test_forks_under_load_leave_no_lock_behind(tmp_path: Path) -> None:
    """A process that forks again and again while it publishes goes on, and so do its children."""
    done = run(
        "import threading\n"
        "from pool_exporter.instrumentation.runtime import RUNTIME\n"
        "stop = threading.Event()\n"
        "def work():\n"
        "    while not stop.is_set():\n"
        "        engine.connect().close(); RUNTIME.sharing.publish()\n"
        "thread = threading.Thread(target=work); thread.start()\n"
        "import warnings; warnings.simplefilter('ignore')\n"
        "codes = []\n"
        "for _ in range(20):\n"
        "    child = os.fork()\n"
        "    if child == 0:\n"
        "        signal.alarm(20)\n"
        "        engine.dispose(close=False); engine.connect().close(); RUNTIME.sharing.publish(); os._exit(0)\n"
        "    codes.append(os.waitpid(child, 0)[1])\n"
        "stop.set(); thread.join()\n"
        "print(set(codes), pool.snapshot().acquires)\n",
        tmp_path,
    )
    codes, acquires = done.stdout.rsplit(maxsplit=1)
    assert codes == "{0}"
    # Not checkouts: a child has adopted what another thread had out when the process forked.
    assert value(tmp_path, "acquires_total") == int(acquires) + 20


def test_a_directory_that_is_set_too_late_is_said(tmp_path: Path) -> None:
    """prometheus_client decides when it is imported."""
    program = (
        "import logging, os; logging.basicConfig(format='%(levelname)s %(message)s')\n"
        "import prometheus_client\n"
        f"os.environ['PROMETHEUS_MULTIPROC_DIR'] = {str(tmp_path)!r}\n"
        "from sqlalchemy import create_engine\n"
        "from pool_exporter import instrument\n"
        "instrument(create_engine('sqlite://')); instrument(create_engine('sqlite://'), name='other')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    (line,) = done.stderr.splitlines()
    assert line.startswith("WARNING PROMETHEUS_MULTIPROC_DIR was set after prometheus_client was imported")
    assert "set the variable before the process starts" in line


def test_a_missing_directory_is_said_and_harms_nobody(tmp_path: Path) -> None:
    """The application runs; once the directory is there, it is used."""
    path = tmp_path / "missing"
    done = run(
        "engine.connect().close(); from pool_exporter.instrumentation.runtime import RUNTIME; RUNTIME.sharing.publish()\n"
        f"os.mkdir({str(path)!r})\n",
        path,
    )
    first = done.stderr.splitlines()[0]
    assert first.startswith("ERROR PROMETHEUS_MULTIPROC_DIR=")
    assert "is not a directory; create it, empty, before the server starts" in first
    assert value(path, "checkouts_total") == 1


def test_a_directory_that_is_a_file_is_said_and_harms_nobody(tmp_path: Path) -> None:
    """The application runs to its end."""
    path = tmp_path / "file"
    path.write_text("")
    done = run("engine.connect().close(); print(pool.snapshot().checkouts)\n", path)
    assert done.stdout.split() == ["1"]
    assert "is not a directory" in done.stderr


def test_a_read_only_directory_is_said_and_harms_nobody(small_disk: Path) -> None:
    """The application runs to its end."""
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    done = run("engine.connect().close(); print(pool.snapshot().checkouts)\n", small_disk)
    assert done.stdout.split() == ["1"]
    assert "cannot be written to; give this process's user the right to" in done.stderr.splitlines()[0]
    assert list(small_disk.iterdir()) == []


@pytest.mark.parametrize("method", ["fork", "forkserver"])
def test_children_of_multiprocessing_leave_nothing_out(tmp_path: Path, method: str) -> None:
    """They end without `atexit`, as soon as they are done: what they did counts, and every file is whole."""
    program = tmp_path / "program.py"
    program.write_text(
        "import multiprocessing\n" + HEAD + "def work():\n"
        "    engine.dispose(close=False)\n"
        "    for _ in range(5): engine.connect().close()\n"
        "if __name__ == '__main__':\n"
        f"    context = multiprocessing.get_context({method!r})\n"
        "    children = [context.Process(target=work) for _ in range(6)]\n"
        "    for child in children: child.start()\n"
        "    for child in children: child.join()\n"
        "    print({child.exitcode for child in children})\n"
    )
    files = tmp_path / "files"
    files.mkdir()
    done = subprocess.run(
        [sys.executable, "-W", "ignore", program],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        env={**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(files)},
    )
    assert done.stdout.split() == ["{0}"]
    assert value(files, "checkouts_total") == 30
    assert all(file.stat().st_size for file in files.glob("*.db"))


def test_a_parent_that_has_used_its_pool_before_it_forked_is_no_worker(tmp_path: Path) -> None:
    """Tables were made, say: what counts is that nothing is open, and that nothing was used since."""
    done = run(
        "from pool_exporter.instrumentation.runtime import RUNTIME\n"
        "from pool_exporter.exporters.multiprocess.merge import workers_registry\n"
        "from pool_exporter.exporters.multiprocess.value_files import directory\n"
        "def processes():\n"
        "    RUNTIME.sharing.publish()\n"
        "    found = workers_registry(directory())\n"
        "    print(found.get_sample_value('sqlalchemy_pool_processes', {'pool': 'orders'}))\n"
        "engine.connect().close(); engine.dispose(); processes()\n"
        "if os.fork() == 0: RUNTIME.watcher.stop(); os._exit(0)\n"
        "os.wait(); processes()\n"
        "engine.connect().close(); processes()\n",
        tmp_path,
    )
    assert done.stdout.split() == ["1.0", "0.0", "1.0"]
    assert value(tmp_path, "checkouts_total") == 2


def test_a_bad_heartbeat_file_stops_nothing(workers: Workers, sharing: Publisher) -> None:
    """Whatever is written there, this process publishes, and scrapes are answered."""
    for number, pid in enumerate(("1e400", "1" + "0" * 24, '"x"', "[" * 50_000)):
        said = f'{{"pid": {pid}, "namespace": {json.dumps(liveness._namespace())}, "started": "", "program": "x"}}'
        Path(liveness.heartbeat_path(str(workers.path), number)).write_text(said)
    engine = create_engine("sqlite://", poolclass=QueuePool)
    with instrument(engine, name="orders"):
        engine.connect().close()
        assert sharing.publish() == PUBLISH_SECONDS
        assert value_now(workers.path, "checkouts_total") == 1
    assert liveness.remove_dead(str(workers.path)) == [10**24]  # no process can have this pid


def test_a_heartbeat_that_cannot_be_written_stops_nothing(
    workers: Workers, sharing: Publisher, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The failure is logged, and the pools go on being published."""
    engine = create_engine("sqlite://", poolclass=QueuePool)
    with instrument(engine, name="orders"):
        RUNTIME.watcher.stop()
        sharing.publish()
        monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(workers.path / "missing"))
        sharing._beat_at = float("-inf")
        assert sharing.publish() == PUBLISH_SECONDS
        (failure,) = (text for text in caplog.messages if "failed in exporters.multiprocess" in text)
        assert "FileNotFoundError" in failure


def test_another_application_in_the_directory_is_logged_once(
    workers: Workers, sharing: Publisher, caplog: pytest.LogCaptureFixture
) -> None:
    """Each publication of some seconds looks for it, and one warning names the remedy."""
    parent = liveness.Heartbeat.own()._replace(pid=os.getppid(), started="", program="/srv/other.py")
    Path(liveness.heartbeat_path(str(workers.path), parent.pid)).write_text(json.dumps(parent._asdict()))
    engine = create_engine("sqlite://", poolclass=QueuePool)
    with instrument(engine, name="orders"):
        for _ in range(2):
            sharing._beat_at = float("-inf")
            sharing.publish()
    (warning,) = (text for text in caplog.messages if "/srv/other.py" in text)
    assert warning.startswith("PROMETHEUS_MULTIPROC_DIR='" + str(workers.path))
    assert "give each application a directory of its own" in warning


def test_gauges_of_the_dead_go_without_a_scrape_of_ours(workers: Workers, sharing: Publisher) -> None:
    """An endpoint made of prometheus_client's own collector removes no gauges, so every worker does from time to time."""
    engine = create_engine("sqlite://", poolclass=QueuePool)
    with subprocess.Popen([sys.executable, "-c", ""]) as dead:
        pass
    for mode in ("livesum", "livemax"):
        (workers.path / f"gauge_{mode}_{dead.pid}.db").write_bytes(b"")
    said = liveness.Heartbeat.own()._replace(pid=dead.pid)
    Path(liveness.heartbeat_path(str(workers.path), dead.pid)).write_text(json.dumps(said._asdict()))
    with instrument(engine, name="orders"):
        sharing.publish()
    assert not list(workers.path.glob(f"gauge_*_{dead.pid}.db"))


def test_a_pool_that_lost_its_name_starts_again_in_a_child(tmp_path: Path) -> None:
    """What it had counted in the parent is the parent's, also if it is used again."""
    run(
        "for _ in range(100): engine.connect().close()\n"
        "engine.dispose()\n"
        "other = create_engine('sqlite://', poolclass=QueuePool)\n"
        "kept = instrument(other, name='orders'); other.connect().close()\n"
        "child = os.fork()\n"
        "if child: os.waitpid(child, 0)\n"
        "else: engine.connect().close(); engine.connect().close()\n",
        tmp_path,
    )
    assert value(tmp_path, "checkouts_total") == 101
    assert value(tmp_path, "checkouts_total", pool="orders-2") == 2


def test_less_detail_is_less_in_the_files_too(workers: Workers, sharing: Publisher) -> None:
    """A registry's pools with detail="basic" publish the series that they export, and no others."""
    registry = CollectorRegistry()
    engine = create_engine("sqlite://", poolclass=QueuePool)
    with instrument(engine, name="orders", registry=registry, detail="basic"):
        sharing.publish()
        names = names_of(workers, "orders")
        assert names == {sample.name for family in registry.collect() for sample in family.samples}
    sharing.publish()
    assert names_of(workers, "orders") == names


def names_of(workers: Workers, pool: str) -> set[str]:
    """Return the names of a pool's samples; pools that other tests left behind have others."""
    return {name for name, labels in workers.merged() if ("pool", pool) in labels}
