"""Check `owner()`: what it accepts, what it names, and what is named after it."""

from __future__ import annotations

import asyncio
import contextvars
import enum
import threading
from collections.abc import AsyncIterator

import pytest
from sqlalchemy.util import greenlet_spawn

from pool_exporter.capture.callers.owner import CURRENT, Work, current_owner, owner
from pool_exporter.support.text import MAX_NAME_LENGTH


class Job(str, enum.Enum):
    BILLING = "nightly-billing"


class Routed(Work):
    """Work that knows its name once it has been routed."""

    def __init__(self) -> None:
        self.route: str | None = None

    def label(self) -> str | None:
        return self.route


def test_without_a_name_there_is_no_owner() -> None:
    """Outside of any named work there is none."""
    assert current_owner() is None


def test_a_block_has_the_name() -> None:
    """The name holds in the block, and not after it."""
    with owner("nightly-billing"):
        assert current_owner() == "nightly-billing"
    assert current_owner() is None


def test_the_innermost_name_counts() -> None:
    """Blocks nest, and leaving one restores the name around it."""
    with owner("import"):
        with owner("import-prices"):
            assert current_owner() == "import-prices"
        assert current_owner() == "import"


def test_an_exception_ends_the_block() -> None:
    """A block left by an exception, which passes, leaves no name behind."""
    with pytest.raises(KeyError), owner("import"):
        raise KeyError
    assert current_owner() is None


def test_an_owner_can_be_entered_again() -> None:
    """One object names several blocks, one after another and within each other."""
    job = owner("import")
    for _ in range(2):
        with job, owner("import-prices"):
            with job:
                assert current_owner() == "import"
            assert current_owner() == "import-prices"
        assert current_owner() is None


async def test_tasks_may_share_an_owner() -> None:
    """Tasks that enter one object in turn and leave it out of turn keep their own names."""
    job = owner("import")
    first_entered, second_left = asyncio.Event(), asyncio.Event()

    async def first() -> list[str | None]:
        with owner("first"):
            with job:
                first_entered.set()
                await second_left.wait()
                inside = current_owner()
            return [inside, current_owner()]

    async def second() -> list[str | None]:
        await first_entered.wait()
        with job:
            inside = current_owner()
        second_left.set()
        return [inside, current_owner()]

    names = await asyncio.gather(first(), second())
    assert list(names) == [["import", "first"], ["import", None]]
    assert current_owner() is None


async def test_a_name_lasts_across_awaits_and_goes_into_tasks() -> None:
    """A task started in the block has the name for its whole life, past the end of the block."""
    left = asyncio.Event()

    async def later() -> str | None:
        await left.wait()
        return current_owner()

    with owner("import"):
        await asyncio.sleep(0)
        assert current_owner() == "import"
        task = asyncio.create_task(later())
    left.set()
    assert await task == "import"
    assert current_owner() is None


async def test_a_name_reaches_where_sqlalchemy_acquires() -> None:
    """The greenlet in which SQLAlchemy runs its pool, and a worker thread of asyncio, have the name."""
    with owner("import"):
        assert await greenlet_spawn(current_owner) == "import"
        assert await asyncio.to_thread(current_owner) == "import"


def test_threads_have_names_of_their_own() -> None:
    """A name in one thread is none in another."""
    seen: list[str | None] = []
    with owner("import"):
        # In an empty context, which a new thread has by default on most versions of Python.
        thread = threading.Thread(
            target=contextvars.Context().run, args=(lambda: seen.append(current_owner()),)
        )
        thread.start()
        thread.join()
    assert seen == [None]


async def test_a_generator_that_another_task_ends_disturbs_nobody() -> None:
    """To end an async generator in another context raises nothing, and leaves that one's name alone."""

    async def rows() -> AsyncIterator[str | None]:
        with owner("rows"):
            yield current_owner()

    generator = rows()

    async def begin() -> str | None:
        return await anext(generator)

    async def end() -> str | None:
        with owner("end"):
            await generator.aclose()  # type: ignore[attr-defined]  # AsyncIterator promises no aclose()
            return current_owner()

    assert await asyncio.create_task(begin()) == "rows"
    assert await asyncio.create_task(end()) == "end"
    assert current_owner() is None


async def test_a_generator_left_open_keeps_no_name_in_its_callers_context() -> None:
    """The end of the caller's block is the end of those that a generator has left open within it."""

    async def rows() -> AsyncIterator[str | None]:
        with owner("rows"):
            yield current_owner()

    with owner("report"):
        with owner("report-rows"):
            generator = rows()
            assert await anext(generator) == "rows"
        assert current_owner() == "report"
        await generator.aclose()  # type: ignore[attr-defined]  # AsyncIterator promises no aclose()
        assert current_owner() == "report"
    assert current_owner() is None


def test_work_may_learn_its_name_later() -> None:
    """Work that is no text is asked each time; a block in it has its own name, and restores the work."""
    work = Routed()
    token = CURRENT.set(work)
    try:
        assert current_owner() is None
        work.route = "GET /orders"
        assert current_owner() == "GET /orders"
        with owner("import"):
            assert current_owner() == "import"
        assert current_owner() == "GET /orders"
    finally:
        CURRENT.reset(token)


def test_a_member_of_a_text_enumeration_names_by_its_value() -> None:
    """A `str` enumeration's member is text: its value is the name, as plain text."""
    with owner(Job.BILLING):
        assert current_owner() == "nightly-billing"
        assert type(current_owner()) is str


@pytest.mark.parametrize("name", ["x", "n" * MAX_NAME_LENGTH, "Ünïcode – 夜間", "a\nb"])
def test_any_short_text_is_a_name(name: str) -> None:
    """Text of 1 to 200 characters is accepted as it is."""
    with owner(name):
        assert current_owner() == name


@pytest.mark.parametrize("name", [None, 7, b"import", ["import"], int])
def test_what_is_no_text_is_refused(name: object) -> None:
    """A name that is no text raises at once, and the message says what would be right."""
    with pytest.raises(TypeError, match=r"^name=.*expected text for the owner, such as 'nightly-billing'$"):
        owner(name)  # type: ignore[arg-type]  # the mistake under test


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", r"^name='': is empty; name the work, such as 'nightly-billing'$"),
        (" \t\n", r"^name=' \\t\\n': is empty; name the work"),
        (
            "n" * 201,
            r"^name='nnnnnnnnnnnnnnnnnnnn'… has 201 characters; an owner has at most 200: name the kind",
        ),
        ("job-\ud800", r"^name='job-\\ud800': cannot be written as UTF-8; leave out lone surrogates$"),
    ],
)
def test_unusable_text_is_refused(name: str, message: str) -> None:
    """A name that is blank, too long or not encodable raises at once, and the message has the remedy."""
    with pytest.raises(ValueError, match=message):
        owner(name)


@pytest.mark.parametrize("name", [b"n" * 10**6, " " * 10**6, "n" * 10**6])
def test_a_message_quotes_the_beginning_of_a_long_value_only(name: object) -> None:
    """A value of a megabyte does not become a message of one."""
    with pytest.raises((TypeError, ValueError)) as caught:
        owner(name)  # type: ignore[arg-type]  # the mistake under test
    assert len(str(caught.value)) < 200
