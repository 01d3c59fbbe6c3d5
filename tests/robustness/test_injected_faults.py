"""Test that a failure inside this library never reaches the application, wherever it happens."""

from __future__ import annotations

import asyncio
import gc
import logging
import sys
import threading
import time
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import opentelemetry.trace  # with it, acquires ask for the current span
import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from prometheus_client import CollectorRegistry, generate_latest
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.pool import QueuePool

from pool_exporter import Attribution, Instrumentation, LeakPolicy, PoolSnapshot, instrument, owner
from pool_exporter.instrumentation.runtime import RUNTIME as process
from pool_exporter.ledger.ledger import Ledger
from tests.laws import assert_laws
from tests.postgres import PostgresServer
from tests.robustness import injection
from tests.robustness.workloads import Application, Transcript, other_pools, use_pools

pytestmark = pytest.mark.filterwarnings("ignore")  # the application leaves much to the collector, on purpose

FUNCTIONS = injection.functions()
SPAN = opentelemetry.trace.NonRecordingSpan(
    opentelemetry.trace.SpanContext(trace_id=7, span_id=7, is_remote=False)
)
Applications = Callable[[str], Application]


@contextmanager
def noting(called: set[CodeType]) -> Iterator[None]:
    """Note the code that is run in any thread."""

    def note(frame: FrameType, what: str, argument: object) -> None:
        called.add(frame.f_code)

    sys.setprofile(note)
    threading.setprofile(note)
    try:
        yield
    finally:
        sys.setprofile(None)
        threading.setprofile(None)  # type: ignore[arg-type]  # typeshed knows of no None


@pytest.fixture(scope="module")
def applications(postgres: PostgresServer) -> Iterator[Applications]:
    """Make applications that share an observer, while the collector leaves alone what was there before."""
    gc.collect()
    gc.freeze()
    with postgres.observer() as observer:
        yield partial(Application, postgres, observer)
    gc.unfreeze()


async def run(
    applications: Applications, directory: Path, during: AbstractContextManager[None], *, bare: bool = False
) -> tuple[Transcript, list[Instrumentation]]:
    """Run the application, instrumented unless `bare`; all but `instrument()` is done `during` something."""
    registry, reader = CollectorRegistry(), InMemoryMetricReader()
    provider = MeterProvider([reader], shutdown_on_exit=False)
    instrumentations: list[Instrumentation] = []
    application, late = applications("application"), applications("late")
    connection = await late.engine.connect()
    others = other_pools(directory)
    if not bare:
        for number, engine in enumerate((application.engine, late.engine, *(engine for engine, _ in others))):
            instrumentations.append(
                instrument(
                    engine,
                    name=f"pool {number}",
                    registry=registry,
                    meter_provider=provider,
                    attribution=Attribution(sql_text=True),
                    leaks=LeakPolicy(idle_in_transaction_seconds=1e-6, idle_seconds=1e-6, exempt=("nobody",)),
                )
            )
    process.watcher.stop()  # what it does is done here, in the thread that is looked at
    with during:
        generate_latest(registry)
        reader.collect()
        with owner("application"), opentelemetry.trace.use_span(SPAN):
            steps = await application.run()
        process._look(time.monotonic())
        process._relieve()
        for instrumentation in instrumentations:
            instrumentation.held()
        await connection.close()
        await late.engine.dispose()
        steps += use_pools(others)
        generate_latest(registry)
        reader.collect()
        process._look(time.monotonic())
    await application.engine.dispose()
    gc.collect()
    for _ in range(3):  # for the loop to let go of what was collected
        await asyncio.sleep(0)
    return steps, instrumentations


BY_INSTRUMENT = {
    *("attach:Attachment.__init__", "attach:Attachment.add_engine", "attach:_accepts", "attach:active_tap"),
    *("counts:Accounts.__init__", "dialect:_statement_with_text"),
    *("leak_policy:LeakPolicy.__post_init__", "leak_policy:checked_policy"),
    *("attribution:Attribution.__post_init__", "attribution:attributor", "attribution:checked_attribution"),
    *("frames:Sites.__init__", "frames:frame_finder", "leaks:LeakDetector.__init__", "seam:_plain_connect"),
    *("attach:root_engine", "attach:seam_objections", "privates:missing", "engine_name:default_name"),
    *("counts:Counts.__init__", "counts:ErrorCounts.__init__", "counts:Histogram.__init__"),
    *("operations:Deferring.__init__", "books:Counting.__init__", "books:Counting._begin_counting"),
    *(
        "dialect:_ping",
        "dialect:_statement",
        "dialect:_end_of_transaction",
        "dialect:_wraps",
        "dialect:wrap_dialect",
    ),
    *("listeners:DialectListeners.__init__", "listeners:PoolListeners.__init__"),
    *("listeners:_inert", "listeners:_ours", "listeners:listen_to_dialect"),
    *("pool_names:PoolNames.__init__", "pool_names:PoolNames._free", "pool_names:PoolNames.claim"),
    *("seam:_cleanup", "seam:_close_connection", "seam:_connect", "seam:_connect_per_thread"),
    *("seam:_connect_shared", "seam:_dec_overflow", "seam:_dispose", "seam:_pool_overrides"),
    *("seam:_make_seam", "seam:_queue_overrides", "seam:_recreate", "seam:_return_conn", "seam:share"),
    *("tap:Tap.__init__", "tap:Tap.add_engine"),
    *("instruments:PoolInstruments.__init__", "instruments:PoolInstruments._observable"),
    *("retired_pools:RetiredPools.__init__", "retired_pools:RetiredPools.came_back", "instruments:_context"),
    *("provider:ProviderExporter._most_samples", "provider:ProviderExporter.keep_samples"),
    *(
        "instruments:_points_of",
        "providers:ProviderExporters.__init__",
        "providers:ProviderExporters.of",
    ),
    *(
        "provider:ProviderExporter.__init__",
        "provider:ProviderExporter._made",
        "provider:ProviderExporter.add",
    ),
    *(
        "provider:ProviderExporter.check",
        "exported_pool:ExportedPool.__init__",
        "providers:ProviderExporters._known",
    ),
    *("counts:Counts.keep_samples", "ledger:Ledger.keep_samples", "sdk:stands_for_none"),
}
"""What instrument() alone calls, whose caller gets the exception."""

AT_OTHER_TIMES = {
    # By uninstrument() and after a fork.
    *("attach:Attachment.detach", "attach:Attachment._take_off", "pool_names:PoolNames.release"),
    *("attach:still_connected", "ledger:Ledger.reset_after_fork", "pool_names:PoolNames.after_fork"),
    *("instruments:PoolInstruments.adopt", "provider:ProviderExporter.remove"),
    *(
        "retired_pools:RetiredPools.add",
        "retired_pools:RetiredPools.clear",
        "retired_pools:_counters",
        "retired_pools:_added",
    ),
    *("sdk:_measures_another_client", "retired_pools:_closed"),
    *("provider:ProviderExporter._depart", "provider:ProviderExporter._needs_name"),
    *("uses:PoolEntry.current_uses", "attach:Attachment.after_fork", "pool_names:PoolNames.holders"),
    # With other workers to share with.
    *("ledger:Ledger.mark", "ledger:Ledger.has_open"),
    # With many engines: of a group, and of all.
    *("books:Counting.abandon", "books:Counting._abandon", "ledger:Ledger.pending"),
    *(
        "tap:Tap.has_engine",
        "new_engines:_Telling.__init__",
        "new_engines:_Telling.engine_created",
    ),
    *("new_engines:existing_engines", "new_engines:tell_of_new_engines"),
    "operations:Deferring._unlock_after_fork",
    # Between threads, or in the middle of an operation.
    *("operations:Deferring._defer", "operations:Deferring._interrupted", "operations:Deferring._settle"),
    *("operations:Deferring._wait", "ledger:Ledger._surely_ended"),
    # What is overridden, or done after a fault.
    *("books:Counting._failed", "operations:Deferring._count_uses", "operations:Deferring._failed"),
    *("attribution:nobody", "frames:_runs_the_loop", "provider:ProviderExporter.failed"),
    # Where no engine is left, where an event went missing, in reduced mode, and in psycopg.
    *("ledger:Ledger.at_rest", "books:Counting._end_silent"),
    *("tap:_has_room", "record_probe:_cursor_open", "drivers:_transport"),
    # Of drivers and of tasks that no step uses: those here are psycopg's, and run while they are looked at.
    *("drivers:_awaits_answer", "drivers:_in_mysql_transaction"),
    *(
        "stacks:_driven",
        "stacks:_frame_and_awaited",
        "stacks:_grouped",
        "stacks:_in_greenlet",
        "stacks:_waiting",
    ),
}
"""What no step of the application calls."""

GUARDS = {
    *(name for name in FUNCTIONS if name.startswith("listeners:") and ".on_" in name),
    *("dialect:_begin", "dialect:_ping_begun", "dialect:_ping_ended"),
    *("seam:_announce", "seam:_withdraw", "seam:_not_begun", "seam:_gave_up", "seam:_fault"),
    *("seam:_SharedFairy._checkin", "tap:Tap.fault", "tap:_record_collected"),
    *("instruments:PoolInstruments._observe", "providers:ProviderExporters.relieve"),
}
"""What keeps the others' faults from the application: its whole body is a `try`, or a report."""

OF_NO_POOL = {
    "pool_names:PoolNames.items",
    "instruments:PoolInstruments._collection",
    *("instruments:PoolInstruments.inherited", "instruments:_Collection.__init__"),
    *("sdk:other_scopes", "sdk:real_provider", "sdk:serves_opentelemetry"),
    *("retired_pools:RetiredPools.farewells", "sdk:has_sole_reader"),
    "sdk:_is_scraped",
    "provider:ProviderExporter._others",
    *(
        "provider:ProviderExporter._left_to_others",
        "provider:ProviderExporter._readings",
        "provider:ProviderExporter.relieve",
    ),
}
"""What is said in the log alone, since no pool is concerned."""


@pytest.fixture(scope="module")
def expected() -> Transcript:
    """What the application sees without us, written down once."""
    return []


async def test_every_function_is_tried(applications: Applications, tmp_path: Path) -> None:
    """Each function of ours is called by the application's steps, or it is listed here why it is not."""
    called: set[CodeType] = set()
    await run(applications, tmp_path, noting(called))
    uncalled = {name for name, function in FUNCTIONS.items() if function.__code__ not in called}
    assert sorted(uncalled - GUARDS - AT_OTHER_TIMES - BY_INSTRUMENT) == []
    assert sorted((AT_OTHER_TIMES | BY_INSTRUMENT) - uncalled) == []


@pytest.mark.parametrize("name", sorted(FUNCTIONS.keys() - GUARDS - AT_OTHER_TIMES - BY_INSTRUMENT))
async def test_a_fault_of_ours_stays_with_us(
    name: str,
    applications: Applications,
    tmp_path: Path,
    expected: Transcript,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Whichever function of ours raises, the application sees what it sees without us; we count and say it."""
    if not expected:
        expected += (await run(applications, tmp_path, nullcontext(), bare=True))[0]
    others = len(process.pools())  # of other tests: they are checked too
    steps, instrumentations = await run(applications, tmp_path, injection.raising(FUNCTIONS[name]))
    assert steps == expected
    assert injection.strikes > 0
    if name not in OF_NO_POOL:
        assert sum(one.snapshot().telemetry_errors for one in instrumentations) > 0
    said = [record for record in caplog.records if record.name == "pool_exporter"]
    assert {record.levelno for record in said} == {logging.WARNING}
    kinds = Counter(record.getMessage() for record in said)
    if name not in OF_NO_POOL:  # else once per kind and registry, of which other tests have some too
        assert max(kinds.values()) <= others + len(instrumentations)  # once per kind and pool
    for one in instrumentations:  # or they would be checked, and fail, in the next test
        one.uninstrument()


async def test_without_a_fault_nothing_is_said(
    applications: Applications, tmp_path: Path, expected: Transcript, caplog: pytest.LogCaptureFixture
) -> None:
    """The application sees with us what it sees without us, the laws hold, and the log is empty."""
    steps, instrumentations = await run(applications, tmp_path, nullcontext())
    bare, _ = await run(applications, tmp_path, nullcontext(), bare=True)
    assert steps == bare
    for instrumentation in instrumentations:
        assert_laws(instrumentation.snapshot())
    assert [record for record in caplog.records if record.name == "pool_exporter"] == []


class _Deaf(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        raise ValueError("a handler that fails")


class _Curious(logging.Handler):
    def __init__(self, instrumentation: Instrumentation) -> None:
        super().__init__()
        self.instrumentation = instrumentation
        self.seen: list[PoolSnapshot] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.seen.append(self.instrumentation.snapshot())


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    """An engine on a SQLite file."""
    engine = create_engine(f"sqlite:///{tmp_path}/database", poolclass=QueuePool)
    yield engine
    engine.dispose()


def test_a_log_handler_that_raises_is_nobodys_problem(engine: Engine) -> None:
    """A fault whose log record makes a handler raise is counted, and the application goes on."""
    handler = _Deaf()
    logging.getLogger("pool_exporter").addHandler(handler)
    try:
        with instrument(engine, registry=None) as instrumentation:
            with (
                injection.raising(FUNCTIONS["books:Counting._count_uses"]),
                engine.connect() as connection,
            ):
                assert connection.execute(text("select 1")).scalar() == 1
                instrumentation._ledger.settle()
            assert instrumentation.snapshot().telemetry_errors == 1
    finally:
        logging.getLogger("pool_exporter").removeHandler(handler)


def test_a_log_handler_may_take_a_snapshot(engine: Engine) -> None:
    """A handler that asks for a snapshot in the middle of the failed operation gets the one before."""
    with instrument(engine, registry=None) as instrumentation:
        handler = _Curious(instrumentation)
        logging.getLogger("pool_exporter").addHandler(handler)
        before = instrumentation.snapshot()
        try:
            with injection.raising(FUNCTIONS["books:Counting._connected"]):
                engine.connect().close()
        finally:
            logging.getLogger("pool_exporter").removeHandler(handler)
        assert handler.seen
        assert all(one == before for one in handler.seen)


def test_a_finalizer_may_take_a_snapshot(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the collector runs in the middle of an operation of ours may ask for a snapshot."""
    with instrument(engine, registry=None) as instrumentation:
        before = instrumentation.snapshot()
        seen: list[object] = []
        original = Ledger._count_uses

        def interrupted(self: Ledger, *arguments: Any) -> None:
            class Cycle:
                pass

            cycle: Any = Cycle()
            cycle.itself = cycle
            weakref.finalize(cycle, lambda: seen.append(instrumentation.snapshot()))
            del cycle
            gc.collect()
            assert self.at_rest() is False
            original(self, *arguments)

        monkeypatch.setattr(Ledger, "_count_uses", interrupted)
        engine.connect().close()
        instrumentation.snapshot()
        assert seen == [before]
        now = instrumentation.snapshot()
        assert (now.checkouts, now.checkins, now.telemetry_errors) == (1, 1, 0)
