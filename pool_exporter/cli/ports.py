"""Read a port from a command line."""

from __future__ import annotations

import argparse

HIGHEST_PORT = 65535


def port(text: str) -> int:
    """Return a port, 0 for any free one; for `type` of an argument, whose error names what would be right."""
    try:
        number = int(text)
    except ValueError:
        number = -1
    if not 0 <= number <= HIGHEST_PORT:
        raise argparse.ArgumentTypeError(
            f"{text!r}: give a port from 1 to {HIGHEST_PORT}, or 0 for any free one"
        )
    return number
