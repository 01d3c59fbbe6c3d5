"""Put text from outside into HTML: in one line, bounded and escaped."""

from __future__ import annotations

import html

from pool_exporter.support.text import SHOWN_LENGTH, visible

TITLE_LENGTH = 500


def escaped(text: str, limit: int = SHOWN_LENGTH) -> str:
    """Return `visible` text for use between tags or in a quoted attribute."""
    return html.escape(visible(text, limit))


def markup(text: str, limit: int = SHOWN_LENGTH) -> str:
    """Return `visible` text as an element that turns no text around it; cut text has more in its title."""
    shown = escaped(text, limit)
    title = f' title="{escaped(text, TITLE_LENGTH)}"' if shown.endswith("…") else ""
    return f"<bdi{title}>{shown}</bdi>"
