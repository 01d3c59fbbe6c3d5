"""Check that a leaked connection fails the test that leaked it, and that nothing else does."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from importlib import import_module

import pytest

from tests.plugins.single_suites import ASYNCIO_RUN, MARKED, ROUTES, SYNCHRONOUS, TEST_CASES
from tests.plugins.suites import ENGINES, FLAVOURS, HEADS, INNOCENT, LEAKS, LOADED, ONE_LOOP, Flavour
from tests.support import ROOT

pytest_plugins = "pytester"

Run = Callable[..., pytest.RunResult]

TIME = r"(under 1 ms|[\d.]+ m?s)"
STILL_OPEN = f"still open, held for {TIME}, "
LOOP_CLOSED = f"given back only because its event loop was closed, held for {TIME}, "
DROPPED = (
    rf"dropped without close\(\) and taken by the garbage collector, held for {TIME}; "
    r"use `with` or `async with`, or close\(\) it in a `finally`"
)
STREAM = r"with a stream \(a server-side cursor\) open or its driver at work; read the stream to its end"
TASK = (
    f"idle for {TIME}; end the task, and await it, before the test ends\n"
    r"  its task 'worker' waits at test_suite:\S+ \(\S+:\d+\) > asyncio\.locks:"
)
CLOSE_IT = f"idle for {TIME}; close it.*: with `with` or `async with`, or in the teardown of its fixture"


@pytest.fixture(params=FLAVOURS, ids=lambda flavour: flavour.name)
def flavour(request: pytest.FixtureRequest) -> Flavour:
    """One way to run asynchronous tests."""
    found: Flavour = request.param
    return found


@pytest.fixture
def run(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a module of tests in a process of its own, with the plugin."""
    monkeypatch.delenv("CI", raising=False)  # with it pytest says each failure a second time in full

    def run_suite(source: str, *options: str, ini: str = "", conftest: str = "") -> pytest.RunResult:
        if "asyncio_default" not in ini and "no:asyncio" not in options:  # which pytest-asyncio warns of
            ini += "\nasyncio_default_fixture_loop_scope = function\n"
        pytester.makeini(f"[pytest]\n{ini}")
        pytester.makepyfile(test_suite=source, conftest=conftest)
        return pytester.runpytest_subprocess(*LOADED, "-q", *options)

    return run_suite


@pytest.fixture
def line(pytester: pytest.Pytester) -> Callable[[str], str]:
    """Find the `file:line` of the suite's line that ends in a comment."""

    def line_of(comment: str) -> str:
        suite = pytester.path / "test_suite.py"
        numbers = [
            number
            for number, text in enumerate(suite.read_text().splitlines(), 1)
            if text.endswith(f"  # {comment}")
        ]
        assert len(numbers) == 1, comment
        return f"{suite}:{numbers[0]}"

    return line_of


def leaks(result: pytest.RunResult) -> dict[str, list[str]]:
    """Return what the run says of each test that leaked."""
    found: dict[str, list[str]] = {}
    test = ""
    for text in result.outlines:
        headline = re.fullmatch(r"_+ (\S+) _+", text)
        if headline is not None:
            test = headline[1]
        elif text.startswith("leaked connection of pool"):
            found.setdefault(test, []).append(text)
        elif text.startswith("  its task"):
            found[test][-1] += f"\n{text}"
    return found


@pytest.mark.usefixtures("postgres_url")
def test_each_kind_of_leak_fails_its_own_test(run: Run, line: Callable[[str], str], flavour: Flavour) -> None:
    """A test that leaks is failed, and the message names pool, function, line, state and remedy."""
    result = run(flavour.head + ENGINES + LEAKS, "--pool-leaks", *flavour.options, ini=flavour.ini)
    at_the_end = STILL_OPEN if flavour.one_loop else LOOP_CLOSED
    expected = {
        "test_idle": ("test.db", "test_idle", STILL_OPEN + CLOSE_IT),
        "test_transaction": (
            *("orders", "test_transaction"),
            STILL_OPEN + f"idle in transaction for {TIME}; commit or roll back, and close it",
        ),
        "test_dropped": ("test.db", "test_dropped", DROPPED),
        "test_forgotten": ("test.db", "test_forgotten", DROPPED),
        "test_stream": ("orders", "test_stream", STILL_OPEN + STREAM),
        "test_response": ("orders", "rows", at_the_end + STREAM),
        "test_task": ("orders", "test_task.<locals>.work", at_the_end + TASK),
        "test_raw": ("test.db", "test_raw", STILL_OPEN + CLOSE_IT),
        "test_session": ("test.db", "test_session", STILL_OPEN + CLOSE_IT),
        "test_fixture": ("test.db", "unclosed", STILL_OPEN + CLOSE_IT),
        "test_disposed": (
            *("test.db", "test_disposed"),
            STILL_OPEN + rf"idle for {TIME}; close it before engine\.dispose\(\), which leaves it open: with",
        ),
    }
    result.assert_outcomes(passed=len(expected) + 1, failed=len(expected))  # each call is a pass of its own
    found = leaks(result)
    assert found.keys() == expected.keys()
    for test, (pool, function, said) in expected.items():
        name = re.escape(function) if sys.version_info >= (3, 11) else r"\w+"
        who = rf"test_suite:{name} \({re.escape(line(test.removeprefix('test_')))}\)"
        assert len(found[test]) == 1, found[test]
        assert re.match(f"leaked connection of pool '{pool}', acquired by {who}: {said}", found[test][0])


@pytest.mark.usefixtures("postgres_url")
def test_what_is_given_back_in_time_is_no_leak(run: Run, flavour: Flavour) -> None:
    """Fixtures that close, wider scopes, idle connections and ended tasks pass, warnings being errors."""
    source = flavour.head + ENGINES + INNOCENT
    result = run(source, "--pool-leaks", "-Werror", *flavour.options, ini=flavour.ini)
    result.assert_outcomes(passed=INNOCENT.count("def test_"))
    assert result.ret == 0


@pytest.mark.usefixtures("postgres_url")
@pytest.mark.parametrize("flavour", [one for one in FLAVOURS if one.one_loop], indirect=True, ids=str)
def test_in_a_common_loop_a_leak_is_reported_once_and_left_open(run: Run, flavour: Flavour) -> None:
    """What a wider-scoped fixture holds is its own; a leaked connection works in later tests, which pass."""
    source = flavour.head + ENGINES + ONE_LOOP
    result = run(source, "--pool-leaks", *flavour.options, ini=flavour.ini)
    result.assert_outcomes(passed=ONE_LOOP.count("def test_"), failed=1)
    assert [*leaks(result)] == ["test_leaks"]


def test_synchronous_tests(run: Run, line: Callable[[str], str]) -> None:
    """Synchronous engines are seen too; a leaked connection is reported once, and left as it is."""
    result = run(SYNCHRONOUS, "--pool-leaks")
    expected = {
        "test_idle": STILL_OPEN + CLOSE_IT,
        "test_transaction": STILL_OPEN + "idle in transaction",
        "test_dropped": DROPPED,
        "test_forgotten": DROPPED,
        "test_raw": STILL_OPEN + CLOSE_IT,
        "test_thread": STILL_OPEN + CLOSE_IT,
    }
    result.assert_outcomes(passed=SYNCHRONOUS.count("def test_"), failed=len(expected))
    found = leaks(result)
    assert found.keys() == expected.keys()
    for test, said in expected.items():
        assert line(test.removeprefix("test_")) in found[test][0]
        assert re.search(said, found[test][0])


@pytest.mark.skipif(sys.version_info < (3, 11), reason="asyncio.run() has no Runner that could be watched")
def test_a_task_that_asyncio_run_cancels(run: Run, line: Callable[[str], str]) -> None:
    """A loop that a test runs by itself must not leave a task that holds a connection either."""
    result = run(ASYNCIO_RUN, "--pool-leaks")
    result.assert_outcomes(passed=1, failed=1)
    (said,) = leaks(result)["test_run"]
    assert re.search(rf"\({line('run')}\): {LOOP_CLOSED}idle for", said)


def test_unittest_test_cases(run: Run, line: Callable[[str], str]) -> None:
    """Methods of TestCase and IsolatedAsyncioTestCase are tests as any other."""
    result = run(TEST_CASES, "--pool-leaks")
    result.assert_outcomes(passed=TEST_CASES.count("def test_"), failed=2)
    found = leaks(result)
    assert found.keys() == {"Synchronous.test_leaks", "Asynchronous.test_leaks"}
    assert line("test case") in found["Synchronous.test_leaks"][0]
    assert line("asynchronous test case") in found["Asynchronous.test_leaks"][0]


@pytest.mark.usefixtures("postgres_url")
def test_the_route_of_a_request_is_named(run: Run, line: Callable[[str], str]) -> None:
    """Behind `OwnerMiddleware` the route holds the connection, its function and line stand beside it."""
    result = run(FLAVOURS[0].head + ENGINES + ROUTES, "--pool-leaks", ini=FLAVOURS[0].ini)
    result.assert_outcomes(passed=1, failed=1)
    (said,) = leaks(result)["test_route"]
    assert re.search(
        rf"acquired by GET /orders/{{number}} \(test_suite:\S*show, {line('route')}\): still open", said
    )


def test_two_leaks_of_one_test_are_both_named(run: Run, line: Callable[[str], str]) -> None:
    """A test fails once, with a sentence for each connection that it leaked."""
    source = HEADS + "def test_two():\n    held.append(new_engine().connect())  # one\n"
    result = run(source + "    held.append(new_engine().connect())  # two\n", "--pool-leaks")
    result.assert_outcomes(passed=1, failed=1)
    one, two = leaks(result)["test_two"]
    assert line("one") in one
    assert line("two") in two


@pytest.mark.parametrize(
    ("options", "ini", "leaking"),
    [
        ((), "", {"test_by_name", "test_by_usefixtures", "test_by_mark", "test_by_request"}),
        (("--pool-leaks",), "", None),
        ((), "pool_leaks = true", None),
    ],
)
def test_what_asks_for_the_check(
    run: Run, options: tuple[str, ...], ini: str, leaking: set[str] | None
) -> None:
    """A name, a mark, an option or an ini option does; `pool_leaks_allowed` goes before all of them."""
    result = run(MARKED, "--strict-markers", *options, ini=ini)
    asking = {"test_by_name", "test_by_usefixtures", "test_by_mark", "test_by_request", "test_unasked"}
    assert leaks(result).keys() == (leaking or asking)


def test_exempt_owners_may_hold_on(run: Run) -> None:
    """What `pool_leaks_exempt` or the application's LeakPolicy exempts is no leak, and is left alone."""
    source = (
        HEADS
        + """
def listen(engine):
    held.append(engine.connect())

def test_by_ini():
    listen(new_engine())

def test_by_policy():
    engine = new_engine()
    instrument(engine, registry=None, leaks=LeakPolicy(exempt=("*:test_by_policy",)))
    held.append(engine.connect())

def test_still_usable():
    assert [connection.execute(text("select 1")).scalar() for connection in held] == [1, 1]
"""
    )
    run(source, "--pool-leaks", ini="pool_leaks_exempt =\n  other\n  *:listen").assert_outcomes(passed=3)


def test_instrumented_engines_are_used_as_they_are(run: Run, line: Callable[[str], str]) -> None:
    """An application instruments its engines when and as it likes, a watched one in use too."""
    source = (
        HEADS
        + """
def test_before():
    engine = new_engine()
    instrument(engine, name="before", registry=CollectorRegistry())
    held.append(engine.connect())  # before

def test_in_use():
    engine = new_engine(pool_size=2, max_overflow=0)
    held.append(engine.connect())  # in use
    returned = engine.connect()
    pool = instrument(engine, name="in use", registry=CollectorRegistry())
    returned.close()
    for _ in range(3):
        with engine.connect() as connection:
            connection.execute(text("select 1"))
    now = pool.snapshot()
    assert (now.name, now.uses, now.adopted, now.checkouts, now.connects) == ("in use", 1, 2, 5, 2)
    assert (now.statements, now.telemetry_errors) == (3, 0)
    assert [snapshot.name for snapshot in snapshots()] == ["before", "in use"]

def test_watched_before():
    engine = new_engine()
    with engine.connect():
        assert "do_execute" in vars(engine.dialect)
    with instrument(engine, registry=None):
        pass
    assert "do_execute" not in vars(engine.dialect)

def test_dropped_after():
    engine = new_engine()
    connection = engine.connect()  # dropped after
    instrument(engine, registry=None)
    cycle = [connection]
    cycle.append(cycle)

@pytest.fixture
def connection():
    engine = new_engine()
    with instrument(engine, registry=None):
        connection = engine.connect()
    yield connection
    connection.close()

def test_no_longer(connection):
    connection.execute(text("select 1"))
"""
    )
    result = run(source, "--pool-leaks")
    result.assert_outcomes(passed=5, failed=3)
    found = leaks(result)
    assert found.keys() == {"test_before", "test_in_use", "test_dropped_after"}
    assert f"pool 'before', acquired by test_suite:test_before ({line('before')})" in found["test_before"][0]
    assert line("in use") in found["test_in_use"][0]
    assert f"({line('dropped after')}): dropped" in found["test_dropped_after"][0]


def test_only_the_leak_is_reported_where_warnings_are_errors(run: Run) -> None:
    """SQLAlchemy's warning of a connection that is collected becomes no error, in this test or a later."""
    source = FLAVOURS[0].head + ENGINES + "import gc\ngc.disable()\n" + LEAKS
    result = run(source, "--pool-leaks", "-Werror", "-k", "dropped or innocent", ini=FLAVOURS[0].ini)
    assert [*leaks(result)] == ["test_dropped"]
    result.stdout.no_fnmatch_line("*Unraisable*")
    result.stderr.no_fnmatch_line("*Unraisable*")


def test_nothing_is_kept_alive(run: Run) -> None:
    """An engine that is dropped is gone, in the test that used it too."""
    source = (
        HEADS
        + """
def test_engine():
    engine = new_engine()
    with engine.connect():
        pass
    reference = weakref.ref(engine)
    del engine
    gc.collect()
    assert reference() is None

def test_leaked_connection():
    engine = new_engine()
    held.append(engine.connect())
    held.append(weakref.ref(engine))

def test_is_gone_with_the_leak():
    held.pop(0)
    gc.collect()
    assert held.pop()() is None
"""
    )
    result = run(source, "--pool-leaks")
    result.assert_outcomes(passed=3, failed=1)


def test_everything_is_taken_back_at_the_end(run: Run) -> None:
    """After the run SQLAlchemy, the loops and the engines are as they would be without the plugin."""
    source = (
        HEADS
        + """
engine = new_engine()

def test_watched():
    with engine.connect():
        assert PLAIN[0] is not Engine.raw_connection
        assert PLAIN[1] is None or PLAIN[1] is not asyncio.Runner.close
        assert PLAIN[2] is not type(engine.pool)
"""
    )
    conftest = """
import asyncio, builtins, sys
from sqlalchemy import Engine, QueuePool

Runner = getattr(asyncio, "Runner", None)  # since Python 3.11
PLAIN = builtins.PLAIN = (Engine.raw_connection, getattr(Runner, "close", None), QueuePool)

def pytest_unconfigure():
    pool = sys.modules["test_suite"].engine.pool
    print("taken back:", (Engine.raw_connection, getattr(Runner, "close", None), type(pool)) == PLAIN)
"""
    result = run(source, "--pool-leaks", conftest=conftest)
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["taken back: True"])


def test_an_engine_that_cannot_be_watched_is_said_to_be(run: Run) -> None:
    """The application's call goes on, and a warning says that the check is not complete."""
    source = HEADS + (
        "def test_unwatched(monkeypatch):\n"
        "    def fail(engine):\n"
        "        raise LookupError('no tap')\n"
        "    monkeypatch.setattr('pool_exporter.plugins.pytest.engines.active_tap', fail)\n"
        "    with new_engine().connect():\n"
        "        pass\n"
    )
    result = run(source, "--pool-leaks")
    result.assert_outcomes(passed=1, warnings=1)
    result.stdout.fnmatch_lines(["*no_pool_leaks could not watch an engine*LookupError('no tap')*"])


def test_a_failed_test_is_also_told_of_its_leak(run: Run) -> None:
    """An assertion that fails while a connection is held fails first, and the leak is said beside it."""
    source = HEADS + "def test_wrong():\n    connection = new_engine().connect()\n    assert not connection\n"
    result = run(source, "--pool-leaks")
    result.assert_outcomes(failed=2)
    assert [*leaks(result)] == ["test_wrong"]


def test_each_worker_of_xdist_finds_its_leaks(run: Run) -> None:
    """The message of a test that another process ran comes through, and so does its outcome."""
    result = run(SYNCHRONOUS, "--pool-leaks", "-n", "2", "--dist", "loadfile")
    result.assert_outcomes(passed=SYNCHRONOUS.count("def test_"), failed=6)
    assert len(leaks(result)) == 6


def test_a_run_that_does_not_ask_imports_nothing_for_it(run: Run) -> None:
    """Loaded but not used, the plugin is one module of a package, which imports pytest alone."""
    source = (
        "import sys\n"
        "def test_nothing():\n"
        "    loaded = {name for name in sys.modules if name.startswith('pool_exporter.plugins.')}\n"
        "    assert loaded == {'pool_exporter.plugins.pytest', 'pool_exporter.plugins.pytest.plugin'}\n"
    )
    run(source, "-Werror").assert_outcomes(passed=1)


def test_the_entry_point_names_the_plugin() -> None:
    """What pytest loads for whoever installs the library is the module that has the fixture."""
    project = ROOT.joinpath("pyproject.toml").read_text()
    table = project.partition("[project.entry-points.pytest11]\n")[2].partition("\n[")[0]
    found = re.fullmatch(r'pool_exporter = "([\w.]+)"\n', table)
    assert found is not None
    assert hasattr(import_module(found[1]), "no_pool_leaks")
