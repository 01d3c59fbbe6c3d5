"""Print lines and aligned tables that do nothing to a terminal, whatever text they carry."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import TextIO

from pool_exporter.records import HeldConnection
from pool_exporter.serving.status.holders import overdue_kind
from pool_exporter.support.text import visible

CELL_LENGTH = 60
_GAP = "  "


def write_line(text: str, output: TextIO) -> None:
    """Print one line that is safe already, with escapes for what the output's encoding has not."""
    encoding = getattr(output, "encoding", None) or "utf-8"
    print(text.encode(encoding, "backslashreplace").decode(encoding), file=output, flush=True)


def in_utf8(output: TextIO) -> None:
    """Let what follows be written in UTF-8, whatever the locale is: it is a file for a program that reads that."""
    reconfigure = getattr(output, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(encoding="utf-8")


def aligned(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return a table's lines; cells are made visible and cut at 60 characters."""
    cells = [list(headings), *([visible(cell, CELL_LENGTH) for cell in row] for row in rows)]
    widths = [max(map(_width, column)) for column in zip(*cells, strict=True)]
    return [
        _GAP.join(
            cell + " " * (width - _width(cell)) for cell, width in zip(row, widths, strict=True)
        ).rstrip()
        for row in cells
    ]


def state_of(held: HeldConnection) -> str:
    """Return what a holder does, in words."""
    words = [f"overdue: {overdue_kind(held.overdue)}"] if held.overdue is not None else []
    if held.busy and held.overdue != "busy":
        words.append("busy")
    if held.in_transaction and held.overdue != "idle_in_transaction":
        words.append("in transaction")
    if held.exempt:
        words.append("exempt")
    return ", ".join(words) or "-"


def _width(text: str) -> int:
    """Return how many columns a text takes on a terminal."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(one) else 2 if unicodedata.east_asian_width(one) in "WF" else 1
        for one in text
    )
