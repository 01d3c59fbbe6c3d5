"""Fail the test that leaks a connection: the fixture `no_pool_leaks`, and what switches it on.

This is loaded in every pytest run of whoever has the library installed, so it does nothing but
offer options, marks and the fixture. What does the work is imported by the first test that asks.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pool_exporter.plugins.pytest.watch import Watch

FIXTURE = "no_pool_leaks"
ALLOWED = "pool_leaks_allowed"
PROPERTY = "pool_leaks"
"""How many connections a test leaked; among its properties, also those of a JUnit report."""
WATCH = "pool_exporter_watch"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Offer `--pool-leaks` and the ini options `pool_leaks` and `pool_leaks_exempt`."""
    everywhere = "Fail every test that leaks a connection of a SQLAlchemy pool."
    parser.getgroup("pool_exporter").addoption("--pool-leaks", action="store_true", help=everywhere)
    parser.addini("pool_leaks", everywhere, type="bool", default=False)
    parser.addini(
        "pool_leaks_exempt",
        "Owners and functions (module:function) that may hold a connection when a test ends, one a "
        "line, with shell wildcards; besides those that an application's LeakPolicy exempts.",
        type="linelist",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Register the marks."""
    config.addinivalue_line(
        "markers", f"{FIXTURE}: fail the test if it leaks a connection of a SQLAlchemy pool."
    )
    config.addinivalue_line(
        "markers", f"{ALLOWED}: do not look for leaked connections, whatever else asks for it."
    )


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Put the fixture first where it is asked for.

    What is set up first is torn down last: after the test's other function-scoped fixtures, before
    those of wider scopes. An item without fixtures, as some plugins make them, is not looked at.
    """
    names: list[str] | None = getattr(item, "fixturenames", None)
    if names is None:
        return
    everywhere = item.config.getoption("pool_leaks") or item.config.getini("pool_leaks")
    if everywhere or FIXTURE in names or item.get_closest_marker(FIXTURE) is not None:
        if FIXTURE in names:
            names.remove(FIXTURE)
        names.insert(0, FIXTURE)


@pytest.fixture
def no_pool_leaks(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail the test if a connection that it acquired is still held after it, or was dropped.

    A connection that is still held stays so: it is not closed, and not reported again.
    """
    if request.node.get_closest_marker(ALLOWED) is not None:
        yield
        return
    watch = _watch(request.config)
    watch.begin()
    yield
    leaks = watch.end()
    if leaks:
        request.node.user_properties.append((PROPERTY, len(leaks)))
        pytest.fail("\n".join(leaks), pytrace=False)


def _watch(config: pytest.Config) -> Watch:
    """Return what watches the pools of this run, made by the first test that asks for it."""
    watch: Watch | None = config.pluginmanager.get_plugin(WATCH)
    if watch is None:
        # Not at the top: most runs that load this module never come here.
        from pool_exporter.plugins.pytest.watch import Watch  # noqa: PLC0415

        watch = Watch(tuple(config.getini("pool_leaks_exempt")))
        config.pluginmanager.register(watch, WATCH)
    return watch


@pytest.hookimpl(tryfirst=True)
def pytest_report_teststatus(
    report: pytest.CollectReport | pytest.TestReport,
) -> tuple[str, str, str] | None:
    """Report a test that leaked as failed: it is the test that is wrong, not its teardown."""
    leaked = (
        isinstance(report, pytest.TestReport)
        and report.when == "teardown"
        and report.failed
        and any(name == PROPERTY for name, _ in report.user_properties)
    )
    return ("failed", "F", "FAILED") if leaked else None
