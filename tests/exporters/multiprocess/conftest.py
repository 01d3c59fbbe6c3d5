"""Put this process into prometheus_client's multi-process mode, as one worker or as several."""

from __future__ import annotations

import atexit
import os
import subprocess
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from prometheus_client import values
from prometheus_client.multiprocess import MultiProcessCollector

from pool_exporter.exporters.multiprocess import value_files
from pool_exporter.exporters.multiprocess.publisher import Publisher
from pool_exporter.instrumentation.runtime import RUNTIME

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


class Workers:
    """The files of several workers, all written by this process; `become` says as which."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.pid = 1001

    def become(self, pid: int) -> None:
        """Write as another process from now on."""
        self.pid = pid

    def merged(self, *prefixes: str) -> Samples:
        """Return what prometheus_client's own collector makes of the files, by sample."""
        return {
            (sample.name, tuple(sorted(sample.labels.items()))): sample.value
            for family in MultiProcessCollector(None, str(self.path)).collect()
            for sample in family.samples
            if not prefixes or sample.name.startswith(prefixes)
        }

    def value(self, name: str, **labels: str) -> float | None:
        """Return one merged value, None where there is none; the pool is "orders" unless said otherwise."""
        key = ("sqlalchemy_pool_" + name, tuple(sorted({"pool": "orders", **labels}.items())))
        return self.merged().get(key)


@pytest.fixture
def workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workers]:
    """Return the files of workers; prometheus_client decides at its import, which is over here."""
    found = Workers(tmp_path)
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    made: Callable[..., object] = values.MultiProcessValue(lambda: found.pid)
    monkeypatch.setattr(values, "ValueClass", made)
    # Those made in this test write to its files, which are closed at its end.
    monkeypatch.setattr(value_files, "PUBLISHERS", weakref.WeakSet())
    yield found
    made.close_all_files()  # type: ignore[attr-defined]  # of prometheus_client's class


@pytest.fixture
def sharing(workers: Workers, monkeypatch: pytest.MonkeyPatch) -> Iterator[Publisher]:
    """Let this process share what is instrumented in the test, and no longer than that."""
    made = Publisher(RUNTIME.exports, RUNTIME.warn_once)
    monkeypatch.setattr(RUNTIME, "sharing", made)
    yield made
    atexit.unregister(made._end)
    made._publisher = None  # for whatever else is to be done at the end of this process


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Return a file system of its own with room for the first files only."""
    path = tmp_path / "small"
    path.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1200k", "tmpfs", path],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        if os.environ.get("CI"):
            pytest.fail(f"cannot mount a small file system: {done.stderr}")
        pytest.skip("needs the right to mount a file system")
    yield path
    subprocess.run(["umount", "--lazy", path], check=True)
