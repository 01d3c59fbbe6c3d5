"""Every private name of SQLAlchemy that the package touches is listed, and is there."""

from __future__ import annotations

import ast
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine
from sqlalchemy.engine.default import DefaultExecutionContext
from sqlalchemy.pool import AssertionPool, QueuePool, SingletonThreadPool
from sqlalchemy.util.queue import AsyncAdaptedQueue, Queue

from pool_exporter.capture import privates

CAPTURE = Path(privates.__file__).parent

OURS = frozenset({"_pool_exporter"})
"""The attribute under which the package keeps its own objects on SQLAlchemy's."""

OTHERS = frozenset(
    {"_getframe", "_current_frames", "_cursor", "_stmt_exclusive_section", "_acquired", "_listeners"}
)
"""Private names of the interpreter and of drivers, each looked for and passed over where missing."""


def an_instance(path: str) -> Any:
    """Return an instance of a class of `PRIVATE_INSTANCE_NAMES`."""
    engine = create_engine("sqlite://", poolclass=QueuePool)
    made = {
        "sqlalchemy.pool.base:Pool": lambda: engine.pool,
        "sqlalchemy.pool.impl:QueuePool": lambda: engine.pool,
        "sqlalchemy.pool.impl:SingletonThreadPool": lambda: SingletonThreadPool(object),
        "sqlalchemy.pool.impl:AssertionPool": lambda: AssertionPool(object),
        "sqlalchemy.util.queue:Queue": Queue,
        "sqlalchemy.util.queue:AsyncAdaptedQueue": AsyncAdaptedQueue,
        "sqlalchemy.engine.base:Connection": engine.connect,
        "sqlalchemy.engine.base:OptionEngine": lambda: engine.execution_options(a=1),
        "sqlalchemy.engine.default:DefaultExecutionContext": lambda: DefaultExecutionContext,
    }
    return made[path]()


def test_the_installed_sqlalchemy_has_every_private_name() -> None:
    """Nothing on the list is missing, so the seam can be used."""
    assert privates.missing() == []


def test_a_name_that_is_gone_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    """`missing()` names what an upgrade took away."""
    monkeypatch.delattr("sqlalchemy.pool.impl.QueuePool._dec_overflow")
    assert privates.missing() == ["sqlalchemy.pool.impl:QueuePool._dec_overflow"]


@pytest.mark.parametrize("path", privates.PRIVATE_INSTANCE_NAMES)
def test_instances_have_their_private_names(path: str) -> None:
    """The attributes that only instances have are there too."""
    instance = an_instance(path)
    for name in privates.PRIVATE_INSTANCE_NAMES[path]:
        assert hasattr(instance, name), f"{path}.{name}"
    if hasattr(instance, "close"):
        instance.close()


def listed() -> frozenset[str]:
    """Return the attribute names of both lists."""
    names = {path.partition(":")[2].partition(".")[2] for path in privates.PRIVATE_NAMES}
    for attributes in privates.PRIVATE_INSTANCE_NAMES.values():
        names |= set(attributes)
    classes = {path.partition(":")[2].partition(".")[0] for path in privates.PRIVATE_NAMES}
    return frozenset(names | {name for name in classes if name.startswith("_")})


def foreign_private_attributes(tree: ast.Module) -> set[str]:
    """Return the underscore attributes that are read of anything but `self`, and private imports."""
    names = set()
    own = {node.name for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.ClassDef))}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.startswith("__"):
            if not (
                isinstance(node.value, ast.Name) and node.value.id == "self" and node.attr not in listed()
            ):
                names.add(node.attr)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("sqlalchemy"):
            names |= {alias.name for alias in node.names if alias.name.startswith("_")}
    return names - own


@pytest.mark.parametrize("file", sorted(CAPTURE.glob("*.py")), ids=lambda path: path.name)
def test_capture_touches_no_private_name_that_is_not_listed(file: Path) -> None:
    """An underscore attribute in `capture` is listed, the package's own, or one of a driver."""
    found = foreign_private_attributes(ast.parse(file.read_text(encoding="utf-8")))
    assert found <= listed() | OURS | OTHERS


def test_names_are_spelled_as_modules_and_attributes() -> None:
    """Each entry of the lists names a module that can be imported."""
    for path in [*privates.PRIVATE_NAMES, *privates.PRIVATE_INSTANCE_NAMES]:
        import_module(path.partition(":")[0])
