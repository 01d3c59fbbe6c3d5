"""Tell output that cannot be written from every other failure."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Any, TextIO, cast


class OutputLostError(Exception):
    """Say that nothing can be written to stdout any more, and why; `gone` if only its reader has left."""

    def __init__(self, error: OSError) -> None:
        super().__init__(error.strerror)
        self.gone = isinstance(error, BrokenPipeError)


class _Watched:
    """Be a stream whose failures to write are told apart from those of anything else."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with _telling():
            return self._stream.write(text)

    def flush(self) -> None:
        with _telling():
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextlib.contextmanager
def watched_output() -> Iterator[None]:
    """Let what is printed within raise `OutputLostError` where it cannot be written, and flush it at the end."""
    stream = sys.stdout
    if stream is None:  # closed by whoever started us: nothing is printed at all
        yield
        return
    watched = _Watched(stream)
    try:
        with contextlib.redirect_stdout(cast("TextIO", watched)):
            yield
            watched.flush()
    except OutputLostError:
        with contextlib.suppress(OSError, ValueError):  # else the interpreter's last flush complains again
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        raise


@contextlib.contextmanager
def _telling() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputLostError(error) from error
