"""Read a selector such as `job="orders",cluster=~"eu-.*"` into its matchers (pure)."""

from __future__ import annotations

import re
from typing import NamedTuple

LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_MATCHER = re.compile(r"\s*([a-zA-Z_][a-zA-Z0-9_]*)\s*(=~|!~|!=|=)\s*(\"(?:[^\"\\\n]|\\.)*\")\s*")


_ESCAPES = re.compile(
    r"""\\(?:[abfnrtv\\"']|x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|[0-3][0-7]{2})|[^\\]"""
)
"""What a text in PromQL is made of."""
_NOT_RE2 = re.compile(r"\(\?(?:=|!|<=|<!|P=|\(|>|#)|(?<!\\)(?:\\[1-9]|[*+?}]\+)")
"""What Python's regular expressions have and Prometheus's, which are RE2, do not."""

_CLASS = re.compile(r"\[:\^?\w+:\]")
"""A class of characters such as `[:alpha:]`, which Python's regular expressions do not have."""


class Matcher(NamedTuple):
    """One condition on a label; `value` is quoted as PromQL has it."""

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
    quoted = matcher.value[1:-1]
    if "".join(_ESCAPES.findall(quoted)) != quoted:
        raise _invalid(
            argument,
            selector,
            f"{matcher.value} has an escape that PromQL does not know; write \\\\. for \\.",
        )
    if "~" in matcher.operator:
        _check_expression(matcher.value, argument, selector)
    return matcher


def _check_expression(value: str, argument: str, selector: str) -> None:
    expression = value[1:-1].replace("\\\\", "\\")
    try:
        re.compile(_CLASS.sub("a", expression))
    except re.error as error:
        raise _invalid(argument, selector, f"{value} is no regular expression ({error})") from error
    if _NOT_RE2.search(expression):
        raise _invalid(
            argument, selector, f"{value} uses look-around or back-references, which Prometheus does not have"
        )


def _invalid(argument: str, selector: str, why: str) -> ValueError:
    shown = f"'{selector}'" if selector.isprintable() else repr(selector)  # as it was typed, backslashes too
    return ValueError(
        f'{argument}={shown}: {why}; write matchers as PromQL does, such as \'job="orders",cluster=~"eu-.*"\''
    )
