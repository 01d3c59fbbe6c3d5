"""Give the suites that the plugin is tried on a PostgreSQL server, by an environment variable."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.postgres import PostgresServer, running_server


@pytest.fixture(scope="session")
def server() -> Iterator[PostgresServer]:
    """A PostgreSQL server that all suites share."""
    with running_server() as server:
        yield server


@pytest.fixture
def postgres(server: PostgresServer, monkeypatch: pytest.MonkeyPatch) -> PostgresServer:
    """The server, with its URL in the environment of the suites."""
    monkeypatch.setenv("POSTGRES_URL", f"postgresql+asyncpg://{server.address}")
    return server
