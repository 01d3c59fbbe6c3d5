"""Name the work in progress, so that a connection it acquires has an owner.

The name stands in a context variable, because that is what follows the work: through `await`, into
tasks and `asyncio.to_thread()`, and across SQLAlchemy's greenlet boundary. It does not follow into
threads that the application starts itself, nor into `loop.run_in_executor()`.
"""

from __future__ import annotations

import reprlib
from contextvars import ContextVar
from types import TracebackType
from typing import NamedTuple

from pool_exporter.support.text import MAX_NAME_LENGTH


class Work:
    """Work whose name may become known later, such as a request before it is routed."""

    __slots__ = ()

    def label(self) -> str | None:
        """Return the name, None while it is unknown."""
        return None


CURRENT: ContextVar[str | Work | None] = ContextVar("pool_exporter_owner", default=None)
"""The work in progress: its name, or what will know it; None outside of any."""


def current_owner() -> str | None:
    """Return the name of the work in progress, None if it has none (yet).

    It is asked at each checkout. Only work that is no text can raise, whatever its `label()` raises.
    """
    work = CURRENT.get()
    if work is None or isinstance(work, str):
        return work
    return work.label()


class _Entered(NamedTuple):
    """One `with owner(…)` block in progress."""

    by: owner
    before: str | Work | None
    outer: _Entered | None


# The blocks that this context is in. Tokens would have to be kept in the `owner`, where tasks that share
# it would take each other's; and to reset one raises where an async generator is ended by another task.
_ENTERED: ContextVar[_Entered | None] = ContextVar("pool_exporter_entered_owner", default=None)


class owner:
    """Name the work in a block of code: `with owner("nightly-billing"):`, also in async code.

    Connections acquired in the block, and in tasks started there, belong to this name, in place of
    the request's route or of the function that acquires. Blocks nest: the innermost name counts, and
    leaving a block restores what was before. One `owner` may be entered again, and by several tasks
    and threads at once.

    `name`: 1 to 200 characters, of which a few dozen distinct ones make sense: a kind of job, not
    its number. Raises TypeError if it is not text, ValueError if it is blank, too long or not
    encodable as UTF-8.
    """

    __slots__ = ("_name",)

    def __init__(self, name: str) -> None:
        self._name = checked_owner(name)

    def __enter__(self) -> None:
        _ENTERED.set(_Entered(self, CURRENT.get(), _ENTERED.get()))
        CURRENT.set(self._name)

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        entered = _ENTERED.get()
        # Above it there may be blocks of generators that were never ended. It is not there at all where
        # another context ends an async generator: that one has its own work, which goes on.
        while entered is not None and entered.by is not self:
            entered = entered.outer
        if entered is not None:
            CURRENT.set(entered.before)
            _ENTERED.set(entered.outer)


def checked_owner(name: object) -> str:
    """Return a valid name of an owner, as plain text even if it is a member of a text enumeration."""
    if not isinstance(name, str):
        raise TypeError(f"name={reprlib.repr(name)}: expected text for the owner, such as 'nightly-billing'")
    if not name.strip():
        raise ValueError(f"name={reprlib.repr(name)}: is empty; name the work, such as 'nightly-billing'")
    if len(name) > MAX_NAME_LENGTH:
        raise ValueError(
            f"name={name[:20]!r}… has {len(name)} characters; an owner has at most {MAX_NAME_LENGTH}: "
            "name the kind of work, such as 'nightly-billing'"
        )
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"name={reprlib.repr(name)}: cannot be written as UTF-8; leave out lone surrogates"
        ) from error
    return str.__str__(name)  # str() of an enumeration's member may be "Job.BILLING"
