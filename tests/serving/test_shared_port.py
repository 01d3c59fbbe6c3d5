"""One port for several workers: who has it, and what a child or a lock file must not do to it."""

from __future__ import annotations

import os
import signal
import socket
import tempfile
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from pool_exporter import start_server
from pool_exporter.serving import server
from tests.servers import until
from tests.support import free_port


@pytest.fixture(autouse=True)
def _one_of_several(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this process take itself for a worker, and keep its lock files in a place of the test's own."""
    monkeypatch.setattr(server, "has_siblings", lambda: True)
    monkeypatch.setattr(server, "TURN_SECONDS", 0.05)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


def start(port: int) -> server.MetricsServer:
    return start_server(port, registry=CollectorRegistry())


def test_the_file_goes_with_the_server(tmp_path: Path) -> None:
    """Its holder takes it away; what is left of a killed one is an empty file."""
    with start(free_port()) as server:
        assert server.serving
        assert len(list(tmp_path.iterdir())) == 1
    assert not server.serving
    assert list(tmp_path.iterdir()) == []


def test_a_second_one_in_the_same_process_is_an_error() -> None:
    """It would wait for itself."""
    port = free_port()
    with start(port), pytest.raises(OSError, match="Address already in use"):
        start(port)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork on this platform")
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_a_child_keeps_neither_port_nor_turn() -> None:
    """What the serving worker has forked may outlive it: another worker serves all the same."""
    port = free_port()
    with start(port):
        child = os.fork()
        if child == 0:
            signal.pause()
            os._exit(0)
    try:
        with start(port) as again:
            assert again.serving
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork on this platform")
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_a_child_does_not_keep_the_turn_of_a_killed_parent() -> None:
    """The lock is off as soon as its taker is gone, whoever was forked meanwhile."""
    turn = server.PortLock("127.0.0.1", 1)
    assert turn.take()
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writer, b"x")
        signal.pause()
        os._exit(0)
    try:
        assert os.read(reader, 1) == b"x"
        assert turn._file is not None
        os.close(turn._file)  # as the system does for a process that is killed
        turn._file = None
        again = server.PortLock("127.0.0.1", 1)
        assert again.take()
        again.give_back()
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(reader)
        os.close(writer)


@pytest.mark.parametrize("trouble", ["directory", "link", "missing"])
def test_without_a_usable_file_workers_share_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trouble: str
) -> None:
    """One serves, and the others wait; nothing raises because of a file."""
    port = free_port()
    path = Path(server.PortLock("127.0.0.1", port)._path)
    if trouble == "directory":
        path.mkdir()
    elif trouble == "link":
        path.symlink_to(tmp_path / "elsewhere")
    else:
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    with start(port) as first, start(port) as second:
        assert (first.serving, second.serving) == (True, False)
        first.close()
        until(lambda: second.serving, "the second serves")
    assert not (tmp_path / "elsewhere").exists()


def test_a_port_that_comes_free_is_taken() -> None:
    """Who waits for a stranger's port, because it cannot be told whose it is, gets it in the end."""
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        port = stranger.getsockname()[1]
        with pytest.raises(OSError, match="give another port"):
            start(port)
    with start(port) as server:
        assert server.serving
