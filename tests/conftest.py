"""Real servers, one of each kind for all tests of a process."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.mariadb import MariadbServer
from tests.postgres import PostgresServer
from tests.servers import running


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL server that all tests share; each names its own backends by `application_name`."""
    with running(PostgresServer) as server:
        yield server


@pytest.fixture(scope="module")
def own_postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL server of a module whose tests stop it."""
    with running(PostgresServer) as server:
        yield server


@pytest.fixture(scope="session")
def mariadb() -> Iterator[MariadbServer]:
    """A MariaDB server that all tests share; each names its own connections by the user."""
    with running(MariadbServer) as server:
        yield server
