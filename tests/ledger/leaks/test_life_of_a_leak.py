"""Uses that go past the policy on a real pool: suspected once, recovered once, collected, exempt."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections import Counter
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from pool_exporter import Attribution, LeakPolicy, PoolSnapshot, owner
from pool_exporter.ledger.leaks import MAX_REPORTS
from tests.laws import assert_laws
from tests.ledger.leaks.conftest import POLICY, Pool, Pools
from tests.postgres import PostgresServer
from tests.servers import until

DROPPED = pytest.mark.filterwarnings("ignore")  # SQLAlchemy and the driver warn of what the collector takes


def counted(pool: Pool) -> PoolSnapshot:
    """Return a snapshot that obeys the laws."""
    now = pool.instrumentation.snapshot()
    assert_laws(now)
    return now


def overdue(now: PoolSnapshot) -> dict[str, int]:
    """Return the kinds of which there are overdue uses."""
    return {kind: count for kind, count in now.overdue_uses.items() if count}


def total(counts: Any) -> int:
    """Add up a counter's kinds."""
    return sum(counts.values())


async def in_transaction(pool: Pool) -> Any:
    """Acquire a connection and leave it in a transaction."""
    connection = await pool.engine.connect()
    await connection.execute(text("select 1"))
    return connection


async def test_idle_in_transaction(pools: Pools) -> None:
    """A connection left in a transaction is overdue after 60 s, suspected once and recovered once."""
    pool = pools()
    with owner("forgetful"):
        connection = await in_transaction(pool)
    pool.move(59)
    now = counted(pool)
    assert (overdue(now), total(now.leaks_suspected)) == ({}, 0)
    for _ in range(3):
        pool.move(1)
        now = counted(pool)
        assert overdue(now) == {"idle_in_transaction": 1}
        assert now.leaks_suspected == {"idle": 0, "idle_in_transaction": 1, "orphaned": 0}
        assert (now.owner_leaks, total(now.leaks_recovered)) == ({"forgetful": 1}, 0)
    await connection.close()
    now = counted(pool)
    assert overdue(now) == {}
    assert now.leaks_recovered == {"idle": 0, "idle_in_transaction": 1, "orphaned": 0}
    assert (now.owner_leaks, now.owner_connections) == ({"forgetful": 1}, {"forgetful": 0})


async def test_idle_outside_of_a_transaction(pools: Pools) -> None:
    """A connection that is out and in no transaction has until 300 s."""
    pool = pools()
    connection = await in_transaction(pool)
    await connection.commit()
    pool.move(299)
    assert overdue(counted(pool)) == {}
    pool.move(2)
    assert overdue(counted(pool)) == {"idle": 1}
    await connection.close()
    assert counted(pool).leaks_recovered["idle"] == 1


async def test_activity_is_a_new_beginning(pools: Pools) -> None:
    """A statement, a commit or a rollback makes an overdue use one that is not; it was suspected once."""
    pool = pools()
    connection = await in_transaction(pool)
    for use_it in (connection.rollback, connection.commit, lambda: connection.execute(text("select 1"))):
        pool.move(301)
        assert total(overdue(counted(pool))) == 1
        await connection.execute(text("select 1"))
        await use_it()
        pool.check()
        assert overdue(counted(pool)) == {}
    await connection.close()
    now = counted(pool)
    assert (total(now.leaks_suspected), total(now.leaks_recovered)) == (1, 1)


async def test_a_long_statement_is_busy_and_never_suspected(pools: Pools) -> None:
    """A statement that runs is no idle use however long it takes; past 400 s it is overdue as busy."""
    pool = pools()
    async with pool.engine.connect() as connection:
        gate = await in_transaction(pool)
        await gate.execute(text("select pg_advisory_lock(7)"))
        waiting = asyncio.create_task(
            connection.execute(text("select pg_advisory_lock(7)"))
        )  # until gate unlocks
        while not any(one.running for one in pool.instrumentation._ledger._entries):
            await asyncio.sleep(0)
        pool.move(399)
        assert overdue(counted(pool)) == {"idle_in_transaction": 1}  # the gate
        pool.move(2)
        assert overdue(counted(pool)) == {"idle_in_transaction": 1, "busy": 1}
        running = {one.overdue: one.running for one in pool.instrumentation.held()}
        assert running == {"idle_in_transaction": False, "busy": True}
        await gate.execute(text("select pg_advisory_unlock(7)"))
        await waiting
        pool.check()
        assert overdue(counted(pool)) == {}
        await gate.close()
    now = counted(pool)
    assert (total(now.leaks_suspected), total(now.leaks_recovered)) == (1, 1)


async def test_a_stream_is_busy_until_it_ends(pools: Pools) -> None:
    """An open server-side cursor is work; idleness counts from when it was last seen open."""
    pool = pools()
    connection = await pool.engine.connect()
    result = await connection.stream(text("select generate_series(1, 1000)"))
    pool.move(390)
    assert overdue(counted(pool)) == {}
    assert counted(pool).oldest_quiet_seconds == 0
    (streaming,) = pool.instrumentation.held()
    assert (streaming.busy, streaming.running) == (True, False)
    await result.close()
    pool.move(59)
    assert overdue(counted(pool)) == {}
    pool.move(2)
    assert overdue(counted(pool)) == {"idle_in_transaction": 1}
    await connection.close()


@DROPPED
async def test_orphaned_after_a_dispose(pools: Pools) -> None:
    """A connection that is still held 500 s after its pool was disposed of is orphaned, busy or not."""
    pool = pools(LeakPolicy(idle_in_transaction_seconds=9_000, idle_seconds=9_000, orphaned_seconds=500))
    connection = await in_transaction(pool)
    pool.move(1_000)
    await pool.engine.dispose()
    pool.check()
    pool.move(499)
    assert overdue(counted(pool)) == {}
    pool.move(2)
    now = counted(pool)
    assert (overdue(now), now.leaks_suspected["orphaned"]) == ({"orphaned": 1}, 1)
    await connection.close()
    assert counted(pool).leaks_recovered["orphaned"] == 1
    del connection
    gc.collect()  # here, where it is expected: what came back to the disposed pool goes with it


async def test_the_first_kind_counts(pools: Pools) -> None:
    """A use that is overdue by one kind and then by another was suspected by the first alone."""
    pool = pools()
    connection = await in_transaction(pool)
    pool.move(61)
    await connection.commit()
    pool.check()
    pool.move(301)
    now = counted(pool)
    assert overdue(now) == {"idle": 1}
    assert now.leaks_suspected == {"idle": 0, "idle_in_transaction": 1, "orphaned": 0}
    await connection.close()
    assert counted(pool).leaks_recovered["idle_in_transaction"] == 1


@DROPPED
async def test_collected_is_a_certain_leak(pools: Pools) -> None:
    """A dropped connection counts as a leak of its owner once, suspected before or not."""
    pool = pools()
    with owner("dropper"):
        first, second = await in_transaction(pool), await in_transaction(pool)
    del first
    gc.collect()
    now = counted(pool)
    assert (now.leaks_collected, now.owner_leaks) == (1, {"dropper": 1})
    pool.move(61)
    assert counted(pool).owner_leaks == {"dropper": 2}
    del second
    gc.collect()
    now = counted(pool)
    assert (now.leaks_collected, now.owner_leaks) == (2, {"dropper": 2})
    assert (total(now.leaks_suspected), total(now.leaks_recovered)) == (1, 0)
    assert now.owner_use_seconds["dropper"] == pytest.approx(now.occupancy_seconds)


async def test_a_detached_connection_is_no_leak_any_more(pools: Pools) -> None:
    """detach() ends a use normally: a suspected one has recovered."""
    pool = pools()
    connection = await in_transaction(pool)
    pool.move(61)
    await connection.run_sync(lambda sync: sync.detach())
    now = counted(pool)
    assert (now.detaches, total(now.leaks_suspected), total(now.leaks_recovered)) == (1, 1, 1)
    await connection.close()


async def test_exempt_owners_are_left_out_of_every_leak_signal(pools: Pools) -> None:
    """A use of an exempt owner is counted as exempt, and is in no age, no quiet time, no overdue use."""
    pool = pools(LeakPolicy(idle_seconds=300, exempt=["listen*", "*hold_for_long"]))

    async def hold_for_long() -> Any:
        return await pool.engine.connect()

    with owner("listener"):
        listener = await in_transaction(pool)
    batch = await hold_for_long()
    pool.move(4_000)
    now = counted(pool)
    assert (now.uses, now.exempt_uses) == (2, 2)
    assert (now.oldest_use_seconds, now.oldest_quiet_seconds) == (0, 0)
    assert (overdue(now), total(now.aged_uses), total(now.leaks_suspected)) == ({}, 0, 0)
    assert [one.exempt for one in pool.instrumentation.held()] == [True, True]
    other = await in_transaction(pool)
    pool.move(301)
    now = counted(pool)
    assert (overdue(now), now.exempt_uses, now.aged_uses["300"]) == ({"idle_in_transaction": 1}, 2, 1)
    for connection in (listener, batch, other):
        await connection.close()


async def test_no_policy_no_overdue_use(pools: Pools) -> None:
    """With leaks=None no use is ever overdue; its age is known all the same."""
    pool = pools(None)
    connection = await in_transaction(pool)
    pool.move(1e7)
    now = counted(pool)
    assert (overdue(now), total(now.leaks_suspected), now.aged_uses["3600"]) == ({}, 0, 1)
    await connection.close()


async def test_owners_are_bounded_and_nothing_is_lost(pools: Pools) -> None:
    """Past 20 owners the rest is one, and the sums stay those of the pool."""
    pool = pools()
    for number in range(200):
        with owner(f"owner {number}"):
            async with pool.engine.connect():
                pool.clock.move(1)
    held = []
    for number in range(300, 304):
        with owner(f"owner {number}"):
            held.append(await pool.engine.connect())
    pool.move(10)
    now = counted(pool)
    assert len(now.owner_connections) == len(now.owner_use_seconds) == len(now.owner_leaks) == 21
    assert now.owner_connections["other"] == now.uses == 4
    assert sum(now.owner_use_seconds.values()) == pytest.approx(now.occupancy_seconds)
    assert now.owner_use_seconds["owner 3"] == pytest.approx(1, abs=0.5)
    assert {one.owner for one in pool.instrumentation.held()} == {
        f"owner {number}" for number in range(300, 304)
    }
    for connection in held:
        await connection.close()


async def test_what_cannot_be_reported_is_counted(pools: Pools, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nobody takes the reports they do not pile up, and the counters go on."""
    monkeypatch.setattr("pool_exporter.ledger.leaks.MAX_REPORTS", 2)
    assert MAX_REPORTS > 2
    pool = pools()
    held = [await in_transaction(pool) for _ in range(4)]
    pool.clock.move(61)
    now = counted(pool)
    assert total(now.leaks_suspected) == 4
    assert len(pool.instrumentation._ledger.take_reports("x")) == 2
    for connection in held:
        await connection.close()


async def test_suspicion_recovery_and_collection_are_logged_with_their_fields(
    pools: Pools, caplog: pytest.LogCaptureFixture
) -> None:
    """Each step of a leak's life is one structured record that names owner, function, file and line."""
    caplog.set_level(logging.INFO, "pool_exporter.leaks")
    pool = pools()
    with owner("POST /orders/{id}"):
        connection = await in_transaction(pool)
    pool.move(61)
    pool.move(1)
    await connection.close()
    pool.check()
    records = [one for one in caplog.records if one.name == "pool_exporter.leaks"]
    assert [(one.event, one.kind, one.levelno) for one in records] == [  # type: ignore[attr-defined]
        ("suspected", "idle_in_transaction", logging.WARNING),
        ("recovered", "idle_in_transaction", logging.INFO),
    ]
    code = in_transaction.__code__
    for record in records:
        fields = vars(record)
        assert fields["owner"] == "POST /orders/{id}"
        assert fields["owner_function"] == f"{__name__}:{in_transaction.__qualname__}"
        assert fields["owner_filename"] == code.co_filename
        assert fields["owner_lineno"] == code.co_firstlineno + 2
        assert fields["pool"] == pool.instrumentation.name
        assert fields["task"] == asyncio.current_task().get_name()  # type: ignore[union-attr]
        assert fields["age_seconds"] == pytest.approx(61, abs=2)
    assert records[0].in_transaction is True  # type: ignore[attr-defined]
    assert isinstance(records[0].backend_pid, int)  # type: ignore[attr-defined]
    assert "\n" not in records[0].getMessage()
    assert "looks leaked: held for 1 min 1 s, idle in transaction for 1 min 1 s" in records[0].getMessage()


@DROPPED
async def test_a_collected_leak_is_logged(pools: Pools, caplog: pytest.LogCaptureFixture) -> None:
    """A leak that the collector found is one record with its owner."""
    pool = pools(POLICY)
    with owner("dropper"):
        connection = await in_transaction(pool)
    del connection
    gc.collect()
    pool.check()
    records = [one for one in caplog.records if one.name == "pool_exporter.leaks"]
    assert [(one.event, one.owner, one.kind) for one in records] == [  # type: ignore[attr-defined]
        ("collected", "dropper", None)
    ]


async def test_hostile_names_stay_in_their_line(pools: Pools, caplog: pytest.LogCaptureFixture) -> None:
    """An owner with line breaks, terminal codes and direction marks is spelled out in the log."""
    pool = pools()
    with owner("a\nERROR forged\x1b[31m\u202eevil"):
        connection = await in_transaction(pool)
    pool.move(61)
    (record,) = (one for one in caplog.records if one.name == "pool_exporter.leaks")
    assert r"a\nERROR forged\x1b[31m\u202eevil" in record.getMessage()
    assert record.getMessage().isprintable()
    await connection.close()


async def test_a_log_handler_that_raises_costs_telemetry_errors_alone(pools: Pools) -> None:
    """What a handler raises is kept from the check and counted, and the next report is made all the same."""

    class Deaf(logging.Handler):
        def handle(self, record: logging.LogRecord) -> bool:
            raise OSError("no space left")

    handler = Deaf()
    logging.getLogger("pool_exporter.leaks").addHandler(handler)
    try:
        pool = pools()
        held = [await in_transaction(pool) for _ in range(3)]
        pool.move(61)
        assert pool.instrumentation.snapshot().telemetry_errors == 3
        assert len(pool.instrumentation._status().reports) == 3
        for connection in held:
            await connection.close()
    finally:
        logging.getLogger("pool_exporter.leaks").removeHandler(handler)


async def test_a_record_factory_with_fields_of_its_own_keeps_them(
    pools: Pools, caplog: pytest.LogCaptureFixture
) -> None:
    """An attribute that the application's record factory has set stays; ours gets a prefix."""
    before = logging.getLogRecordFactory()

    def with_trace(*arguments: Any, **options: Any) -> logging.LogRecord:
        record = before(*arguments, **options)
        record.trace_id = "the application's"
        return record

    pool = pools()
    connection = await in_transaction(pool)
    logging.setLogRecordFactory(with_trace)
    try:
        pool.move(61)
    finally:
        logging.setLogRecordFactory(before)
    (record,) = (one for one in caplog.records if one.name == "pool_exporter.leaks")
    assert vars(record)["trace_id"] == "the application's"
    assert vars(record)["pool_exporter_trace_id"] is None
    assert pool.instrumentation.snapshot().telemetry_errors == 0
    await connection.close()


async def test_many_leaks_at_one_look_do_not_fill_the_log(
    pools: Pools, caplog: pytest.LogCaptureFixture
) -> None:
    """Twenty reports are logged at a time and the rest is one record; a timeout is never among the rest."""
    pool = pools(pool_size=25, max_overflow=0, pool_timeout=0.01)
    with owner("crowd"):
        held = [await in_transaction(pool) for _ in range(25)]
    pool.clock.move(61)
    with pytest.raises(PoolTimeoutError):
        await pool.engine.connect()
    pool.check()

    def events() -> Counter[str]:  # a timeout wakes the background check, which may be at it too
        return Counter(one.event for one in caplog.records if hasattr(one, "event"))

    until(
        lambda: len(pool.instrumentation._status().reports) == 26 and events()["omitted"] == 1,
        "all are there",
    )
    assert events() == {"timeout": 1, "suspected": 20, "omitted": 1}
    (rest,) = (one for one in caplog.records if getattr(one, "event", "") == "omitted")
    assert (
        "5 more reports of leaks at the same time are counted only, among them of crowd" in rest.getMessage()
    )
    for connection in held:
        await connection.close()


async def test_what_the_user_before_left_open_is_no_work_of_this_one(pools: Pools) -> None:
    """A stream that was left unread on a connection does not make its next user look busy."""
    pool = pools(pool_size=1, max_overflow=0)
    connection = await pool.engine.connect()
    result = await connection.stream(text("select generate_series(1, 100000)"))
    await result.fetchone()
    await connection.close()
    connection = await in_transaction(pool)
    pool.move(61)
    assert overdue(counted(pool)) == {"idle_in_transaction": 1}
    await connection.close()
    del result


async def test_what_the_server_ends_is_no_recovery(pools: Pools, postgres: PostgresServer) -> None:
    """A suspected use whose backend is terminated has ended, but nobody has given it back."""
    pool = pools()
    connection = await in_transaction(pool)
    pool.move(61)
    (held,) = pool.instrumentation.held()
    with postgres.observer() as observer:
        observer.execute("select pg_terminate_backend(%s)", [held.backend_pid])
    until(lambda: held.backend_pid not in postgres.backends("leaks-0"), "the backend is gone")
    with pytest.raises(DBAPIError):
        await connection.execute(text("select 1"))
    now = counted(pool)
    assert (now.uses, now.closes["disconnect"], total(now.leaks_suspected)) == (0, 1, 1)
    assert total(now.leaks_recovered) == 0
    await connection.close()


async def test_one_use_that_cannot_be_looked_at_costs_itself_alone(
    pools: Pools, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What raises while one use is observed leaves the others, the snapshot and the check."""
    pool = pools()
    first, second = await in_transaction(pool), await in_transaction(pool)
    oldest = pool.instrumentation.held()[0].backend_pid
    probe = pool.instrumentation._ledger._probe
    original = probe.in_transaction

    def fail_once(entry: Any) -> bool | None:
        if probe.details(entry, entry.uses[0]).backend_pid == oldest:
            raise RuntimeError("on purpose")
        return original(entry)

    monkeypatch.setattr(probe, "in_transaction", fail_once)
    pool.move(61)
    now = pool.instrumentation.snapshot()
    assert overdue(now) == {"idle_in_transaction": 1}
    assert now.telemetry_errors > 0
    for connection in (first, second):
        await connection.close()


async def test_sql_text_is_nowhere_but_where_it_was_asked_for(
    pools: Pools, caplog: pytest.LogCaptureFixture
) -> None:
    """With sql_text=True held() has the last statement; no log record has it, and without nothing has."""
    caplog.set_level(logging.DEBUG, "pool_exporter")
    for attribution, shown in ((True, None), (Attribution(sql_text=True), "select 'secret'")):
        pool = pools(attribution=attribution, pool_size=1, max_overflow=0, pool_timeout=0.01)
        connection = await pool.engine.connect()
        await connection.execute(text("select 'secret'"))
        assert [one.statement for one in pool.instrumentation.held()] == [shown]
        pool.move(61)
        with pytest.raises(PoolTimeoutError) as caught:
            await pool.engine.connect()
        pool.check()
        assert "secret" not in "".join(getattr(caught.value, "__notes__", []))
        await connection.close()
    records = [one for one in caplog.records if one.name.startswith("pool_exporter")]
    assert {getattr(one, "event", None) for one in records} >= {"timeout", "suspected"}
    assert not any("secret" in repr(vars(one)) for one in records)
