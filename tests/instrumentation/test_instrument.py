"""Check what `instrument()` accepts and refuses, what it names a pool, and what it leaves behind."""

from __future__ import annotations

import gc
import logging
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, OperationalError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import Session, sessionmaker
from sqlalchemy.pool import NullPool, Pool, QueuePool

from pool_exporter import Instrumentation, instrument, snapshots, start_server
from pool_exporter.capture.engine_name import database_of, default_name, server_of

REMEDY = "Pass name= to instrument()"


@pytest.fixture
def registry() -> CollectorRegistry:
    """A registry of the test's own."""
    return CollectorRegistry()


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., Engine]]:
    """Make sync engines on a file of the test's own, which are all disposed at the end."""
    made: list[Engine] = []

    def make_engine(**options: Any) -> Engine:
        options.setdefault("poolclass", QueuePool)
        engine = create_engine(f"sqlite:///{tmp_path}/app.db", **options)
        made.append(engine)
        return engine

    yield make_engine
    for engine in made:
        engine.dispose()


@pytest.fixture
def engine(make: Callable[..., Engine]) -> Engine:
    """One engine on a file."""
    return make()


def is_untouched(engine: Engine) -> bool:
    """Tell whether nothing of this library is on an engine, its pool and its dialect."""
    pool: Any = engine.pool
    marked = [thing for thing in (pool, engine.dialect, pool._pool) if "_pool_exporter" in vars(thing)]
    wrapped = [name for name in vars(engine.dialect) if name.startswith("do_")]
    return type(pool) is QueuePool and not marked and not wrapped


def pools_in(registry: CollectorRegistry) -> list[str]:
    """Return the `pool` labels that a scrape shows, in their order."""
    families = text_string_to_metric_families(generate_latest(registry).decode())
    return [
        sample.labels["pool"]
        for family in families
        for sample in family.samples
        if sample.name == "sqlalchemy_pool_acquires_total"
    ]


def warnings_in(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


# --- what is no engine -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make_thing", "kind"),
    [
        (lambda: None, "builtins.NoneType"),
        (lambda: "postgresql+asyncpg://db/app", "builtins.str"),
        (lambda: make_url("sqlite://"), "sqlalchemy.engine.url.URL"),
        (Session, "sqlalchemy.orm.session.Session"),
        (sessionmaker, "sqlalchemy.orm.session.sessionmaker"),
        (AsyncSession, "sqlalchemy.ext.asyncio.session.AsyncSession"),
        (async_sessionmaker, "sqlalchemy.ext.asyncio.session.async_sessionmaker"),
        (
            lambda: create_async_engine("sqlite+aiosqlite://").connect(),
            "sqlalchemy.ext.asyncio.engine.AsyncConnection",
        ),
        (lambda: create_engine("sqlite://").connect(), "sqlalchemy.engine.base.Connection"),
        (lambda: create_engine("sqlite://").pool, "sqlalchemy.pool.impl.SingletonThreadPool"),
        (lambda: create_engine, "builtins.function"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_no_engine_is_refused(
    make_thing: Callable[[], Any], kind: str, registry: CollectorRegistry
) -> None:
    """The error names the argument, says what was given and what would be right."""
    thing = make_thing()
    with pytest.raises(TypeError) as refused:
        instrument(thing, registry=registry)
    assert str(refused.value) == (
        f"engine is a {kind}: expected an AsyncEngine or Engine; pass what create_async_engine() or "
        "create_engine() returned, not a session, a session factory, a connection or a URL"
    )
    assert pools_in(registry) == []
    if hasattr(thing, "close") and kind == "sqlalchemy.engine.base.Connection":
        thing.close()


def test_a_disposed_engine_is_an_engine(engine: Engine, registry: CollectorRegistry) -> None:
    """An engine that was disposed is instrumented like a new one, and counts what comes then."""
    engine.connect().close()
    engine.dispose()
    instrumentation = instrument(engine, registry=registry)
    assert (instrumentation.snapshot().connects, instrumentation.snapshot().open) == (0, 0)
    engine.connect().close()
    assert (instrumentation.snapshot().connects, instrumentation.snapshot().open) == (1, 1)


# --- names that are asked for ------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        (5, TypeError, "name=5: expected text for the pool label, such as 'orders'"),
        (b"orders", TypeError, "name=b'orders': expected text for the pool label, such as 'orders'"),
        ("", ValueError, "name='': is empty; give the pool a name such as 'orders', or leave name out"),
        (
            " \t\n",
            ValueError,
            "name=' \\t\\n': is empty; give the pool a name such as 'orders', or leave name out",
        ),
        (
            "x" * 201,
            ValueError,
            "name='xxxxxxxxxxxxxxxxxxxx'… has 201 characters; a pool label has at most 200",
        ),
        (
            "a\ud800b",
            ValueError,
            "name='a\\ud800b': cannot be written as UTF-8; leave out lone surrogates",
        ),
    ],
)
def test_names_that_cannot_be_are_refused(
    name: Any, error: type[Exception], message: str, engine: Engine, registry: CollectorRegistry
) -> None:
    """The error names the argument and the value and says what would be right; nothing is attached."""
    with pytest.raises(error) as refused:
        instrument(engine, name=name, registry=registry)
    assert str(refused.value) == message
    assert is_untouched(engine)
    assert pools_in(registry) == []


@pytest.mark.parametrize(
    "name",
    ['a "quoted" one', "line\nbreak", "back\\slash", "données/ряд/データ/🐘", "x" * 200, " padded ", "{}#,="],
)
def test_any_other_name_reaches_the_scrape_unchanged(
    name: str, engine: Engine, registry: CollectorRegistry
) -> None:
    """A name is a label value as it is, whatever is in it."""
    instrumentation = instrument(engine, name=name, registry=registry)
    assert instrumentation.name == name
    assert instrumentation.snapshot().name == name
    assert pools_in(registry) == [name]


# --- names that are taken ----------------------------------------------------------------


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


# --- names that are made -----------------------------------------------------------------


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


# --- other options -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("buckets", "error", "message"),
    [
        ([0.1, 1], TypeError, "buckets=[0.1, 1]: expected a mapping of a histogram's name"),
        ({"wait_seconds": [1, 0.1]}, ValueError, "buckets['wait_seconds']=[1, 0.1]: not strictly ascending"),
        ({"wait_seconds": [1, 1]}, ValueError, "buckets['wait_seconds']=[1, 1]: not strictly ascending"),
        ({"wait_seconds": [-1, 1]}, ValueError, "buckets['wait_seconds']=[-1, 1]: a bound is negative"),
        ({"wait_seconds": [float("nan")]}, ValueError, "buckets['wait_seconds']=[nan]: a bound is negative"),
        ({"wait_seconds": []}, ValueError, "buckets['wait_seconds']=[]: no finite bound"),
        ({"wait_seconds": [float("inf")]}, ValueError, "buckets['wait_seconds']=[inf]: no finite bound"),
        ({"wait_seconds": ["fast"]}, TypeError, "buckets['wait_seconds']=['fast']: not a list of numbers"),
        ({"wait_seconds": 5}, TypeError, "buckets['wait_seconds']=5: not a list of numbers"),
        ({"wait_seconds": None}, TypeError, "buckets['wait_seconds']=None: not a list of numbers"),
        (
            {"waits": [1]},
            ValueError,
            "buckets['waits']: no histogram of that name; there are connect_seconds,",
        ),
        ({"waits_total": [1]}, ValueError, "buckets['waits_total']: no histogram of that name"),
    ],
)
def test_buckets_that_cannot_be_are_refused(
    buckets: Any, error: type[Exception], message: str, engine: Engine, registry: CollectorRegistry
) -> None:
    """The error names the histogram and the value and says what would be right; nothing is attached."""
    with pytest.raises(error, match=re.escape(message)):
        instrument(engine, buckets=buckets, registry=registry)
    assert is_untouched(engine)


def test_buckets_shape_the_histogram(engine: Engine, registry: CollectorRegistry) -> None:
    """Bounds given by name, with or without the prefix, are the ones exported."""
    instrument(
        engine,
        registry=registry,
        buckets={"wait_seconds": [0.5, 2, float("inf")], "sqlalchemy_pool_use_seconds": (7,)},
    )
    lines = generate_latest(registry).decode().splitlines()
    found = [line.partition('le="')[2].partition('"')[0] for line in lines if "wait_seconds_bucket" in line]
    assert found == ["0.5", "2.0", "+Inf"]
    found = [line.partition('le="')[2].partition('"')[0] for line in lines if "use_seconds_bucket" in line]
    assert found == ["7.0", "+Inf"]


def test_one_registry_has_one_set_of_buckets(
    make: Callable[..., Engine], registry: CollectorRegistry
) -> None:
    """Histograms of one name cannot have two sets of bounds; the same set, or none, is fine."""
    first = instrument(make(), name="a", registry=registry, buckets={"wait_seconds": [1, 2]})
    assert (
        instrument(make(), name="b", registry=registry).snapshot().wait_seconds
        == first.snapshot().wait_seconds
    )
    instrument(make(), name="c", registry=registry, buckets={"sqlalchemy_pool_wait_seconds": (1.0, 2.0)})
    other = make()
    with pytest.raises(
        ValueError, match="buckets: this registry's pools have other buckets already; give every"
    ):
        instrument(other, name="d", registry=registry, buckets={"wait_seconds": [1, 3]})
    assert is_untouched(other)
    assert pools_in(registry) == ["a", "b", "c"]


def test_one_registry_has_one_detail(make: Callable[..., Engine], registry: CollectorRegistry) -> None:
    """The level of detail is the registry's too."""
    instrument(make(), name="a", registry=registry, detail="basic")
    other = make()
    with pytest.raises(
        ValueError, match="detail='full': this registry's pools are exported with detail='basic'"
    ):
        instrument(other, name="b", registry=registry)
    assert is_untouched(other)


@pytest.mark.parametrize(
    ("option", "value", "error", "message"),
    [
        ("detail", "everything", ValueError, "detail='everything': expected 'full' or 'basic'"),
        ("detail", None, ValueError, "detail=None: expected 'full' or 'basic'"),
        ("detail", ["full"], ValueError, "detail=['full']: expected 'full' or 'basic'"),
        ("statements", 1, TypeError, "statements=1: expected True or False"),
        ("statements", None, TypeError, "statements=None: expected True or False"),
        (
            "registry",
            "default",
            TypeError,
            "registry='default': expected a prometheus_client CollectorRegistry",
        ),
        ("registry", CollectorRegistry, TypeError, "expected a prometheus_client CollectorRegistry"),
    ],
)
def test_options_that_cannot_be_are_refused(
    option: str, value: Any, error: type[Exception], message: str, engine: Engine
) -> None:
    """The error names the argument, the value and what would be right; nothing is attached."""
    with pytest.raises(error, match=re.escape(message)):
        instrument(engine, **{"registry": CollectorRegistry(), option: value})
    assert is_untouched(engine)


@pytest.mark.parametrize(("option", "statements"), [(True, 2), (False, 0)])
def test_statements_are_counted_unless_switched_off(
    option: bool, statements: int, engine: Engine, registry: CollectorRegistry
) -> None:
    """`statements=False` leaves the dialect's execution alone, and the counter at 0."""
    instrumentation = instrument(engine, registry=registry, statements=option)
    assert ("do_execute" in vars(engine.dialect)) is option
    with engine.connect() as connection:
        connection.execute(text("select 1"))
        connection.execute(text("select 2"))
    assert instrumentation.snapshot().statements == statements


def test_without_a_registry_only_snapshots_show_the_pool(engine: Engine) -> None:
    """`registry=None` exports nothing, and the pool is counted all the same."""
    instrumentation = instrument(engine, name="unseen", registry=None)
    engine.connect().close()
    assert instrumentation.snapshot().checkouts == 1
    assert [snapshot.checkouts for snapshot in snapshots() if snapshot.name == "unseen"] == [1]


def test_snapshots_show_every_instrumented_pool(make: Callable[..., Engine]) -> None:
    """`snapshots()` gives the pools of all registries, and none that was uninstrumented."""
    kept = [instrument(make(), name=f"kept-{n}", registry=CollectorRegistry()) for n in range(3)]
    kept[1].uninstrument()
    found = [snapshot.name for snapshot in snapshots() if snapshot.name.startswith("kept-")]
    assert sorted(found) == ["kept-0", "kept-2"]


# --- a registry that has such a name already ---------------------------------------------


@pytest.mark.parametrize(
    "taken",
    [
        lambda registry: Counter("sqlalchemy_pool_checkouts", "Mine.", ["pool"], registry=registry),
        lambda registry: Gauge("sqlalchemy_pool_wait_seconds_count", "Mine.", registry=registry),
        lambda registry: Gauge("sqlalchemy_pool_size", "Mine.", registry=registry),
    ],
)
@pytest.mark.parametrize("detail", ["full", "basic"])
def test_a_name_in_the_registry_is_an_error_with_a_cure(
    taken: Callable[[CollectorRegistry], Any], detail: Any, engine: Engine, registry: CollectorRegistry
) -> None:
    """A registry that has a metric of ours refuses; the error says what to do; nothing is attached."""
    foreign = taken(registry)
    with pytest.raises(
        ValueError, match=r"^registry: it already has a metric that pool_exporter would export"
    ) as no:
        instrument(engine, registry=registry, detail=detail)
    assert "unregister the other one, or pass registry=CollectorRegistry()" in str(no.value)
    assert "sqlalchemy_pool_" in str(no.value)
    assert is_untouched(engine)
    registry.unregister(foreign)
    instrument(engine, name="cured", registry=registry, detail=detail)
    assert pools_in(registry) == ["cured"]


@pytest.mark.parametrize("detail", ["full", "basic"])
def test_a_metric_of_ours_clashes_with_a_later_one_at_once(
    detail: Any, engine: Engine, registry: CollectorRegistry
) -> None:
    """Whoever adds a metric of our name after us learns it then, and not at the first scrape."""
    instrument(engine, registry=registry, detail=detail)
    with pytest.raises(ValueError, match="Duplicated timeseries"):
        Counter("sqlalchemy_pool_stranded_waits", "Mine.", registry=registry)


# --- again and off -----------------------------------------------------------------------


def test_instrumenting_again_gives_the_same_object(engine: Engine, registry: CollectorRegistry) -> None:
    """A second call, with the same options or with none, changes nothing."""
    options: dict[str, Any] = {"name": "orders", "statements": False, "buckets": {"wait_seconds": [1]}}
    first = instrument(engine, registry=registry, **options)
    engine.connect().close()
    assert instrument(engine, registry=registry, **options) is first
    assert instrument(engine) is first
    assert instrument(engine, registry=registry) is first
    assert instrument(engine, name="orders") is first
    assert instrument(engine.execution_options(isolation_level="AUTOCOMMIT")) is first
    assert first.snapshot().checkouts == 1
    assert pools_in(registry) == ["orders"]


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("name", "others"),
        ("statements", False),
        ("detail", "basic"),
        ("registry", None),
        ("buckets", {"wait_seconds": [1]}),
    ],
)
def test_instrumenting_again_with_other_options_is_an_error(
    option: str, value: Any, engine: Engine, registry: CollectorRegistry
) -> None:
    """Options of a pool do not change; the error names the option, its value and the way out."""
    first = instrument(engine, registry=registry, name="orders")
    with pytest.raises(ValueError, match=f"^{option}=") as refused:
        instrument(engine, **{option: value})
    assert "instrumented already as 'orders'" in str(refused.value)
    assert "uninstrument()" in str(refused.value)
    first.uninstrument()
    assert instrument(engine, **{"registry": CollectorRegistry(), option: value}) is not first


def test_an_uninstrumented_pool_stays_off_its_successor(engine: Engine, registry: CollectorRegistry) -> None:
    """The old handle takes nothing off an engine that was instrumented again."""
    first = instrument(engine, registry=registry)
    first.uninstrument()
    second = instrument(engine, registry=registry)
    first.uninstrument()
    with first:
        engine.connect().close()
    engine.connect().close()
    assert (second.snapshot().acquires, second.snapshot().checkouts, second.snapshot().adopted) == (2, 2, 0)
    assert first.snapshot().checkouts == 0


def test_pools_without_a_registry_have_buckets_of_their_own(make: Callable[..., Engine]) -> None:
    """What is not exported shares nothing: each pool has the buckets and the detail asked for."""
    one = instrument(make(), name="own", registry=None, buckets={"wait_seconds": [1]})
    two = instrument(make(), name="own", registry=None, buckets={"wait_seconds": [2, 3]}, detail="basic")
    three = instrument(make(), name="own", registry=None)
    bounds = [instrumentation.snapshot().wait_seconds for instrumentation in (one, two, three)]
    assert [histogram.bounds[:2] for histogram in bounds if histogram] == [(1,), (2, 3), (0.001, 0.005)]


def test_uninstrument_takes_everything_off(engine: Engine, registry: CollectorRegistry) -> None:
    """Pool, queue and dialect have their own classes and methods again, and the series are gone."""
    instrumentation = instrument(engine, name="orders", registry=registry)
    pool: Any = engine.pool
    assert type(pool) is not QueuePool
    engine.connect().close()
    instrumentation.uninstrument()
    instrumentation.uninstrument()
    assert type(pool) is QueuePool
    assert type(pool._pool).__module__ == "sqlalchemy.util.queue"
    assert [name for name in vars(engine.dialect) if name.startswith("do_")] == []
    assert pools_in(registry) == []
    engine.connect().close()
    assert instrumentation.snapshot().checkouts == 1, "what was known last"
    again = instrument(engine, name="orders", registry=registry)
    assert again is not instrumentation
    assert (again.name, again.snapshot().checkouts, again.snapshot().open) == ("orders", 0, 1)


def test_a_with_block_ends_in_uninstrument(engine: Engine, registry: CollectorRegistry) -> None:
    """At the end of the block the engine is as it was."""
    instrumentation = instrument(engine, name="orders", registry=registry)
    with instrumentation as entered:
        assert entered is instrumentation
        assert pools_in(registry) == ["orders"]
    assert type(engine.pool) is QueuePool
    assert pools_in(registry) == []
    assert repr(instrumentation) == "<Instrumentation of pool 'orders'>"


# --- the kill switch ---------------------------------------------------------------------


@pytest.mark.parametrize("value", ["1", "true", "YES", " on "])
def test_the_kill_switch_leaves_the_engine_alone(
    value: str, engine: Engine, registry: CollectorRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With POOL_EXPORTER_DISABLED=1 every call works and nothing is attached or exported."""
    monkeypatch.setenv("POOL_EXPORTER_DISABLED", value)
    before = (type(engine.pool), set(vars(engine.pool)), set(vars(engine.dialect)), engine.pool.dispatch)
    with instrument(engine, name="nobody", registry=registry) as instrumentation:
        assert isinstance(instrumentation, Instrumentation)
        assert (
            type(engine.pool),
            set(vars(engine.pool)),
            set(vars(engine.dialect)),
            engine.pool.dispatch,
        ) == before
        engine.connect().close()
        snapshot = instrumentation.snapshot()
        assert (snapshot.mode, snapshot.name, snapshot.checkouts, snapshot.open) == (
            "disabled",
            "nobody",
            0,
            0,
        )
        assert pools_in(registry) == []
        assert [one for one in snapshots() if one.name == "nobody"] == []
    instrumentation.uninstrument()


@pytest.mark.parametrize("value", ["", "0", "false", "no"])
def test_the_kill_switch_is_off_otherwise(
    value: str, engine: Engine, registry: CollectorRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An empty variable, or one that says no, switches nothing off."""
    monkeypatch.setenv("POOL_EXPORTER_DISABLED", value)
    assert instrument(engine, registry=registry).snapshot().mode == "full"


def test_the_kill_switch_opens_no_port(monkeypatch: pytest.MonkeyPatch, registry: CollectorRegistry) -> None:
    """Switched off, `start_server` listens on nothing and starts no thread; its handle works."""
    monkeypatch.setenv("POOL_EXPORTER_DISABLED", "1")
    threads = threading.active_count()
    with start_server(0, registry=registry) as server:
        assert threading.active_count() == threads
        assert server.address == ("127.0.0.1", 0)
        assert server.url == ""
    server.close()


# --- what is no QueuePool ----------------------------------------------------------------


def test_two_pool_classes_share_one_registry(
    registry: CollectorRegistry, make: Callable[..., Engine]
) -> None:
    """A pool without a size has fewer series, and does not take away another's."""
    instrument(make(), name="sized", registry=registry)
    instrument(make(poolclass=NullPool), name="unsized", registry=registry)
    lines = generate_latest(registry).decode().splitlines()
    sizes = [line for line in lines if line.startswith("sqlalchemy_pool_size{")]
    assert sizes == ['sqlalchemy_pool_size{pool="sized"} 5.0']


def test_the_default_name_needs_no_connection() -> None:
    """Naming a pool touches neither the database nor the pool's own state."""
    engine = create_engine("postgresql+psycopg://127.0.0.1:1/app")
    assert default_name(engine) == "127.0.0.1:1/app"
    assert isinstance(engine.pool, Pool)
