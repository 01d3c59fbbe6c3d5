"""Read a selector such as `job="orders",cluster=~"eu-.*"` into its matchers (pure)."""

from __future__ import annotations

import re
from typing import NamedTuple

LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_MATCHER = re.compile(r"\s*([a-zA-Z_][a-zA-Z0-9_]*)\s*(=~|!~|!=|=)\s*(\"(?:[^\"\\\n]|\\.)*\")\s*")
_ESCAPE = re.compile(r"""\\(?:[abfnrtv\\"]|[0-3][0-7]{2}|x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8})""")
"""An escape that PromQL knows."""


class Matcher(NamedTuple):
    """One condition on a label; `value` is quoted as in PromQL. Prometheus judges its regular expression."""

    label: str
    operator: str
    value: str

    def spelled(self, label: str) -> str:
        """Return the matcher with the label spelled so."""
        return f"{label}{self.operator}{self.value}"


def matchers_of(selector: str, argument: str = "selector") -> tuple[Matcher, ...]:
    """Return the matchers of a selector, with or without braces; raise `ValueError` that names `argument`."""
    text = selector.strip()
    if text.startswith("{") and text.endswith("}"):
        text = text[1:-1].strip()
    found: list[Matcher] = []
    position = 0
    while position < len(text):
        match = _MATCHER.match(text, position)
        if match is None:
            raise _invalid(argument, selector, f"cannot read {text[position : position + 40]!r}")
        found.append(_checked(Matcher(*match.groups()), argument, selector))
        position = match.end()
        if position < len(text):
            if text[position] != ",":
                raise _invalid(argument, selector, f"expected a comma at {text[position : position + 40]!r}")
            position += 1
    return tuple(found)


def _checked(matcher: Matcher, argument: str, selector: str) -> Matcher:
    if matcher.label == "__name__":
        raise _invalid(argument, selector, "a metric's name is not for choosing")
    if "`" in matcher.value:
        raise _invalid(argument, selector, "a backtick cannot stand in the templates of annotations")
    if not matcher.value.isprintable():
        raise _invalid(argument, selector, f"{matcher.value!r} has characters that cannot be written")
    if "\\" in _ESCAPE.sub("", matcher.value):
        raise _invalid(
            argument,
            selector,
            f"{matcher.value} has an escape that PromQL does not know; write \\\\. for \\.",
        )
    return matcher


def _invalid(argument: str, selector: str, why: str) -> ValueError:
    shown = f"'{selector}'" if selector.isprintable() else repr(selector)  # as it was typed, backslashes too
    return ValueError(
        f'{argument}={shown}: {why}; write matchers as PromQL does, such as \'job="orders",cluster=~"eu-.*"\''
    )
