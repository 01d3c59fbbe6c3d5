"""Find out whether a client wants HTML or JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

Format = Literal["html", "json"]

_RANGES: dict[Format, tuple[str, ...]] = {
    # The most exact first: it decides, whatever the others say.
    "html": ("text/html", "text/*", "*/*"),
    "json": ("application/json", "application/*", "*/*"),
}


def wanted_format(asked: Sequence[str] | None, accept: Sequence[str]) -> Format | None:
    """Return what a client wants, None if it asks for a format that there is not.

    `asked` are the values of the query's `format`, which counts before the Accept headers in
    `accept`. HTML where both are wanted alike, or neither.
    """
    if asked is not None:
        if set(asked) == {"json"}:
            return "json"
        return "html" if set(asked) == {"html"} else None
    qualities = _qualities(",".join(accept))
    return "json" if _quality(qualities, "json") > _quality(qualities, "html") else "html"


def _quality(qualities: dict[str, float], form: Format) -> float:
    return next((qualities[one] for one in _RANGES[form] if one in qualities), 0.0)


def _qualities(accept: str) -> dict[str, float]:
    """Return the media ranges of an Accept header with their weights."""
    found: dict[str, float] = {}
    for part in accept.split(","):
        media, *parameters = (text.strip().lower() for text in part.split(";"))
        weight = 1.0
        for parameter in parameters:
            name, _, value = parameter.partition("=")
            if name.strip() == "q":
                try:
                    weight = float(value)
                except ValueError:
                    weight = 0.0
        found[media] = max(found.get(media, 0.0), weight)
    return found
