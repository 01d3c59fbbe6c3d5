"""Check who acquires in generators, decorators, lambdas, methods and modules of all kinds."""

from __future__ import annotations

import contextvars
import functools
import importlib
import itertools
import operator
import sys
import textwrap
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack, aclosing, asynccontextmanager, contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncConnection

from pool_exporter import Attribution, HeldConnection
from tests.capture.callers.applications import (
    MARK,
    QUALIFIED,
    Application,
    Place,
    marked_line,
    name_of,
    place,
    place_of,
)
from tests.capture.callers.conftest import MakeApplication

MakeModule = Callable[[str, str], ModuleType]


async def test_an_async_generator(app: Application) -> None:
    """A generator has what it acquires, not whoever iterates."""

    async def rows() -> AsyncIterator[int]:
        async with app.engine.connect():  # acquires
            yield 1

    async with aclosing(rows()) as iterator:  # type: ignore[type-var]  # an iterator with aclose()
        async for _ in iterator:
            app.assert_held_by(rows)


async def test_an_async_context_manager(app: Application) -> None:
    """A context manager has what it acquires, not whoever enters it."""

    @asynccontextmanager
    async def transaction() -> AsyncIterator[AsyncConnection]:
        async with app.engine.begin() as connection:  # acquires
            yield connection

    async with transaction():
        app.assert_held_by(transaction.__wrapped__)  # type: ignore[attr-defined]


def test_a_context_manager(sync_app: Application) -> None:
    """The same where it is synchronous, also in an exit stack."""

    @contextmanager
    def transaction() -> Iterator[Any]:
        with sync_app.engine.begin() as connection:  # acquires
            yield connection

    with ExitStack() as stack:
        stack.enter_context(transaction())
        sync_app.assert_held_by(transaction.__wrapped__)  # type: ignore[attr-defined]


def transparent(function: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    """Decorate a function without doing anything."""

    @functools.wraps(function)
    async def wrapper(*arguments: Any) -> Any:
        return await function(*arguments)

    return wrapper


def with_connection(function: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    """Decorate a function with a connection."""

    @functools.wraps(function)
    async def wrapper(app: Application) -> Any:
        async with app.engine.connect() as connection:  # acquires
            return await function(app, connection)

    return wrapper


async def test_a_decorated_function(app: Application) -> None:
    """A function that acquires has it, whatever is wrapped around it."""

    @transparent
    @transparent
    async def acquires() -> Any:
        return await app.engine.connect()  # acquires

    connection = await acquires()
    app.assert_held_by(acquires.__wrapped__.__wrapped__)  # type: ignore[attr-defined]
    await connection.close()


async def test_a_decorator_that_acquires(app: Application) -> None:
    """A wrapper that acquires for what it wraps has it, under its own name."""

    @with_connection
    async def uses(app: Application, connection: AsyncConnection) -> HeldConnection:
        return app.held()

    held = await uses(app)
    assert held.function is not None
    assert held.function.startswith(f"{__name__}:")
    assert held.function.rpartition(".")[2].rpartition(":")[2] == "wrapper"
    assert held.lineno == place_of(with_connection).lineno


async def test_a_partial_function(app: Application) -> None:
    """A partial of a function has no frame; the function has it."""

    async def acquires(engine: Any) -> Any:
        return await engine.connect()  # acquires

    connection = await functools.partial(acquires, app.engine)()
    app.assert_held_by(acquires)
    await connection.close()


CALLABLES: dict[str, Callable[[Any], Callable[[], Any]]] = {
    "partial": lambda engine: functools.partial(engine.connect),
    "methodcaller": lambda engine: functools.partial(operator.methodcaller("connect"), engine),
    "starmap": lambda engine: itertools.starmap(engine.connect, [()]).__next__,
    "cached": lambda engine: functools.cache(engine.connect),
    "context": lambda engine: functools.partial(contextvars.copy_context().run, engine.connect),
}
"""Ways to call `engine.connect` that have no frame, as they are written in C."""


@pytest.mark.parametrize("way", CALLABLES)
def test_a_callable_without_a_frame(way: str, sync_app: Application) -> None:
    """Whoever calls something that is written in C and calls `engine.connect` has it."""
    connect = CALLABLES[way](sync_app.engine)
    with connect():  # acquires
        sync_app.assert_held_by(test_a_callable_without_a_frame)


def test_a_lambda(sync_app: Application) -> None:
    """A lambda has what it acquires."""
    connect: Any = lambda: sync_app.engine.connect()  # noqa: E731, PLW0108  # acquires
    with connect():
        assert place(sync_app.held()) == Place(name_of(connect), __file__, place_of(test_a_lambda).lineno)


class Repository:
    """Something whose methods acquire."""

    def __init__(self, app: Application) -> None:
        self.app = app

    async def method(self) -> Any:
        """Acquire in a method."""
        return await self.app.engine.connect()  # acquires

    @classmethod
    async def of_class(cls, app: Application) -> Any:
        """Acquire in a class method."""
        return await app.engine.connect()  # acquires

    @staticmethod
    async def static(app: Application) -> Any:
        """Acquire in a static method."""
        return await app.engine.connect()  # acquires

    async def __call__(self) -> Any:
        """Acquire where the object is called."""
        return await self.app.engine.connect()  # acquires

    @property
    async def attribute(self) -> Any:
        """Acquire where an attribute is read."""
        return await self.app.engine.connect()  # acquires

    def __await__(self) -> Any:
        """Acquire where the object is awaited."""
        return (yield from self.app.engine.connect().__await__())  # acquires

    async def __aenter__(self) -> Any:
        """Acquire where the object is entered."""
        self.connection = await self.app.engine.connect()  # acquires
        return self.connection

    async def __aexit__(self, *error: object) -> None:
        """Do nothing."""


class Heir(Repository):
    """Something that inherits its methods."""


async def enters(app: Application) -> Any:
    """Enter a repository."""
    async with Repository(app) as connection:
        return connection


METHODS: dict[str, tuple[Any, Callable[[Application], Awaitable[Any]]]] = {
    "method": (Repository.method, lambda app: Repository(app).method()),
    "inherited": (Repository.method, lambda app: Heir(app).method()),
    "class method": (Repository.of_class, Heir.of_class),
    "static method": (Repository.static, Repository.static),
    "call": (Repository.__call__, lambda app: Repository(app)()),
    "attribute": (Repository.attribute.fget, lambda app: Repository(app).attribute),  # type: ignore[attr-defined]
    "await": (Repository.__await__, Repository),
    "enter": (Repository.__aenter__, enters),
}


@pytest.mark.parametrize("way", METHODS)
async def test_methods(way: str, app: Application) -> None:
    """Methods of all kinds are found, under the class that defines them."""
    method, call = METHODS[way]
    connection = await call(app)
    app.assert_held_by(method)
    await connection.close()


def test_recursion(sync_app: Application) -> None:
    """The innermost call of a recursion has it."""

    def descends(depth: int) -> Any:
        if depth:
            return descends(depth - 1)
        return sync_app.engine.connect()  # acquires

    with descends(50):
        sync_app.assert_held_by(descends)


def test_a_comprehension(sync_app: Application) -> None:
    """A comprehension, which has a frame of its own on some Pythons, belongs to its function on all."""
    [connection] = [sync_app.engine.connect() for _ in range(1)]  # acquires
    sync_app.assert_held_by(test_a_comprehension)
    connection.close()
    connections = {key: sync_app.engine.connect() for key in range(1)}
    assert sync_app.held().function == name_of(test_a_comprehension)
    connections[0].close()


async def test_a_comprehension_that_awaits(app: Application) -> None:
    """The same in asynchronous code."""
    [connection] = [await app.engine.connect() for _ in range(1)]  # acquires
    app.assert_held_by(test_a_comprehension_that_awaits)
    await connection.close()


def test_a_generator_expression(sync_app: Application) -> None:
    """An expression that is a generator has what it acquires, under its own name."""
    connections: Any = (sync_app.engine.connect() for _ in range(1))  # acquires
    connection = next(connections)
    held = sync_app.held()
    assert held.function == f"{__name__}:{connections.__qualname__ if QUALIFIED else connections.__name__}"
    assert held.lineno == place_of(test_a_generator_expression).lineno
    connection.close()


MADE = f"""
def acquires(engine):
    answer = 42
    return engine.connect()  {MARK}
"""


@pytest.mark.parametrize("name", ["made.by.exec", None])
def test_code_made_by_exec(name: str | None, sync_app: Application) -> None:
    """Code made by `exec` belongs to the module that it says it is of, without one to its file."""
    namespace: dict[str, Any] = {} if name is None else {"__name__": name}
    exec(compile(MADE, "<made>", "exec"), namespace)
    with namespace["acquires"](sync_app.engine):
        sync_app.assert_held_by(Place(f"{name or '<made>'}:acquires", "<made>", marked_line(MADE)))


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MakeModule]:
    """A function that writes a module to disk and imports it; when the test is over it is forgotten."""
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)

    def make(name: str, source: str) -> ModuleType:
        file = tmp_path.joinpath(*name.split(".")).with_suffix(".py")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(textwrap.dedent(source))
        importlib.invalidate_caches()
        return importlib.import_module(name)

    yield make
    for name in sys.modules.keys() - before:
        if str(tmp_path) in str(sys.modules[name].__spec__):
            del sys.modules[name]


HELPERS = f"""
    from contextlib import contextmanager

    def connect(engine):
        return engine.connect()  {MARK}

    @contextmanager
    def transaction(engine):
        with engine.begin() as connection:
            yield connection
"""


@pytest.mark.parametrize("skip", [(), ("my",), ("my.helpers",), ("my.helper",), ("helpers",)])
def test_modules_that_are_skipped(skip: tuple[str, ...], make: MakeApplication, module: MakeModule) -> None:
    """What a module acquires belongs to whoever called it if it is to be skipped, and only then."""
    helpers = module("my.helpers", HELPERS)
    app = make("psycopg", attribution=Attribution(skip=skip))
    skipped = skip in [("my",), ("my.helpers",)]
    with helpers.connect(app.engine):  # acquires
        app.assert_held_by(test_modules_that_are_skipped if skipped else helpers.connect)
    with helpers.transaction(app.engine):
        expected = test_modules_that_are_skipped if skipped else helpers.transaction.__wrapped__
        assert app.held().function == name_of(expected)


def test_a_module_that_acquires_when_it_is_imported(
    sync_app: Application, module: MakeModule, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The code of a module itself is found, past the import system."""
    source = f"from builtins import engine_for_a_test\nconnection = engine_for_a_test.connect()  {MARK}\n"
    monkeypatch.setattr("builtins.engine_for_a_test", sync_app.engine, raising=False)
    imported = module("importing_module", source)
    with imported.connection:
        sync_app.assert_held_by(Place("importing_module:<module>", imported.__file__, marked_line(source)))
