"""Read the imports of this repository's packages from their source, without running it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
PACKAGE, LAB = "pool_exporter", "pool_exporter_lab"
FACADE = "__init__"
"""The room of `pool_exporter/__init__.py`, which the application imports."""


class Import(NamedTuple):
    """One imported name.

    - `path`: the importing file, relative to the repository.
    - `target`: the absolute dotted name, down to the imported thing.
    - `nested`: it stands inside a function.
    - `typing_only`: it stands under `if TYPE_CHECKING:`.
    """

    path: str
    line: int
    target: str
    nested: bool
    typing_only: bool

    def __str__(self) -> str:
        return f"{self.path}:{self.line} {self.target}"


def modules() -> list[str]:
    """Return the path of every source file of both packages, relative to the repository."""
    return sorted(
        str(path.relative_to(ROOT)) for package in (PACKAGE, LAB) for path in (ROOT / package).rglob("*.py")
    )


def room_of(path: str) -> str:
    """Return the room of a file: the folder or module at the top of `pool_exporter`, or the lab."""
    package, _, inside = path.partition("/")
    return LAB if package == LAB else inside.partition("/")[0].removesuffix(".py")


def room_of_target(target: str) -> str | None:
    """Return the room that an import leads to, None outside of both packages."""
    parts = target.split(".")
    if parts[0] == LAB:
        return LAB
    if parts[0] != PACKAGE:
        return None
    is_room = len(parts) > 1 and (
        (path := ROOT / PACKAGE / parts[1]).is_dir() or path.with_suffix(".py").exists()
    )
    return parts[1] if is_room else FACADE


def imports_of(path: str, source: str | None = None) -> list[Import]:
    """Return the imports of a file; `source` stands for its text."""
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8") if source is None else source)
    return list(_imports(tree, path, nested=False, typing_only=False))


def _imports(node: ast.AST, path: str, *, nested: bool, typing_only: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            names = [alias.name for alias in child.names]
        elif isinstance(child, ast.ImportFrom):
            folders = Path(path).parent.parts
            base = [*folders[: len(folders) - child.level + 1]] if child.level else []
            prefix = ".".join([*base, *([child.module] if child.module else [])])
            names = [f"{prefix}.{alias.name}" for alias in child.names]
        else:
            is_function = isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
            checking = isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING"
            yield from _imports(
                child, path, nested=nested or is_function, typing_only=typing_only or checking
            )
            continue
        for name in names:
            yield Import(path, child.lineno, name, nested, typing_only)


def arrows() -> dict[str, set[str]]:
    """Return the rooms that each room imports from, annotations included."""
    found: dict[str, set[str]] = {}
    for path in modules():
        own = found.setdefault(room_of(path), set())
        own |= {room for one in imports_of(path) if (room := room_of_target(one.target)) is not None}
    return {room: targets - {room} for room, targets in found.items()}
