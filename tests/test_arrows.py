"""Check the structure of the package: which room imports which, and where state and privates live."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pool_exporter import _LATER
from tools.imports import FACADE, LAB, PACKAGE, Import, imports_of, modules, room_of, room_of_target

ROOT = Path(__file__).resolve().parent.parent
EVERY_ROOM = {
    *("capture", "catalogue", "exporters", "instrumentation", "ledger", "messages", "records", "serving"),
    "support",
}
ARROWS = {
    # room: the rooms that it may import from, besides itself
    "support": set(),
    "records": set(),
    "catalogue": set(),
    "ledger": {"catalogue", "records", "support"},
    "messages": {"records", "support"},
    "exporters": {"catalogue", "records", "support"},
    "monitoring": {"catalogue", "support"},
    "capture": {"ledger", "records", "support"},
    "serving": {"exporters", "messages", "records", "support"},
    "instrumentation": EVERY_ROOM - {"instrumentation"},
    "plugins": EVERY_ROOM - {"serving"},
    FACADE: {"capture", "instrumentation", "ledger", "records", "serving"},
    "__main__": {"cli"},
    "cli": {
        *("monitoring", "messages", "records", "catalogue", "support", "instrumentation", "serving"),
        LAB,
    },
    LAB: {FACADE, "monitoring", "messages", "catalogue", "support"},
}
"""Who may import from whom. Data flows capture -> ledger -> snapshot -> exporters -> serving."""
NARROWED = {
    (FACADE, "capture"): "pool_exporter.capture.callers",
    (FACADE, "ledger"): "pool_exporter.ledger.leak_policy",
    ("cli", "instrumentation"): "pool_exporter.instrumentation.options",
}
"""Arrows that lead to one part of a room alone."""
NOT_YET = [
    *(
        (f"{PACKAGE}/exporters/multiprocess/publisher.py", f"{PACKAGE}.{target}")
        for target in (
            "instrumentation.destinations.Destinations",
            "instrumentation.instrumentation.Instrumentation",
            "ledger.ledger.Ledger",
        )
    ),
    *(
        (f"{PACKAGE}/exporters/opentelemetry/provider.py", f"{PACKAGE}.{target}")
        for target in (
            "instrumentation.destinations.Destination",
            "instrumentation.instrumentation.Instrumentation",
            "ledger.ledger.Ledger",
        )
    ),
    (f"{PACKAGE}/exporters/opentelemetry/providers.py", f"{PACKAGE}.instrumentation.destinations"),
    *(
        (f"{PACKAGE}/exporters/opentelemetry/exported_pool.py", f"{PACKAGE}.{target}")
        for target in ("instrumentation.instrumentation.Instrumentation", "ledger.ledger.Ledger")
    ),
]
"""Imports that follow no arrow yet: file, and how the imported name begins."""

MAX_STATES = 11
"""Module-level state that is left, besides the seam's cache and context variables."""
MAX_REACH_INS = 57
"""Reads and writes of another object's private attributes that are left; who takes one away lowers the number."""

SQLALCHEMY_IN = ("capture", "plugins", LAB)
OPTIONAL = {
    *("greenlet", "starlette", "fastapi", "uvicorn", "asyncpg", "psycopg", "aiosqlite", "opentelemetry"),
    "yaml",
}
"""Packages that the base install does not bring."""
OPTIONAL_IN = {
    f"{PACKAGE}/exporters/opentelemetry/instruments.py": {"opentelemetry"},
    f"{PACKAGE}/monitoring/rules/rendering.py": {"yaml"},
    f"{PACKAGE}/plugins/opentelemetry_instrumentor.py": {"opentelemetry"},
    f"{PACKAGE}/plugins/sqlalchemy_url.py": {"opentelemetry"},
}
LAZY = {
    f"{PACKAGE}/instrumentation/runtime.py": f"{PACKAGE}.exporters.opentelemetry.providers.ProviderExporters",
}
"""Imports of our own that not every process pays for."""

SOURCES = {path: (ROOT / path).read_text(encoding="utf-8") for path in modules()}
IMPORTS = {path: imports_of(path, source) for path, source in SOURCES.items()}
OWN = [path for path in SOURCES if path.startswith(f"{PACKAGE}/")]


def forbidden(path: str, imports: list[Import]) -> list[Import]:
    """Return the imports of a file that follow no arrow."""
    room = room_of(path)
    found = []
    for one in imports:
        target = room_of_target(one.target)
        if target is None or target == room:
            continue
        part = NARROWED.get((room, target))
        if target not in ARROWS[room] or (part is not None and not is_within(one.target, part)):
            found.append(one)
    return found


def test_every_room_has_its_arrows() -> None:
    """A new file or folder at the top of the package must be given its place here."""
    assert {room_of(path) for path in SOURCES} == ARROWS.keys()


def test_the_package_has_few_entries() -> None:
    """At most twelve rooms stand beside the facade and `__main__`."""
    assert len(ARROWS.keys() - {FACADE, "__main__", LAB}) <= 12


@pytest.mark.parametrize("path", SOURCES)
def test_imports_follow_the_arrows(path: str) -> None:
    """A file imports only from its own room and from those that it may know."""
    left = [one for one in forbidden(path, IMPORTS[path]) if not is_left(one)]
    assert [str(one) for one in left] == []


def is_left(one: Import) -> bool:
    return any(one.path == path and is_within(one.target, target) for path, target in NOT_YET)


@pytest.mark.xfail(strict=True, reason="exporters get a protocol instead of the instrumentation")
@pytest.mark.parametrize(("path", "target"), NOT_YET)
def test_an_import_that_is_left_follows_the_arrows_too(path: str, target: str) -> None:
    """Each of these is to go; one that has gone must leave the list."""
    assert not any(is_within(one.target, target) for one in forbidden(path, IMPORTS[path]))


def is_within(target: str, module: str) -> bool:
    return target == module or target.startswith(module + ".")


def test_the_names_of_the_facade_follow_the_arrows() -> None:
    """What is imported at the first use is held to the table as the rest is."""
    path = f"{PACKAGE}/__init__.py"
    lazy = [
        Import(path, 0, f"{module}.{name}", nested=False, typing_only=False)
        for name, module in _LATER.items()
    ]
    assert lazy
    assert [str(one) for one in forbidden(path, lazy)] == []


def sqlalchemy_of(path: str, imports: list[Import]) -> list[Import]:
    """Return the imports of SQLAlchemy where it must not be known; annotations may name its engines."""
    found = [one for one in imports if is_within(one.target, "sqlalchemy")]
    if room_of(path) in SQLALCHEMY_IN:
        return []
    parts = ("sqlalchemy.event", "sqlalchemy.pool")
    return [one for one in found if not one.typing_only or any(is_within(one.target, part) for part in parts)]


@pytest.mark.parametrize("path", SOURCES)
def test_only_capture_and_plugins_know_sqlalchemy(path: str) -> None:
    """Outside of them nothing imports SQLAlchemy at run time, nor its events and pools at all."""
    assert [str(one) for one in sqlalchemy_of(path, IMPORTS[path])] == []


def hidden(path: str, imports: list[Import]) -> list[Import]:
    """Return the imports that stand inside a function without need.

    An optional dependency's may, in the file of its own backend. Commands and the pytest plugin import what
    they run when they run it.
    """
    if room_of(path) in ("cli", LAB) or path == f"{PACKAGE}/plugins/pytest/plugin.py":
        return []
    allowed = OPTIONAL_IN.get(path, set())
    return [
        one
        for one in imports
        if one.nested and one.target.split(".")[0] not in allowed and one.target != LAZY.get(path)
    ]


@pytest.mark.parametrize("path", SOURCES)
def test_no_import_hides_inside_a_function(path: str) -> None:
    """Imports stand at the top of a file, where cycles and costs can be seen."""
    assert [str(one) for one in hidden(path, IMPORTS[path])] == []


def optional(path: str, imports: list[Import]) -> list[Import]:
    """Return the imports at run time of what the base install does not bring."""
    if room_of(path) == LAB:
        return []
    allowed = OPTIONAL_IN.get(path, set())
    return [
        one
        for one in imports
        if not one.typing_only and (name := one.target.split(".")[0]) in OPTIONAL and name not in allowed
    ]


@pytest.mark.parametrize("path", SOURCES)
def test_optional_dependencies_stay_in_their_places(path: str) -> None:
    """The base imports no web framework, no driver and no OpenTelemetry; annotations may name them."""
    assert [str(one) for one in optional(path, IMPORTS[path])] == []


IMPORTS_BY_NAME_IN = (f"{PACKAGE}/__init__.py", f"{PACKAGE}/capture/privates.py")
"""The facade's lazy names, and the check of SQLAlchemy's private names: what else imports by a name?"""


def imports_by_name(source: str) -> list[str]:
    """Return the modules of ours that a file imports by a text, which no reader of imports sees."""
    return [
        ast.unparse(node)
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call)
        and ast.unparse(node.func).rpartition(".")[2] in ("import_module", "__import__")
        and any("pool_exporter" in ast.unparse(argument) for argument in node.args)
    ]


@pytest.mark.parametrize("path", SOURCES)
def test_nothing_of_ours_is_imported_by_its_name(path: str) -> None:
    """`import_module("pool_exporter.…")` would be an arrow that nothing sees; the facade's lazy names aside."""
    assert imports_by_name(SOURCES[path]) == []
    if path not in IMPORTS_BY_NAME_IN:
        functions = ("importlib", "importlib.import_module", "pkgutil.resolve_name")
        assert [str(one) for one in IMPORTS[path] if one.target in functions] == []


CONTAINERS = {
    *("list", "dict", "set", "deque", "defaultdict", "Counter", "OrderedDict"),
    *("WeakSet", "WeakKeyDictionary", "WeakValueDictionary"),
}
PRIMITIVES = {"Lock", "RLock", "Condition", "Event", "Semaphore", "Thread", "count", "local"}
CHANGING = {
    *("append", "appendleft", "add", "clear", "discard", "extend", "insert", "pop", "popleft", "popitem"),
    *("remove", "setdefault", "update"),
}
IMMUTABLE_BASES = {"NamedTuple", "Enum", "Protocol", "Exception", "TypedDict"}


def mutable_classes(trees: dict[str, ast.Module]) -> set[str]:
    """Return the names of the package's classes whose objects can change."""
    found = set()
    for tree in trees.values():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                bases = {ast.unparse(base).rpartition(".")[2] for base in node.bases}
                frozen = any("frozen=True" in ast.unparse(one) for one in node.decorator_list)
                if not frozen and not bases & IMMUTABLE_BASES:
                    found.add(node.name)
    return found


def changed_names(tree: ast.Module) -> set[str]:
    """Return the names of what a file changes in place, or assigns from inside a function."""
    changed = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Global):
            changed.update(node.names)
        elif (
            isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in CHANGING
        ):
            changed.add(ast.unparse(node.func.value).rpartition(".")[2])
        elif isinstance(node, (ast.Subscript, ast.Attribute)) and not isinstance(node.ctx, ast.Load):
            changed.add(ast.unparse(node.value).rpartition(".")[2])
    return changed


def states(tree: ast.Module, changing_classes: set[str], changed: set[str]) -> list[str]:
    """Return the names at the top of a module, or of a class, that hold what changes while the process runs.

    `changed`: what other files change of it.
    """
    changed = changed | changed_names(tree)
    return [
        name
        for node in statements(tree.body)
        if isinstance(node, (ast.Assign, ast.AnnAssign)) and node.value is not None
        for name, value in bound(node)
        if name != "__slots__" and _changes(value, name, changed, changing_classes)
    ]


def statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Yield what runs when a module is imported, also inside of `if`, `try`, `with` and classes."""
    for node in body:
        yield node
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            for part in ("body", "orelse", "finalbody"):
                yield from statements(getattr(node, part, []))
            for handler in getattr(node, "handlers", []):
                yield from statements(handler.body)


def bound(node: ast.Assign | ast.AnnAssign) -> Iterator[tuple[str, ast.expr]]:
    """Yield the names that a statement binds, each with its value."""
    assert node.value is not None
    for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
        pairs = [(target, node.value)]
        if isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
            pairs = list(zip(target.elts, node.value.elts, strict=False))
        yield from ((one.id, value) for one, value in pairs if isinstance(one, ast.Name))


def _changes(value: ast.expr, name: str, changed: set[str], changing_classes: set[str]) -> bool:
    called = (
        ast.unparse(value.func).rpartition(".")[2].partition("[")[0] if isinstance(value, ast.Call) else ""
    )
    if called == "ContextVar":
        return False
    if called in PRIMITIVES | changing_classes:
        return True
    is_container = called in CONTAINERS or isinstance(
        value, (ast.List, ast.Dict, ast.Set, ast.ListComp, ast.DictComp, ast.SetComp)
    )
    return name in changed if is_container or not called else name in changed and not name.isupper()


TREES = {path: ast.parse(SOURCES[path]) for path in OWN}
ALLOWED_STATES = {f"{PACKAGE}/capture/seam.py": {"_SEAMS", "_MAKING"}}
"""The classes that the seam has made, and the lock that guards them."""


def states_left() -> list[str]:
    classes = mutable_classes(TREES)
    changed = {name for tree in TREES.values() for name in changed_names(tree) if name.isupper()}
    return [
        f"{path} {name}"
        for path, tree in TREES.items()
        for name in states(tree, classes, changed)
        if name not in ALLOWED_STATES.get(path, set())
    ]


def test_the_state_of_the_process_becomes_no_more() -> None:
    """A module keeps no state: what the process knows belongs to the runtime."""
    assert len(states_left()) == MAX_STATES, states_left()


GENERAL = {
    "_replace",
    "_asdict",
    "_fields",
    "_make",
    "_getframe",
    "_current_frames",
    "_exit",
    "_pool_exporter",
}
"""Public in all but the underscore: of named tuples, `sys` and `os`; and our own mark on SQLAlchemy's objects."""


def defined_privates(tree: ast.Module) -> set[str]:
    """Return the private attributes that the classes and functions of a file define."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            found.add(node.name)
        elif isinstance(node, ast.Attribute) and ast.unparse(node.value) in ("self", "cls"):
            found.add(node.attr)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
    return {name for name in found if name.startswith("_")}


def reach_ins(tree: ast.Module, ours: set[str] | None) -> list[str]:
    """Return the private attributes of other objects that a file touches; of `ours` alone where given."""
    own = defined_privates(tree)
    return [
        f"{node.lineno} {ast.unparse(node)}"
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and node.attr.startswith("_")
        and not node.attr.endswith("__")
        and ast.unparse(node.value) not in ("self", "cls", "super()")
        and node.attr not in own | GENERAL
        and (ours is None or node.attr in ours)
    ]


def reach_ins_left() -> list[str]:
    ours = set().union(*map(defined_privates, TREES.values()))
    ours -= set(re.findall(r"\b_\w+", SOURCES[f"{PACKAGE}/capture/privates.py"]))
    return [
        f"{path}:{one}"
        for path, tree in TREES.items()
        # Capture touches SQLAlchemy's own private names: `capture/privates.py` lists them.
        for one in reach_ins(tree, ours if room_of(path) in ("capture", "plugins") else None)
    ]


def test_reach_ins_become_no_more() -> None:
    """An object's private attributes are for its own file."""
    assert len(reach_ins_left()) == MAX_REACH_INS, "\n".join(reach_ins_left())


PATH = f"{PACKAGE}/exporters/prometheus.py"


@pytest.mark.parametrize(
    ("check", "source"),
    [
        (forbidden, "from pool_exporter.capture.tap import Tap"),
        (forbidden, "if TYPE_CHECKING:\n    from pool_exporter.ledger.ledger import Ledger"),
        (forbidden, "from pool_exporter import instrument"),
        (sqlalchemy_of, "from sqlalchemy import Engine"),
        (sqlalchemy_of, "if TYPE_CHECKING:\n    from sqlalchemy.pool import Pool"),
        (hidden, "def collect():\n    import json"),
        (optional, "from opentelemetry.metrics import Meter"),
    ],
    ids=lambda value: value if isinstance(value, str) else value.__name__,
)
def test_a_wrong_import_is_noticed(check: Callable[[str, list[Import]], list[Import]], source: str) -> None:
    """Each check finds the import that it is for."""
    assert len(check(PATH, imports_of(PATH, source))) == 1


def test_an_import_by_name_is_noticed() -> None:
    """Also one with the name in an f-string."""
    assert (
        len(imports_by_name('import_module("pool_exporter.capture")\nimport_module(f"pool_exporter.{a}")'))
        == 2
    )


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("names = []\ndef f(): names.append(1)", ["names"]),
        ("NAMES = {'a': 1}\ndef f(): return NAMES['a']", []),
        ("count = 0\ndef f():\n    global count\n    count += 1", ["count"]),
        ("_LOCK = threading.RLock()", ["_LOCK"]),
        ("try:\n    names = []\nexcept OSError:\n    pass\ndef f(): names.append(1)", ["names"]),
        ("A, B = [], {}\ndef f(): B.update(A)", ["B"]),
        ("class A:\n    known: ClassVar[set[int]] = set()\n    def f(self): self.known.add(1)", ["known"]),
        ("class A:\n    pass\nONE = A()", ["ONE"]),
        ("@dataclass(frozen=True)\nclass A:\n    pass\nONE = A()", []),
        ("CURRENT: ContextVar[int] = ContextVar('current')\ndef f(): CURRENT.set(1)", []),
    ],
)
def test_state_is_noticed(source: str, found: list[str]) -> None:
    """What changes is state; constants, frozen objects and context variables are not."""
    tree = ast.parse(source)
    assert states(tree, mutable_classes({"a.py": tree}), set()) == found


def test_a_reach_in_is_noticed() -> None:
    """An attribute that the file itself defines is none."""
    tree = ast.parse("class A:\n    def f(self, other): return self._a + other._a + other._b")
    assert reach_ins(tree, None) == ["2 other._b"]
