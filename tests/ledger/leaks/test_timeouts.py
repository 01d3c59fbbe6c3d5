"""What a pool timeout says: a note on its exception and one record in the log."""

from __future__ import annotations

import asyncio
import inspect
import logging
import sys
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from pool_exporter import owner
from pool_exporter.instrumentation.timeout_reports import LOG_SECONDS, REPORT_SECONDS
from tests.laws import assert_laws
from tests.ledger.leaks.conftest import Pool, Pools

FULL = {"pool_size": 1, "max_overflow": 1, "pool_timeout": 0.01}
notes = pytest.mark.skipif(sys.version_info < (3, 11), reason="exceptions have notes from Python 3.11 on")


async def time_out(pool: Pool) -> PoolTimeoutError:
    """Let an acquire time out, and return its exception."""
    with pytest.raises(PoolTimeoutError) as caught:
        await pool.engine.connect()
    return caught.value


def notes_of(error: BaseException) -> list[str]:
    """Return an exception's notes."""
    return list(getattr(error, "__notes__", []))


@notes
async def test_the_exception_says_who_holds_the_pool(pools: Pools) -> None:
    """The note names owner, function, number, age and state; type, text and code stay SQLAlchemy's."""
    pool = pools(**FULL)

    async def get_current_user() -> Any:
        connection = await pool.engine.connect()
        await connection.execute(text("select 1"))
        return connection

    with owner("POST /chat/stream"):
        held = [await get_current_user() for _ in range(2)]
    pool.clock.move(48)
    error = await time_out(pool)
    assert type(error) is PoolTimeoutError
    assert error.code == "3o7r"
    assert str(error).startswith("QueuePool limit of size 1 overflow 1 reached")
    (note,) = notes_of(error)
    function = f"{__name__}:{get_current_user.__qualname__}"
    assert note == (
        f"pool_exporter: pool {pool.instrumentation.name!r}: 2 of 2 connections held by POST /chat/stream "
        f"({function}, test_timeouts.py:{get_current_user.__code__.co_firstlineno + 1}), oldest 48 s, "
        "idle in transaction"
    )
    for connection in held:
        await connection.close()
    assert_laws(pool.instrumentation.snapshot())


@notes
async def test_a_note_names_the_largest_owners_first_and_the_others_waiting(pools: Pools) -> None:
    """Owners come by the number of their connections, at most three; then what else is in progress."""
    pool = pools(pool_size=7, max_overflow=0, pool_timeout=0.05)
    held = []
    for name, count in (("one", 1), ("three", 3), ("two", 2), ("last", 1)):
        with owner(name):
            held += [await pool.engine.connect() for _ in range(count)]
    first, second = await asyncio.gather(time_out(pool), time_out(pool))
    (note,) = notes_of(first)
    parts = note.partition(": pool ")[2].partition("': ")[2].split("; ")
    assert [part.split(" (")[0] for part in parts[:3]] == [
        "3 of 7 connections held by three",
        "2 of 7 connections held by two",
        "1 of 7 connections held by one",
    ]
    assert parts[3:] == ["1 by another", "1 other acquires in progress"]
    assert notes_of(second) == [note]  # one report serves the timeouts of the same moment
    for connection in held:
        await connection.close()


@notes
async def test_a_pool_that_is_full_of_connects_says_so(pools: Pools) -> None:
    """Where acquires that hang in connecting fill the pool, the note says that nobody holds it."""
    pool = pools(**FULL)
    hang, hanging = asyncio.Event(), 0

    async def connect(*arguments: Any, **options: Any) -> Any:
        nonlocal hanging
        hanging += 1
        await hang.wait()
        raise OSError("unreachable")

    dialect: Any = pool.engine.sync_engine.dialect
    original = dialect.dbapi.asyncpg.connect
    dialect.dbapi.asyncpg.connect = connect
    try:
        connecting = [asyncio.ensure_future(pool.engine.connect()) for _ in range(2)]  # type: ignore[arg-type]
        while hanging < 2:
            await asyncio.sleep(0)
        (note,) = notes_of(await time_out(pool))
        assert note.endswith("no connection is in use; 2 other acquires are in progress")
        hang.set()
        outcomes = await asyncio.gather(*connecting, return_exceptions=True)
        assert [type(one) for one in outcomes] == [OSError, OSError]
    finally:
        dialect.dbapi.asyncpg.connect = original


async def test_a_timeout_is_logged_with_its_holders_and_where_their_tasks_are(
    pools: Pools, caplog: pytest.LogCaptureFixture
) -> None:
    """One record has the pool's numbers, each holder, and the line at which its task waits now."""
    pool = pools(**FULL)
    ready, go_on = asyncio.Semaphore(0), asyncio.Event()

    async def stream() -> None:
        async with pool.engine.connect():
            ready.release()
            await go_on.wait()  # here

    with owner("POST /chat/stream"):
        tasks = [asyncio.create_task(stream(), name=f"stream {number}") for number in range(2)]
    for _ in tasks:
        await ready.acquire()
    await time_out(pool)
    pool.check()
    (record,) = (one for one in caplog.records if one.name == "pool_exporter.timeouts")
    fields = vars(record)
    assert (record.levelno, fields["event"]) == (logging.WARNING, "timeout")
    assert (fields["size"], fields["max"], fields["uses"], fields["overflow"]) == (1, 2, 2, 1)
    assert fields["timeout_seconds"] == pytest.approx(0.01)
    assert sorted(one["task_name"] for one in fields["held"]) == ["stream 0", "stream 1"]
    lines, first = inspect.getsourcelines(stream)
    line = first + next(number for number, source in enumerate(lines) if "# here" in source)
    for one in fields["held"]:
        assert one["owner"] == "POST /chat/stream"
        assert f":{line})" in "".join(one["stack"])
    assert f"{stream.__qualname__.rpartition('.')[2]} (leaks/test_timeouts.py:{line})" in record.getMessage()
    go_on.set()
    await asyncio.gather(*tasks)


async def test_the_log_of_timeouts_is_rate_limited(pools: Pools, caplog: pytest.LogCaptureFixture) -> None:
    """A storm of timeouts is one record every so many seconds; each exception has its note."""
    pool = pools(**FULL)
    held = [await pool.engine.connect() for _ in range(2)]

    def logged() -> int:
        pool.check()
        return sum(1 for one in caplog.records if one.name == "pool_exporter.timeouts")

    for _ in range(3):
        error = await time_out(pool)
        assert len(notes_of(error)) == (1 if sys.version_info >= (3, 11) else 0)
    assert logged() == 1
    pool.clock.move(REPORT_SECONDS)
    await time_out(pool)
    assert logged() == 1
    pool.clock.move(LOG_SECONDS)
    await time_out(pool)
    assert logged() == 2
    assert pool.instrumentation.snapshot().timeouts == 5
    for connection in held:
        await connection.close()


async def test_a_fault_while_a_timeout_is_explained_leaves_the_timeout_alone(
    pools: Pools, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the note cannot be made, SQLAlchemy's exception comes as it is, and the timeout is counted."""
    pool = pools(**FULL)
    held = [await pool.engine.connect() for _ in range(2)]

    def fail(*arguments: Any) -> None:
        raise RuntimeError("on purpose")

    monkeypatch.setattr(pool.instrumentation, "_timeout_report", fail)
    assert notes_of(await time_out(pool)) == []
    now = pool.instrumentation.snapshot()
    assert (now.timeouts, now.failed_acquires, now.telemetry_errors) == (1, 0, 1)
    for connection in held:
        await connection.close()
