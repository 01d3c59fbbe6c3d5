"""Define the one exception of the drills: why one cannot run, in words for the terminal."""

from __future__ import annotations


class DrillError(Exception):
    """Say in one or two lines why a drill cannot run and what to do about it.

    `exit_code` is 2 where an argument is at fault, as argparse has it, else 1.
    """

    def __init__(self, message: str, *, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code
