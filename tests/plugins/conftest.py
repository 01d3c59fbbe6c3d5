"""Give the suites that the plugin is tried on a PostgreSQL server, by an environment variable."""

from __future__ import annotations

import pytest

from tests.postgres import PostgresServer


@pytest.fixture
def postgres_url(postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server's URL in the environment of the suites."""
    monkeypatch.setenv("POSTGRES_URL", f"postgresql+asyncpg://{postgres.address}")
