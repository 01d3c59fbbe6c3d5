r"""Check regular expressions as Prometheus reads them, which is RE2 as Go has it (pure).

Python's `re` does the parsing; what only one of the two knows is told apart before. Where they
differ in doubt an expression is refused, since a rule file with one that Prometheus cannot read is
not loaded at all.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator

_TOKEN = re.compile(
    r"""
    (?P<literal>\\Q.*?\\E)
  | (?P<property>\\[pP](?:\{\^?\w+\}|[A-Z]))
  | (?P<code>\\x\{[0-9a-fA-F]{1,6}\})
  | (?P<end>\\z)
  | (?P<escape>\\.?)
  | (?P<flags>\(\?[imsU]*(?:-[imsU]+)?(?P<scope>[:)]))
  | (?P<named>\(\?P<[a-zA-Z_]\w*>)
  | (?P<extension>\(\?.?.?)
  | (?P<open>\()
  | (?P<close>\))
  | (?P<set>\[\^?\]?(?:\[:\^?\w+:\]|\\[pP](?:\{\^?\w+\}|[A-Z])|\\.|[^\]\\])*\])
  | (?P<possessive>(?:[*+?]|\{\d+(?:,\d*)?\})\+)
  | (?P<repeat>\{(?P<least>\d+)(?:,(?P<most>\d*))?\})
  | (?P<other>.)
    """,
    re.VERBOSE | re.DOTALL | re.ASCII,
)
_IN_SET = re.compile(r"\[:\^?(\w+):\]|(\\[pP](?:\{\^?\w+\}|[A-Z]))|(\\.)", re.DOTALL | re.ASCII)
_PROPERTIES = re.compile(
    r"\^?(?:Any|C[cfos]?|L[lmotu]?|M[cen]?|N[dlo]?|P[cdefios]?|S[ckmo]?|Z[lps]?|Arabic|Armenian|Bengali|Common|Cyrillic|"
    r"Devanagari|Georgian|Greek|Han|Hangul|Hebrew|Hiragana|Katakana|Latin|Tamil|Thai)"
)
"""Kinds of characters that `\\p{…}` may name: all categories, and the scripts that names are mostly written in."""
_CLASSES = "alnum, alpha, ascii, blank, cntrl, digit, graph, lower, print, punct, space, upper, word, xdigit"
_ESCAPES = "abfnrtvABdDsSwWx"
"""Letters that both know behind a backslash, in the same meaning."""
_IN_SET_ESCAPES = "afnrtvdDsSwWx"
_MAX_REPEATS = 1000
_DEEPEST = 100
"""Groups in groups: fewer than either parser can take."""


class NotRE2Error(ValueError):
    """Say why Prometheus would not read a regular expression, and what to write instead where there is something."""


def check_expression(expression: str) -> None:
    """Raise `NotRE2Error` for what Prometheus would not read."""
    translated = "".join(_translated(expression))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # such as about `[[`, which is a set like others
            re.compile(translated)
    except (re.error, OverflowError, RecursionError) as error:
        raise NotRE2Error(f"is no regular expression ({error})") from error


def _translated(expression: str) -> Iterator[str]:
    """Write an expression of RE2 for Python, and refuse what RE2 does not have."""
    open_groups: list[int] = [1]  # by group, how often its contents repeat at most
    closed = 1  # how often those of the last token do
    for token in _TOKEN.finditer(expression):
        kind = next(name for name in _KINDS if token[name] is not None)
        if kind == "repeat":
            closed *= _repeats(token)
            if closed > _MAX_REPEATS:
                raise NotRE2Error(f"repeats more than {_MAX_REPEATS} times, the most that Prometheus takes")
            open_groups[-1] = max(open_groups[-1], closed)
        elif kind == "close" and len(open_groups) > 1:
            closed = open_groups.pop()
            open_groups[-1] = max(open_groups[-1], closed)
        else:
            closed = 1
        if kind in ("open", "named") or token["scope"] == ":":
            open_groups.append(1)
            if len(open_groups) > _DEEPEST:
                raise NotRE2Error(f"has more than {_DEEPEST} groups in groups")
        yield _in_python(kind, token[0])


_KINDS = tuple(name for name in _TOKEN.groupindex if name not in ("scope", "least", "most"))


def _repeats(token: re.Match[str]) -> int:
    """Return how often a token repeats what is before it; of no upper bound the lower one counts."""
    most = token["most"] or token["least"]
    return max(1, int(most)) if len(most) < 5 else _MAX_REPEATS + 1


def _in_python(kind: str, text: str) -> str:
    if kind == "literal":
        return "(?:" + re.escape(text[2:].removesuffix("\\E")) + ")"
    if kind == "flags":
        return "(?:" if text.endswith(":") else ""
    if kind == "extension":
        raise NotRE2Error(
            f"has {text}, which Prometheus does not: neither look-around, comments nor other flags than i, m, s and "
            "U; write the choice out, or use one more matcher with !~"
        )
    if kind == "possessive":
        raise NotRE2Error(f"has {text}, which Prometheus does not; leave out the last +")
    if kind == "escape":
        _check_escape(text, _ESCAPES)
    if kind == "set":
        return _IN_SET.sub(_of_set, text)
    if kind == "property":
        _check_property(text)
    return {"property": "\\w", "code": "\\w", "end": "\\Z"}.get(kind, "\\{" if text == "{" else text)


def _of_set(found: re.Match[str]) -> str:
    if found[1] is not None and found[1] not in _CLASSES.split(", "):
        raise NotRE2Error(f"has {found[0]}, which is no class; there are {_CLASSES}")
    if found[3] is not None:
        _check_escape(found[3], _IN_SET_ESCAPES)
        return found[3]
    if found[2] is not None:
        _check_property(found[2])
    return "\\w"


def _check_property(text: str) -> None:
    if not _PROPERTIES.fullmatch(text[2:].strip("{}")):
        raise NotRE2Error(
            f"has {text}, which may be unknown to Prometheus; write a category, such as \\p{{L}}"
        )


def _check_escape(text: str, known: str) -> None:
    following = text[1:]
    if following == "Q":
        raise NotRE2Error("has \\Q without \\E; write \\E where the literal text ends")
    if following.isdigit():
        raise NotRE2Error(
            f"has {text}, but Prometheus has no back-references; write the text out, or \\x41 for a character's code"
        )
    if following == "Z":
        raise NotRE2Error(
            "has \\Z, which Prometheus does not; leave it out: all of the value has to match anyhow"
        )
    if not following.isascii() or (following.isalpha() and following not in known):
        raise NotRE2Error(f"has the escape {text}, which Prometheus does not know; leave out the backslash")
