"""Test that the list of SQLAlchemy's private names is complete, and true of the installed version."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, event, text
from sqlalchemy.pool import QueuePool, SingletonThreadPool

from pool_exporter import capture
from pool_exporter.capture import privates

LISTED = {name.rpartition(".")[2] for name in privates.PRIVATE_NAMES} | {
    name for names in privates.PRIVATE_INSTANCE_NAMES.values() for name in names
}
OF_DRIVERS_AND_PYTHON = {
    "_acquired",
    "_cursor",
    "_listeners",
    "_protocol",
    "_result",
    "_sock",
    "_stmt_exclusive_section",
    "_transport",
    "_writer",
    "_current_frames",
    "_getframe",
    "_get_running_loop",
    "_tasks",
    "_exit_tasks",
}
"""What is asked of a driver's objects, where it may be missing, and of Python."""
STANDING_IN = {"_should_wrap_creator"}
"""What is not touched, but shows on the class that instances will have `_invoke_creator`."""
OUR_MARK = "_pool_exporter"


def _connection() -> Any:
    return create_engine("sqlite://").connect()


def _context() -> Any:
    engine = create_engine("sqlite://")
    seen: list[Any] = []
    event.listen(engine, "after_cursor_execute", lambda *arguments: seen.append(arguments[4]))
    with engine.connect() as connection:
        connection.execute(text("select 1"))
    engine.dispose()
    return seen[0]


def _pool(kind: type) -> Any:
    engine = create_engine("sqlite://", poolclass=kind)
    return engine.pool


INSTANCES: dict[str, Callable[[], Any]] = {
    "sqlalchemy.pool.base:Pool": lambda: _pool(QueuePool),
    "sqlalchemy.pool.impl:QueuePool": lambda: _pool(QueuePool),
    "sqlalchemy.pool.impl:SingletonThreadPool": lambda: _pool(SingletonThreadPool),
    "sqlalchemy.engine.base:Connection": _connection,
    "sqlalchemy.engine.base:OptionEngine": lambda: create_engine("sqlite://").execution_options(a=1),
    "sqlalchemy.engine.default:DefaultExecutionContext": _context,
}


def test_nothing_is_missing() -> None:
    """The installed SQLAlchemy has every name that classes should have."""
    assert privates.missing() == []


@pytest.mark.parametrize("kind", sorted(privates.PRIVATE_INSTANCE_NAMES))
def test_instances_have_their_names(kind: str) -> None:
    """An instance of each class has the names that only instances have."""
    instance = INSTANCES[kind]()
    module, _, name = kind.partition(":")
    assert isinstance(instance, getattr(import_module(module), name))
    absent = [name for name in privates.PRIVATE_INSTANCE_NAMES[kind] if not hasattr(instance, name)]
    assert absent == []
    if kind.endswith(":Connection"):
        instance.close()


@pytest.mark.parametrize("name", privates.PRIVATE_NAMES)
def test_a_name_that_is_gone_is_reported(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """`missing()` tells of a name that an upgrade took away."""
    module, _, path = name.partition(":")
    class_name, _, attribute = path.partition(".")
    owner = getattr(import_module(module), class_name)
    base = next(one for one in owner.__mro__ if attribute in vars(one))
    monkeypatch.delattr(base, attribute)
    assert name in privates.missing()


def _touched(source: Path) -> set[str]:
    """Return the private attributes that a module reads or writes on anything but its own objects."""
    tree = ast.parse(source.read_text())
    own = {
        node.name for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.ClassDef))
    }  # a method that overrides one of SQLAlchemy's is named in an attribute too
    attributes = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and not (
            isinstance(node.value, ast.Name) and node.value.id in ("self", "cls") and _sets(tree, node.attr)
        )
    }
    named = {
        node.args[1].value
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in ("getattr", "hasattr", "setattr", "_read", "_ask")
        and len(node.args) > 1
        and isinstance(node.args[1], ast.Constant)
    }
    overridden = {
        key.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Dict)
        for key in node.keys
        if isinstance(key, ast.Constant) and isinstance(key.value, str)
    }
    found = (attributes - own) | named | overridden | (own & LISTED)
    private = {name for name in found if name.startswith("_") and not name.startswith("__")}
    return private - {"_asdict", "_fields", "_replace"}  # a NamedTuple's methods, which are public


def _sets(tree: ast.AST, attribute: str) -> bool:
    """Tell whether a class of the module makes an attribute of its own, as `self.attribute: … = …`."""
    return any(
        isinstance(target, ast.Attribute)
        and target.attr == attribute
        and isinstance(target.value, ast.Name)
        and target.value.id == "self"
        for node in ast.walk(tree)
        if isinstance(node, (ast.Assign, ast.AnnAssign))
        for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
    )


def _sources() -> list[Path]:
    assert capture.__file__ is not None
    return sorted(Path(capture.__file__).parent.glob("*.py"))


@pytest.mark.parametrize("source", _sources(), ids=lambda source: source.name)
def test_no_other_private_name_is_touched(source: Path) -> None:
    """Each private attribute in the code of `capture` is in the list, ours, a driver's or Python's."""
    assert sorted(_touched(source) - LISTED - OF_DRIVERS_AND_PYTHON - {OUR_MARK}) == []


def test_no_name_is_listed_in_vain() -> None:
    """Each name of the list is touched somewhere."""
    code = "".join(source.read_text() for source in _sources() if source.name != "privates.py")
    assert {name for name in LISTED if not re.search(rf"\b{name}\b", code)} == STANDING_IN
