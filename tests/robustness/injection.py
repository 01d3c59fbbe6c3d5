"""Make any function of the package raise wherever it is called, also where a closure holds it."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from contextlib import contextmanager
from types import FunctionType, ModuleType
from typing import Any

import pool_exporter.capture
from pool_exporter.capture.callers import attribution, frames, greenlets, stacks
from pool_exporter.exporters.opentelemetry import (
    attributes,
    exported_pool,
    instruments,
    provider,
    providers,
    retired_pools,
    sdk,
)
from pool_exporter.instrumentation import pool_names
from pool_exporter.ledger import (
    books,
    call_site,
    counts,
    held,
    leak_policy,
    leaks,
    ledger,
    operations,
    snapshot,
    uses,
)

strikes = 0
"""How often an injected function was called since the injection."""


def strike() -> None:
    """Raise the injected fault."""
    global strikes  # noqa: PLW0603  # what is injected is code alone, with no place for a state
    strikes += 1
    raise RuntimeError("injected")


def functions() -> dict[str, FunctionType]:
    """Return every function and method of `capture`, the ledger, leaks, names and telemetry, by `module:qualname`."""
    modules = [
        importlib.import_module(f"{pool_exporter.capture.__name__}.{module.name}")
        for module in pkgutil.iter_modules(pool_exporter.capture.__path__)
        if not module.ispkg
    ]
    found = {}
    for module in [
        *(*modules, attribution, frames, greenlets, stacks),
        *(ledger, books, uses, call_site, counts, operations, held, leaks, leak_policy, snapshot, pool_names),
        *(provider, providers, exported_pool, retired_pools, attributes, instruments, sdk),
    ]:
        for function in _functions_of(module):
            found[f"{module.__name__.rpartition('.')[2]}:{function.__qualname__}"] = function
    return found


def _functions_of(module: ModuleType) -> Iterator[FunctionType]:
    for member in vars(module).values():
        if inspect.isfunction(member) and member.__module__ == module.__name__:
            yield inspect.unwrap(member)
        elif inspect.isclass(member) and member.__module__ == module.__name__:
            for attribute in vars(member).values():
                function = attribute.fget if isinstance(attribute, property) else attribute
                if inspect.isfunction(function) and _own(function, module):
                    yield function


def _own(function: Any, module: ModuleType) -> bool:
    """Tell whether the function stands in the module's file, as those of a dataclass do not."""
    return bool(function.__code__.co_filename == module.__file__)


@contextmanager
def raising(function: FunctionType) -> Iterator[None]:
    """Let a function raise; its code is what is replaced, so that nothing keeps the old one."""
    global strikes  # noqa: PLW0603  # as above
    strikes = 0
    before = function.__code__
    function.__code__ = _injected.__code__
    try:
        yield
    finally:
        function.__code__ = before


def _injected(*arguments: Any, **options: Any) -> None:
    from tests.robustness.injection import strike  # where this code runs, the globals are another's

    strike()
