"""Write HTML tables that scroll by themselves when wide and become cards on a narrow screen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pool_exporter.serving.status.text import escaped


@dataclass(frozen=True, slots=True)
class Row:
    """Hold a row's cells as HTML, of which the first is the row's heading; `marked` ones stand out."""

    cells: Sequence[str]
    marked: bool = False


def table(
    kind: str, pool: str, caption: str, headings: Sequence[str], rows: Sequence[Row], *, left_out: int = 0
) -> str:
    """Return a table of the CSS class `kind`; `left_out` says how many rows there are more."""
    head = "".join(f'<th scope="col">{heading}</th>' for heading in headings)
    body = "".join(_row(headings, row) for row in rows)
    if left_out > 0:
        body += f'<tr class="more"><td colspan="{len(headings)}">and {left_out} more</td></tr>'
    return (
        f'<div class="scroller" data-key="{kind}/{escaped(pool)}"><table class="{kind}">'
        f"<caption>{caption}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _row(headings: Sequence[str], row: Row) -> str:
    first, *others = row.cells
    cells = "".join(
        f'<td data-label="{heading}"><div>{cell}</div></td>'
        for heading, cell in zip(headings[1:], others, strict=True)
    )
    marked = ' class="late"' if row.marked else ""
    return f'<tr{marked}><th scope="row">{first}</th>{cells}</tr>'
