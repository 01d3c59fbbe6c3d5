"""Check which engines and options instrument() takes, and the registry."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from sqlalchemy import Engine, create_engine
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import Session, sessionmaker

from pool_exporter import instrument
from tests.instrumentation.conftest import is_untouched, pools_in


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
