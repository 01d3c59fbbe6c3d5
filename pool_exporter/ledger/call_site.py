"""A place in code that acquires connections."""

from __future__ import annotations

from types import CodeType


class CallSite:
    """A place in code that may acquire connections: one code object, what it is called, whose it is.

    Source of the name: `co_qualname` (Python 3.11), `co_name` before.
    """

    __slots__ = ("application", "boundary", "code", "function", "stops")

    def __init__(self, code: CodeType, function: str, *, application: bool, boundary: bool) -> None:
        self.code = code
        self.function = function  # module:function
        self.application = application  # not SQLAlchemy's, the standard library's or one that is skipped
        self.boundary = boundary  # an event loop's: what called it acquires nothing
        self.stops = application or boundary  # whether a search ends here

    def line(self, instruction: int) -> int | None:
        """Return the line of an instruction, by its offset in bytes; looked up only when it is asked for."""
        for start, end, line in self.code.co_lines():
            if start <= instruction < end:
                return line
        return None
