"""The background check: one thread, there while there are pools, and never at a fork."""

from __future__ import annotations

import gc
import logging
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from sqlalchemy import create_engine
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.pool import QueuePool

from pool_exporter import LeakPolicy, instrument
from pool_exporter.instrumentation.background import BackgroundThread
from pool_exporter.ledger.ledger import Ledger
from pool_exporter.records import PoolState
from tests.servers import until


def running() -> int:
    """Return how many threads of a watcher there are."""
    return sum(1 for one in threading.enumerate() if one.name == "pool_exporter")


@pytest.fixture(autouse=True)
def _only_ours() -> None:
    gc.collect()  # pools of other tests


def test_the_check_ends_when_nothing_is_left_and_begins_again() -> None:
    """The thread ends itself when a check says that nothing is to be checked; start() brings it back."""
    calls: list[float | None] = [None, 0.0, None]
    checks = 0
    ended = threading.Event()

    def check() -> float | None:
        nonlocal checks
        checks += 1
        answer = calls[checks - 1]
        if checks == len(calls):
            ended.set()
        return answer

    watcher = BackgroundThread(check)
    watcher.start()
    until(lambda: watcher._thread is None, "the thread ended itself")
    assert checks == 1
    watcher.start()
    assert ended.wait(10)
    until(lambda: watcher._thread is None, "the thread ended itself")
    assert checks == 3


def test_wake_makes_the_next_check_come_at_once() -> None:
    """A sleeping watcher checks as soon as it is woken, and stop() ends it."""
    checked = threading.Semaphore(0)

    def check() -> float:
        checked.release()
        return 3600.0

    watcher = BackgroundThread(check)
    watcher.start()
    assert checked.acquire(timeout=10)
    watcher.wake()
    assert checked.acquire(timeout=10)
    thread = watcher._thread
    assert thread is not None
    watcher.stop()
    assert not thread.is_alive()


def test_a_check_that_raises_is_logged_and_the_watcher_goes_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A failure of the check itself does not end the thread."""
    monkeypatch.setattr("pool_exporter.instrumentation.background.PAUSE_AFTER_FAILURE_SECONDS", 0.0)
    again = threading.Event()
    checks = 0

    def check() -> float:
        nonlocal checks
        checks += 1
        if checks == 1:
            raise RuntimeError("on purpose")
        again.set()
        return 3600.0

    watcher = BackgroundThread(check)
    watcher.start()
    assert again.wait(10)
    watcher.stop()
    assert [one.levelno for one in caplog.records if one.name == "pool_exporter"] == [logging.ERROR]


def test_a_pool_whose_check_fails_is_checked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A check that raises is no reason to end the thread while there are pools."""
    engine = create_engine(f"sqlite:///{tmp_path}/database", poolclass=QueuePool)
    original, failures = Ledger.check, []

    def fail_once(self: Ledger, state: PoolState) -> None:
        if not failures:
            failures.append(state)
            raise MemoryError("on purpose")
        original(self, state)

    monkeypatch.setattr(Ledger, "check", fail_once)
    monkeypatch.setattr(sys.modules["pool_exporter.instrumentation.runtime"], "SAMPLE_SECONDS", 0.01)
    policy = LeakPolicy(idle_in_transaction_seconds=0.01, idle_seconds=0.01)
    with instrument(engine, registry=None, leaks=policy), engine.connect():
        until(lambda: any(one.name == "pool_exporter.leaks" for one in caplog.records), "the leak is logged")
    assert len(failures) == 1
    engine.dispose()


def test_without_a_thread_instrument_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Where no thread can be started the log says so, and nothing is raised."""

    def fail(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", fail)
    watcher = BackgroundThread(lambda: None)
    watcher.start()
    assert watcher._thread is None
    assert "can't start new thread" in caplog.text


def test_a_timeout_does_not_wait_for_a_ledger_that_is_busy(tmp_path: Path) -> None:
    """A caller that timed out goes on without a note where another thread keeps the ledger's lock."""
    engine = create_engine(
        f"sqlite:///{tmp_path}/database", poolclass=QueuePool, pool_size=1, max_overflow=0, pool_timeout=0.01
    )
    with instrument(engine, registry=None) as instrumentation, engine.connect():
        with instrumentation._ledger._lock, pytest.raises(PoolTimeoutError) as caught:
            engine.connect()
        assert getattr(caught.value, "__notes__", []) == []
        now = instrumentation.snapshot()
        assert (now.timeouts, now.pending, now.telemetry_errors) == (1, 0, 0)
    engine.dispose()


def test_an_unscraped_process_reports_leaks(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Nobody asks for a snapshot, and the log has the leak all the same."""
    engine = create_engine(f"sqlite:///{tmp_path}/database", poolclass=QueuePool)
    policy = LeakPolicy(idle_in_transaction_seconds=0.01, idle_seconds=0.01)
    with instrument(engine, registry=None, leaks=policy), engine.connect():
        until(lambda: any(one.name == "pool_exporter.leaks" for one in caplog.records), "the leak is logged")
    engine.dispose()


PROGRAM = """
    import gc, os, sys, threading, warnings
    warnings.simplefilter("error")
    from sqlalchemy import create_engine
    from pool_exporter import LeakPolicy, instrument
    from pool_exporter.instrumentation.runtime import RUNTIME

    def threads():
        return [one.name for one in threading.enumerate() if one is not threading.main_thread()]

    engine = create_engine("sqlite://")
    instrument(engine)
    assert threads() == ["pool_exporter"], threads()
    pid = os.fork()  # which warns, here raises, in a process that has several threads
    assert threads() == ["pool_exporter"], threads()
    if pid == 0:
        RUNTIME.soon()
        os._exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
    del engine
    gc.collect()
    RUNTIME.soon()
    thread = RUNTIME.watcher._thread
    if thread is not None:
        thread.join(10)
    assert threads() == [], threads()
    print("done")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_parent_and_child_of_a_fork_each_have_their_watcher() -> None:
    """The thread is stopped for a fork, which warns of threads, is there again on both sides, and goes at last."""
    program = "\n".join(line[4:] for line in PROGRAM.splitlines())
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")
