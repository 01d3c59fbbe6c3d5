"""Give the robustness tests one PostgreSQL server and the engines that they all use."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.postgres import PostgresServer, running_server


@pytest.fixture(scope="session")
def server() -> Iterator[PostgresServer]:
    """A PostgreSQL server that all these tests share."""
    with running_server() as server:
        yield server
