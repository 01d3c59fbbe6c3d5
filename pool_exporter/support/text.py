"""Put numbers and names into words for people: logs, exceptions, terminals and pages share them."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Callable, Iterator

SHOWN_LENGTH = 200
"""Characters of a name or another text from outside that are shown."""


_MAX_ACCENTS = 3


def humanised(seconds: float, rounding: Callable[[float], int] = round) -> str:
    """Return a duration for people: `40 ms`, `2.3 s`, `48 s`, `5 min 20 s`, `1 h 10 min`, `2 d 3 h`.

    `rounding` makes the last digit that is shown; `math.ceil` gives an upper bound. What is
    negative or no number counts as 0.
    """
    if not seconds > 0:
        return "0 s"
    if math.isinf(seconds):
        return "for ever"
    milliseconds = rounding(seconds * 1000)
    if milliseconds < 1000:
        return f"{milliseconds} ms" if milliseconds else "under 1 ms"
    tenths = rounding(seconds * 10)
    if tenths < 100:
        return f"{tenths / 10:g} s"
    for unit, size, smaller, part in (("s", 1, "", 1), ("min", 60, "s", 1), ("h", 3600, "min", 60)):
        parts = rounding(seconds / part)
        whole, rest = divmod(parts, size // part)
        if whole < (24 if unit == "h" else 60):
            return f"{whole} {unit}" + (f" {rest} {smaller}" if rest else "")
    days, hours = divmod(rounding(seconds / 3600), 24)
    return f"{days} d" + (f" {hours} h" if hours else "")


def visible(text: str, limit: int = SHOWN_LENGTH) -> str:
    r"""Return text in which nothing hides: at most `limit` characters, and `…` where it is cut.

    Written as escapes are newlines (`\n`), control characters (`\x1b`), what turns the direction
    of text around or has no width (`\u202e`), lone surrogates, spaces other than the usual one, and
    accents heaped on one letter. The result is one line that can be encoded as UTF-8 and does
    nothing to a terminal.
    """
    shown = text[:limit]
    if not (shown.isascii() and shown.isprintable()):
        shown = "".join(_revealed(shown))
    return shown[:limit] + "…" if len(shown) > limit or len(text) > limit else shown


def _revealed(text: str) -> Iterator[str]:
    accents = 0
    for character in text:
        accents = accents + 1 if unicodedata.combining(character) else 0
        if character.isprintable() and accents <= _MAX_ACCENTS:
            yield character
        else:
            yield character.encode("unicode_escape").decode("ascii")


MAX_NAME_LENGTH = 200
