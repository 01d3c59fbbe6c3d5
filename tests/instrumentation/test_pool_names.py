"""Check the names of pools: those given, taken and made."""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest
from sqlalchemy import Engine, create_engine
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, OperationalError
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import QueuePool

from pool_exporter import instrument, snapshots
from pool_exporter.capture.engine_name import database_of, server_of
from tests.instrumentation.conftest import pools_in

REMEDY = "Pass name= to instrument()"


def warnings_in(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def test_a_taken_name_gets_the_smallest_free_suffix(
    make: Callable[..., Engine], registry: CollectorRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    """While its holder may still do something, another pool gets a suffix and one warning each."""
    first = instrument(make(), name="orders", registry=registry)
    second = instrument(make(), name="orders", registry=registry)
    third = instrument(make(), name="orders", registry=registry)
    assert [first.name, second.name, third.name] == ["orders", "orders-2", "orders-3"]
    assert pools_in(registry) == ["orders", "orders-2", "orders-3"]
    assert [REMEDY in message for message in warnings_in(caplog)] == [True, True]
    assert "'orders-3'" in warnings_in(caplog)[1]
    second.uninstrument()
    assert instrument(make(), name="orders", registry=registry).name == "orders-2"


def test_one_name_in_two_registries_is_no_conflict(
    make: Callable[..., Engine], caplog: pytest.LogCaptureFixture
) -> None:
    """Names are unique within a registry; another one has its own."""
    one, two = CollectorRegistry(), CollectorRegistry()
    instrument(make(), name="orders", registry=one)
    instrument(make(), name="orders", registry=two)
    assert (pools_in(one), pools_in(two)) == (["orders"], ["orders"])
    assert warnings_in(caplog) == []


def test_the_name_of_a_disposed_engine_passes_on(
    make: Callable[..., Engine], registry: CollectorRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    """An application that is created again in a test keeps its pool's name, without a warning."""
    old = make()
    instrument(old, name="orders", registry=registry)
    old.connect().close()
    old.dispose()
    assert instrument(make(), name="orders", registry=registry).name == "orders"
    assert pools_in(registry) == ["orders"]
    assert warnings_in(caplog) == []


def test_the_name_of_a_disposed_engine_stays_while_a_connection_is_out(
    make: Callable[..., Engine], registry: CollectorRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    """What is still out belongs to the old pool, so its series stay and the new one gets a suffix."""
    old = make()
    instrument(old, name="orders", registry=registry)
    with old.connect():
        old.dispose()
        assert instrument(make(), name="orders", registry=registry).name == "orders-2"
    assert pools_in(registry) == ["orders", "orders-2"]
    assert len(warnings_in(caplog)) == 1


def test_the_name_of_a_collected_engine_passes_on(
    registry: CollectorRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    """An engine that nobody disposed but that is gone needs no name, though its handle is kept."""
    old = create_engine("sqlite://", poolclass=QueuePool)
    handle = instrument(old, name="orders", registry=registry)
    del old
    gc.collect()
    assert pools_in(registry) == []
    new = create_engine("sqlite://", poolclass=QueuePool)
    assert instrument(new, name="orders", registry=registry).name == "orders"
    assert pools_in(registry) == ["orders"]
    assert handle.snapshot().open == 0
    assert warnings_in(caplog) == []


def test_an_engine_that_comes_back_to_life_gets_another_name(
    make: Callable[..., Engine], registry: CollectorRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    """When a disposed engine works again although its name has passed on, its series get a suffix."""
    old = make()
    lazarus = instrument(old, name="orders", registry=registry)
    old.dispose()
    new = instrument(make(), name="orders", registry=registry)
    assert pools_in(registry) == ["orders"]
    old.connect().close()
    assert pools_in(registry) == ["orders", "orders-2"]
    assert (new.name, lazarus.name) == ("orders", "orders-2")
    assert lazarus.snapshot().checkouts == 1
    assert len(warnings_in(caplog)) == 1
    assert REMEDY in warnings_in(caplog)[0]
    assert sorted(snapshot.name for snapshot in snapshots() if snapshot.name.startswith("orders")) == [
        "orders",
        "orders-2",
    ]


def test_an_unexported_engine_that_comes_back_to_life_gets_another_name(
    make: Callable[..., Engine], caplog: pytest.LogCaptureFixture
) -> None:
    """Without a registry too, no two living pools have one name in `snapshots()`."""
    old = make()
    handle = instrument(old, name="unexported", registry=None)
    old.dispose()
    other = instrument(make(), name="unexported", registry=None)
    old.connect().close()
    names = sorted(snapshot.name for snapshot in snapshots() if snapshot.name.startswith("unexported"))
    assert names == ["unexported", "unexported-2"]
    assert (other.name, handle.name) == ("unexported", "unexported-2")
    assert len(warnings_in(caplog)) == 1


@pytest.mark.parametrize(
    ("url", "name", "server", "database"),
    [
        ("postgresql+asyncpg://u:p@db.example/app", "db.example:5432/app", "db.example:5432", "app"),
        ("postgresql+asyncpg://u:p@db.example:6432/app", "db.example:6432/app", "db.example:6432", "app"),
        ("postgresql+psycopg://u:p@[::1]:6432/app", "[::1]:6432/app", "[::1]:6432", "app"),
        ("postgresql+psycopg://u:p@[fe80::1]/app", "[fe80::1]:5432/app", "[fe80::1]:5432", "app"),
        ("postgresql+psycopg://u@/app?host=/run/postgresql", "/run/postgresql/app", "/run/postgresql", "app"),
        ("postgresql+psycopg://u@/app?host=db&port=6432", "db:6432/app", "db:6432", "app"),
        ("postgresql+asyncpg://u@/app?host=a:1&host=b:2", "a:1,b:2/app", "a:1,b:2", "app"),
        ("postgresql+psycopg://u@/app?host=a,b&port=1,2", "a:1,b:2/app", "a:1,b:2", "app"),
        ("postgresql+psycopg://u@/app?host=a,b", "a:5432,b:5432/app", "a:5432,b:5432", "app"),
        ("postgresql+asyncpg://u:p@db.example", "db.example:5432", "db.example:5432", ""),
        ("postgresql+asyncpg://", "postgresql", "", ""),
        ("mysql+asyncmy://u:p@db.example/app", "db.example:3306/app", "db.example:3306", "app"),
        ("mariadb+asyncmy://u:p@db.example/app", "db.example:3306/app", "db.example:3306", "app"),
        (
            "mysql+asyncmy://u@localhost/app?unix_socket=/run/my.sock",
            "/run/my.sock/app",
            "/run/my.sock",
            "app",
        ),
        ("sqlite+aiosqlite://", ":memory:", "", ":memory:"),
        ("sqlite+aiosqlite:///:memory:", ":memory:", "", ":memory:"),
        ("sqlite+aiosqlite:////var/lib/app/app.db", "app.db", "", "app.db"),
        ("sqlite:///file:some/app.db?mode=ro&uri=true", "app.db", "", "app.db"),
        ("mysql+asyncmy://u@db/app?charset=utf8mb4", "db:3306/app", "db:3306", "app"),
    ],
)
def test_the_default_name_comes_from_the_url(url: str, name: str, server: str, database: str) -> None:
    """Host, port and database make the name; a default port is filled in, of a file its name stays."""
    make = create_async_engine if "async" in url or "aio" in url else create_engine
    engine = make(url)
    registry = CollectorRegistry()
    instrumentation = instrument(engine, registry=registry)
    assert instrumentation.name == name
    info = instrumentation.snapshot().info
    assert (info["server"], info["database"]) == (server, database)


def test_the_logging_name_of_the_pool_is_its_default_name(
    make: Callable[..., Engine], registry: CollectorRegistry
) -> None:
    """Whoever named the pool for SQLAlchemy's log meant this pool."""
    engine = make(pool_logging_name="orders")
    assert instrument(engine, registry=registry).name == "orders"


def test_a_creator_has_only_its_dialect_as_name(registry: CollectorRegistry) -> None:
    """A URL that names nothing gives the dialect, since the creator's target is not known."""
    engine = create_engine("postgresql+psycopg://", creator=lambda: None)
    assert instrument(engine, registry=registry).name == "postgresql"


SECRET = st.text(min_size=1, max_size=12).map(lambda middle: f"Sec{middle}Ret")


ENCODED = st.sampled_from(["postgresql+psycopg", "postgresql+asyncpg", "mysql+pymysql", "sqlite+pysqlite"])


@settings(max_examples=200, deadline=None)
@given(
    drivername=ENCODED,
    username=SECRET,
    password=SECRET,
    host=st.one_of(st.none(), st.sampled_from(["db", "db.example", "::1", "10.0.0.1"])),
    port=st.one_of(st.none(), st.integers(0, 65535)),
    database=st.one_of(st.none(), st.text(max_size=10)),
    query=st.dictionaries(
        st.sampled_from(["host", "port", "unix_socket", "sslmode"]), st.sampled_from(["a", "/run", "1"])
    ),
)
def test_users_and_passwords_never_reach_a_name(
    drivername: str,
    username: str,
    password: str,
    host: str | None,
    port: int | None,
    database: str | None,
    query: dict[str, str],
) -> None:
    """Whatever a URL is made of, the name and the info labels hold nothing of user and password."""
    url = URL.create(drivername, username, password, host, port, database, query)
    for made in (server_of(url), database_of(url)):
        assert username not in made
        assert password not in made


@settings(max_examples=300, deadline=None)
@given(
    user=st.text("abc@:#[]%. ", max_size=8).map(lambda middle: f"USER{middle}USER"),
    password=st.text("abc@:/?#[]%. ", max_size=8).map(lambda middle: f"PASS{middle}PASS"),
)
def test_a_careless_url_gives_nothing_away(user: str, password: str) -> None:
    """A URL whose user and password were pasted in unescaped is parsed wrongly, but not published."""
    try:
        url = make_url(f"postgresql+psycopg://{user}:{password}@db.example/app")
    except (ArgumentError, ValueError):  # SQLAlchemy refuses it, for a port that is none
        return
    for made in (server_of(url), database_of(url)):
        assert "USER" not in made
        assert "PASS" not in made


def test_a_user_with_a_slash_gives_nothing_away() -> None:
    """SQLAlchemy takes what stands before an unescaped slash for the host; it is not published."""
    url = make_url("postgresql+psycopg://corp/holmes:elementary@db.example/app")
    assert (url.host, url.database) == ("corp", "holmes:elementary@db.example/app")
    assert (server_of(url), database_of(url)) == ("", "db.example/app")


def test_neither_user_nor_password_is_written_anywhere(
    registry: CollectorRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    """Name, scrape, snapshot, representation and log of an engine are free of its credentials."""
    caplog.set_level(logging.DEBUG)
    url = "postgresql+psycopg://Sherlock:Baskerville@127.0.0.1:1/app"
    engines = [create_engine(url) for _ in range(2)]
    made = [instrument(engine, registry=registry) for engine in engines]
    for engine in engines:
        with pytest.raises(OperationalError, match="refused"):
            engine.connect()
    written = [generate_latest(registry).decode(), caplog.text]
    written += [repr(one) + one.name + repr(one.snapshot()) for one in made]
    assert made[1].name == "127.0.0.1:1/app-2"
    for piece in written:
        assert "Sherlock" not in piece
        assert "Baskerville" not in piece
