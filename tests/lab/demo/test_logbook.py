"""The demo's log: it keeps what the library says of leaks and timeouts, and keeps it off the terminal."""

from __future__ import annotations

import logging

import pytest
from sqlalchemy.exc import TimeoutError

from pool_exporter.messages.leaks import MAX_AT_ONCE, Reports
from pool_exporter.records import LeakReport, TimeoutReport
from pool_exporter.support.faults import Faults
from pool_exporter_lab.demo.logbook import LOGGERS, logbook
from pool_exporter_lab.demo.moment import POOL, Leak, Message, Site
from tests.lab.demo.test_view import ROUTE, held


def leak(event: str, site: Site = ROUTE, pool: str = POOL) -> LeakReport:
    return LeakReport(event=event, kind="idle", unix_time=0.0, held=held(site, pool=pool))


def timeout() -> TimeoutReport:
    return TimeoutReport(
        pool=POOL,
        unix_time=0.0,
        timeout_seconds=1.0,
        size=5,
        max=10,
        uses=10,
        overflow=5,
        pending=3,
        held=(held(), held()),
    )


def test_nothing_reaches_another_handler(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """What the library logs goes into the book alone, and to everybody again afterwards."""
    reports = Reports(Faults())
    with logbook() as book:
        reports.add([leak("suspected")])
        reports.add([timeout()])
    assert (caplog.records, capfd.readouterr().err) == ([], "")
    assert len(book.messages()) == 2

    reports.add([leak("suspected")])
    assert len(caplog.records) == 1
    assert len(book.messages()) == 2
    assert [logging.getLogger(name).handlers for name in LOGGERS] == [[], []]
    assert [logging.getLogger(name).level for name in LOGGERS] == [logging.NOTSET] * 2


def test_leaks_are_kept_with_who_and_where_and_counted_by_site() -> None:
    """Each step is kept with its site, the recovered ones too, and counted."""
    other = ROUTE._replace(lineno=52)
    with logbook() as book:
        for event, site in (("suspected", ROUTE), ("suspected", other), ("recovered", ROUTE)):
            Reports(Faults()).add([leak(event, site)])

    assert book.leaks()[2] == Leak(event="recovered", kind="idle", site=ROUTE, age_seconds=12.0)
    assert book.events() == {("suspected", ROUTE): 1, ("suspected", other): 1, ("recovered", ROUTE): 1}


def test_a_summary_of_omitted_leaks_is_a_message_only() -> None:
    """What the library does not log one by one is neither taken for a leak nor an error."""
    with logbook() as book:
        Reports(Faults()).add([leak("collected") for _ in range(MAX_AT_ONCE + 5)])

    assert len(book.leaks()) == MAX_AT_ONCE
    assert book.events() == {("collected", ROUTE): MAX_AT_ONCE}
    assert book.messages()[-1].text.startswith("5 more reports of leaks")


def test_messages_are_short_and_the_last_two() -> None:
    """A message is one line of bounded length without pool and folders, a timeout's with the oldest holder."""
    long = ROUTE._replace(owner="x" * 300)
    with logbook() as book:
        for report in (leak("suspected"), leak("suspected", long), timeout()):
            Reports(Faults()).add([report])

    second, third = book.messages()
    assert second == Message(2, f"a connection acquired by {'x' * 175}…")
    assert third.text.startswith("timed out after 1")
    assert "POST /orders/{id} (app:place_order, application.py:51)" in third.text
    assert len(third.text) <= 201


@pytest.mark.parametrize("pool", ["checkout-db", "it's", 'a "pool"', "both ' and \""])
def test_a_message_names_no_pool_whatever_it_is_called(pool: str) -> None:
    """There is one pool only, whose name the terminal does not need."""
    with logbook() as book:
        Reports(Faults()).add([leak("suspected", pool=pool)])
    assert book.messages()[0].text.startswith("a connection acquired by POST /orders/{id}")


def test_the_note_on_the_last_timeout_is_kept() -> None:
    """The notes of the exception are one text; None where there are none, as before Python 3.11."""
    with logbook() as book:
        assert book.timeout_note is None
        error = TimeoutError()
        error.__notes__ = ["10 of 10 connections", "held by me"]
        book.timed_out(error)
        assert book.timeout_note == "10 of 10 connections\nheld by me"
        book.timed_out(TimeoutError())
        assert book.timeout_note is None
