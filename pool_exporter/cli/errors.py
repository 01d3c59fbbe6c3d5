"""Define the error by which a subcommand ends with a sentence on stderr."""

from __future__ import annotations


class CommandError(Exception):
    """Say why a subcommand cannot go on, and with which exit code it ends."""

    def __init__(self, message: str, *, exit_code: int = 2) -> None:
        super().__init__(message)
        self.exit_code = exit_code
