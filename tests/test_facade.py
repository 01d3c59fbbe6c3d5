"""Pin what `import pool_exporter` offers: names, signatures and a docstring for each."""

from __future__ import annotations

import inspect
import subprocess
import sys

import pytest

import pool_exporter

SIGNATURES = {
    "instrument": (
        "(engine: 'AsyncEngine | Engine', *, name: 'str | None' = None, "
        "registry: 'CollectorRegistry | Default | None' = DEFAULT, "
        "meter_provider: 'MeterProvider | None' = None, "
        "attribution: 'bool | Attribution' = True, leaks: 'LeakPolicy | None' = LeakPolicy(), "
        "buckets: 'Mapping[str, Sequence[float]] | None' = None, statements: 'bool' = True, "
        "detail: 'Detail' = 'full', group: 'str | None' = None) -> 'Instrumentation'"
    ),
    "instrument_all": (
        "(*, registry: 'CollectorRegistry | Default | None' = DEFAULT, "
        "meter_provider: 'MeterProvider | None' = None, "
        "attribution: 'bool | Attribution' = True, leaks: 'LeakPolicy | None' = LeakPolicy(), "
        "buckets: 'Mapping[str, Sequence[float]] | None' = None, statements: 'bool' = True, "
        "detail: 'Detail' = 'full', group: 'str | None' = None) -> 'AllInstrumentation'"
    ),
    "metrics_app": (
        "(registry: 'CollectorRegistry' = REGISTRY, *, disable_compression: 'bool' = False) -> 'ASGIApplication'"
    ),
    "snapshots": "() -> 'list[PoolSnapshot]'",
    "start_server": (
        "(port: 'int', addr: 'str' = '127.0.0.1', *, registry: 'CollectorRegistry' = REGISTRY, "
        "certfile: 'FilePath | None' = None, keyfile: 'FilePath | None' = None, "
        "client_cafile: 'FilePath | None' = None, client_capath: 'FilePath | None' = None, "
        "client_auth_required: 'bool' = False) -> 'MetricsServer'"
    ),
    "status_app": (
        "(*, registry: 'CollectorRegistry' = REGISTRY, token: 'str | None' = None, "
        "refresh_seconds: 'float' = 5) -> 'ASGIApplication'"
    ),
    "AllInstrumentation.instrumentations": "(self) -> 'list[Instrumentation]'",
    "AllInstrumentation.uninstrument": "(self) -> 'None'",
    "Instrumentation.held": "(self) -> 'list[HeldConnection]'",
    "Instrumentation.name": "(self) -> 'str'",
    "Instrumentation.snapshot": "(self) -> 'PoolSnapshot'",
    "Instrumentation.uninstrument": "(self) -> 'None'",
    "MetricsServer.address": "(self) -> 'tuple[str, int]'",
    "MetricsServer.close": "(self) -> 'None'",
    "MetricsServer.serving": "(self) -> 'bool'",
    "MetricsServer.url": "(self) -> 'str'",
}


def public_members(name: str) -> list[str]:
    """List a public class's own public methods and properties; nothing for a function."""
    thing = getattr(pool_exporter, name)
    if not inspect.isclass(thing):
        return []
    return [
        f"{name}.{member}"
        for member, value in vars(thing).items()
        if not member.startswith("_") and (inspect.isfunction(value) or isinstance(value, property))
    ]


def named(path: str) -> object:
    thing: object = pool_exporter
    for part in path.split("."):
        thing = getattr(thing, part)
    return thing


def signature(path: str) -> str:
    thing = named(path)
    function = thing.fget if isinstance(thing, property) else thing
    assert callable(function)
    text = str(inspect.signature(function)).replace(repr(pool_exporter.serving.server.REGISTRY), "REGISTRY")
    return text.replace(repr(pool_exporter.LeakPolicy()), "LeakPolicy()")


def test_all_names_the_public_interface() -> None:
    """`__all__` is what is promised, and everything in it exists."""
    assert pool_exporter.__all__ == [
        "AllInstrumentation",
        "Attribution",
        "Exemplar",
        "HeldConnection",
        "HistogramSnapshot",
        "Instrumentation",
        "LeakPolicy",
        "LeakReport",
        "MetricsServer",
        "OwnerMiddleware",
        "PoolSnapshot",
        "TimeoutReport",
        "instrument",
        "instrument_all",
        "metrics_app",
        "owner",
        "snapshots",
        "start_server",
        "status_app",
    ]
    assert all(hasattr(pool_exporter, name) for name in pool_exporter.__all__)


@pytest.mark.parametrize("path", SIGNATURES)
def test_signatures_are_as_promised(path: str) -> None:
    """A public function takes the arguments, with the defaults, that applications rely on."""
    assert signature(path) == SIGNATURES[path]


def test_every_public_callable_has_a_pinned_signature() -> None:
    """No public function or method of a class that does something is missing from the list above."""
    offered = [name for name in pool_exporter.__all__ if inspect.isfunction(named(name))]
    for name in ("AllInstrumentation", "Instrumentation", "MetricsServer"):
        offered += public_members(name)
    assert sorted(offered) == sorted(SIGNATURES)


@pytest.mark.parametrize("name", pool_exporter.__all__)
def test_public_things_say_what_they_are(name: str) -> None:
    """Each public name has a docstring that begins with a full sentence, and so has each member."""
    for path in (name, *public_members(name)):
        docstring = inspect.getdoc(named(path))
        assert docstring, path
        assert docstring[0].isupper(), path
        assert docstring.split("\n\n")[0].rstrip().endswith((".", ":")), path


def test_the_base_install_imports_no_optional_dependency() -> None:
    """Importing the package imports neither a web framework, nor a driver, nor OpenTelemetry."""
    foreign = (
        "starlette",
        "fastapi",
        "uvicorn",
        "asyncpg",
        "psycopg",
        "aiosqlite",
        "asyncmy",
        "opentelemetry",
    )
    program = f"import sys, pool_exporter; print([name for name in {foreign!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
