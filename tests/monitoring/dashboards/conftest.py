"""Give the tests what was played: once for all test processes, and replayed for each of them."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.monitoring.dashboards import stage
from tests.support import need_tool


@pytest.fixture(scope="session")
def played(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the directory of the play; the first of several test processes plays it for all."""
    need_tool("prometheus", "prometheus")
    directory = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        directory = directory.parent
    kept = Path(os.environ.get("POOL_EXPORTER_PLAYED") or directory / "played")
    with Path(directory, "played.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (kept / "plays.json").exists():
            stage.play(kept)
    return kept


@pytest.fixture(scope="session")
def plays(played: Path) -> dict[str, stage.Play]:
    """Return when each application was healthy and in trouble."""
    return stage.plays(played)


@pytest.fixture(scope="session")
def servers(played: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Return the address of a Prometheus for each vocabulary, with all that was scraped."""
    with (
        stage.replayed(played, "prometheus", tmp_path_factory.mktemp("prometheus")) as one,
        stage.replayed(played, "opentelemetry", tmp_path_factory.mktemp("opentelemetry")) as other,
    ):
        yield {"prometheus": one.address, "opentelemetry": other.address}
