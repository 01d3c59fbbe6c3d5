"""Read a selector such as `job="orders",cluster=~"eu-.*"` into its matchers (pure)."""

from __future__ import annotations

import re
from typing import NamedTuple

from pool_exporter.monitoring.rules.expressions import NotRE2Error, check_expression

LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_MATCHER = re.compile(r"\s*([a-zA-Z_][a-zA-Z0-9_]*)\s*(=~|!~|!=|=)\s*(\"(?:[^\"\\\n]|\\.)*\")\s*")


_ESCAPE = re.compile(
    r"""\\(?:([abfnrtv\\"])|x([0-7][0-9a-fA-F])|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([01][0-7]{2}))|([^\\])"""
)
"""What a text in PromQL is made of; a byte that is not ASCII's has to be written as the character that it belongs to."""
_CONTROLS = dict(zip("abfnrtv", "\a\b\f\n\r\t\v", strict=True))


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
    text = _unquoted(matcher.value[1:-1])
    if text is None:
        raise _invalid(
            argument,
            selector,
            f"{matcher.value} has an escape that PromQL does not know; write \\\\. for \\.",
        )
    if "~" in matcher.operator:
        try:
            check_expression(text)
        except NotRE2Error as error:
            raise _invalid(argument, selector, f"{matcher.value} {error}") from error
    return matcher


def _unquoted(quoted: str) -> str | None:
    """Return the text that stands between quotes in PromQL; None for an escape that it does not have."""
    found = list(_ESCAPE.finditer(quoted))
    if "".join(one[0] for one in found) != quoted:
        return None
    try:
        return "".join(map(_character, found))
    except ValueError:
        return None


def _character(found: re.Match[str]) -> str:
    control, short, four, eight, octal, plain = found.groups()
    if plain is not None:
        return str(plain)
    if control is not None:
        return _CONTROLS.get(control, control)
    code = int(octal, 8) if octal else int(short or four or eight, 16)
    if 0xD800 <= code < 0xE000:
        raise ValueError("half of a character")
    return chr(code)


def _invalid(argument: str, selector: str, why: str) -> ValueError:
    shown = f"'{selector}'" if selector.isprintable() else repr(selector)  # as it was typed, backslashes too
    return ValueError(
        f'{argument}={shown}: {why}; write matchers as PromQL does, such as \'job="orders",cluster=~"eu-.*"\''
    )
