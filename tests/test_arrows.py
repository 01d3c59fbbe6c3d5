"""Read the imports of every module and fail on one that points the wrong way."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import pool_exporter

PACKAGE = Path(pool_exporter.__file__).parent
ROOMS = {
    # room: the rooms that it may import from, besides itself
    "__init__": {
        *(
            "capture",
            "everywhere",
            "instrument",
            "instrumentation",
            "leaks",
            "middleware",
            "owners",
            "records",
            "serving",
            "status",
        ),
    },
    "__main__": {"cli"},
    "arguments": {"catalogue"},
    "capture": {"ledger", "owners", "probing", "records", "uses"},
    "catalogue": set(),
    "counting": {"counts", "deferring", "leaks", "probing", "records", "snapshotting", "uses"},
    "counts": {"catalogue", "records"},
    "dashboards": {"catalogue", "rules", "vocabularies"},
    "deferring": {"faults", "uses"},
    "departed": {"catalogue", "exporters", "records"},
    "exporters": {"catalogue", "records", "vocabularies"},
    "faults": set(),
    "holding": {"probing", "records", "uses"},
    "leaks": {"counts", "uses"},
    "ledger": {"counting", "holding", "leaks", "probing", "records", "snapshotting", "uses"},
    "middleware": {"arguments", "owners"},
    "naming": set(),
    "owners": {"arguments"},
    "probing": {"uses"},
    "records": set(),
    "rules": {"arguments", "catalogue", "vocabularies"},
    "reporting": {"faults", "records", "wording"},
    "serving": {"arguments", "exporters", "records", "verdict", "wording", "workers"},
    "snapshotting": {"catalogue", "counts", "records", "uses"},
    "uses": {"counts", "ledger", "records"},
    "verdict": {"records", "wording"},
    "vocabularies": {"catalogue"},
    "watcher": set(),
    "wording": set(),
    "workers": set(),
}
"""`instrument`, with what it returns and what it exports, joins the rooms and may import from all;
`cli`, `demo`, `drill` and `plugins` are programs on top."""
FREE = {
    "instrument",
    "instrumentation",
    "options",
    "process",
    "exports",
    "grouping",
    "everywhere",
    "sharing",
    "status",
    "telemetry",
    "telemetries",
    "subject",
    "instrumented",
    "cli",
    "demo",
    "drill",
    "plugins",
}
OPTIONAL = {
    "greenlet",
    "starlette",
    "fastapi",
    "uvicorn",
    "asyncpg",
    "psycopg",
    "aiosqlite",
    "opentelemetry",
    "yaml",
}
OPTIONAL_IN = {
    *("cli", "demo", "drill", "capture/context.py", "capture/errors.py", "rules/rendering.py"),
    *("exporters/opentelemetry.py", "plugins/instrumentor.py", "plugins/url.py"),
}


class Import:
    """One import statement: what it imports, and whether it stands inside a function."""

    def __init__(self, target: str, line: int, *, nested: bool, typing_only: bool) -> None:
        self.target = target
        self.line = line
        self.nested = nested
        self.typing_only = typing_only


def modules() -> list[str]:
    return sorted(str(path.relative_to(PACKAGE)) for path in PACKAGE.rglob("*.py"))


def room_of(path: str) -> str:
    return path.partition("/")[0].removesuffix(".py")


def imports_of(path: str) -> list[Import]:
    """Return the imports of a module, by absolute names down to the imported thing."""
    package = ["pool_exporter", *Path(path).parent.parts]
    found: list[Import] = []

    def visit(node: ast.AST, nested: bool, typing_only: bool) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                found.extend(
                    Import(alias.name, child.lineno, nested=nested, typing_only=typing_only)
                    for alias in child.names
                )
            elif isinstance(child, ast.ImportFrom):
                base = package[: len(package) - child.level + 1] if child.level else []
                prefix = ".".join([*base, *([child.module] if child.module else [])])
                found.extend(
                    Import(f"{prefix}.{alias.name}", child.lineno, nested=nested, typing_only=typing_only)
                    for alias in child.names
                )
            is_function = isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
            checking = isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING"
            visit(child, nested or is_function, typing_only or checking)

    visit(ast.parse((PACKAGE / path).read_text()), nested=False, typing_only=False)
    return found


def is_within(target: str, module: str) -> bool:
    return target == module or target.startswith(module + ".")


def test_every_room_has_a_rule() -> None:
    """A new module or folder at the top of the package must be given its place here."""
    assert {room_of(path) for path in modules()} == ROOMS.keys() | FREE


@pytest.mark.parametrize("path", [path for path in modules() if room_of(path) not in FREE])
def test_imports_within_the_package_follow_the_arrows(path: str) -> None:
    """A module imports only from its own room and from those that it may know."""
    allowed = ROOMS[room_of(path)] | {room_of(path)}
    for found in imports_of(path):
        parts = found.target.split(".")
        if parts[0] == "pool_exporter":
            assert len(parts) > 1, f"{path}:{found.line} imports the facade"
            assert parts[1] in allowed, f"{path}:{found.line} imports {found.target}"


def test_uses_knows_the_ledger_by_type_only() -> None:
    """What a ledger holds imports the ledger for annotations alone, so that there is no cycle."""
    assert [
        found.target for found in imports_of("uses.py") if "ledger" in found.target and not found.typing_only
    ] == []


@pytest.mark.parametrize("path", [path for path in modules() if room_of(path) not in FREE | {"capture"}])
def test_only_capture_knows_sqlalchemy(path: str) -> None:
    """Outside of capture nothing imports SQLAlchemy; the wiring names its engines in annotations."""
    found = [one for one in imports_of(path) if is_within(one.target, "sqlalchemy")]
    assert [f"{path}:{one.line} {one.target}" for one in found] == []


@pytest.mark.parametrize(
    "path", ["instrument.py", "instrumentation.py", "exports.py", "process.py", "options.py", "status.py"]
)
def test_the_wiring_knows_sqlalchemy_by_type_only(path: str) -> None:
    """The wiring leaves all that SQLAlchemy does to capture."""
    found = [one for one in imports_of(path) if is_within(one.target, "sqlalchemy")]
    assert all(one.typing_only for one in found)


@pytest.mark.parametrize(
    "path", [path for path in modules() if room_of(path) not in {"cli", "demo", "drill", "capture"}]
)
def test_events_and_pools_are_for_capture(path: str) -> None:
    """Only capture imports `sqlalchemy.event` and `sqlalchemy.pool`, type checking included."""
    for found in imports_of(path):
        assert not is_within(found.target, "sqlalchemy.event"), f"{path}:{found.line}"
        assert not is_within(found.target, "sqlalchemy.pool"), f"{path}:{found.line}"


@pytest.mark.parametrize(
    "path", [path for path in modules() if room_of(path) not in {"cli", "demo", "plugins"}]
)
def test_no_import_hides_inside_a_function(path: str) -> None:
    """Imports stand at the top of a module, where cycles and costs can be seen.

    But for an optional dependency's, in the file of its own backend.
    """
    hidden = [found for found in imports_of(path) if found.nested]
    if path in OPTIONAL_IN:
        hidden = [found for found in hidden if found.target.split(".")[0] not in OPTIONAL]
    assert [f"{path}:{found.line}" for found in hidden] == []


@pytest.mark.parametrize("path", modules())
def test_optional_dependencies_stay_in_their_places(path: str) -> None:
    """The base imports no web framework, no driver and no OpenTelemetry; annotations may name them."""
    if room_of(path) in OPTIONAL_IN or path in OPTIONAL_IN:
        return
    for found in imports_of(path):
        if found.typing_only:
            continue
        assert found.target.split(".")[0] not in OPTIONAL, f"{path}:{found.line} imports {found.target}"
