"""Check regular expressions of selectors against Prometheus itself: what we take it must take."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import yaml

from pool_exporter.cli import main
from pool_exporter.monitoring.rules.expressions import NotRE2Error, check_expression
from tests.support import need_tool

TAKEN = [
    "",
    "orders",
    "shop|till-.*",
    r"a\.b\-c\_d",
    r"\p{L}+",
    r"\pN\P{Lu}[\p{Greek}x]",
    r"orders\z",
    r"\A\bx\B$",
    r"\Qa.(b\E.*",
    "(?:(?i)x)",
    "(?i)x",
    "x(?s-i:.)y(?U)z*",
    "(?i-s)a",
    "(?P<name>a|b)+",
    "[[:alpha:]_-]+[^[:digit:]]",
    "[]a]",
    "[^]a]",
    r"[\d\s\]x]",
    r"\x41\x{1F600}",
    "x{0,1000}",
    "(a{10}){100}",
    "a{3,}?",
    "a}+",
    "{,5}",
    "(((a)))",
    "é+",
]
REFUSED = {
    r"a\Z": "leave it out",
    r"\d{1001}": "repeats more than 1000 times",
    "x{0,2000}": "repeats more than 1000 times",
    "x{" + "9" * 5000 + "}": "repeats more than 1000 times",
    "(a{100}){11}": "repeats more than 1000 times",
    "(?i:a{100}){2}(?:b{40}){26}": "repeats more than 1000 times",
    "(?a)x": "nor other flags than i, m, s and U",
    "(?x)x": "nor other flags",
    "(?L)x": "nor other flags",
    "(?u)x": "nor other flags",
    "(?i": "has (?i, which",
    "(?=a)b": "neither look-around",
    "(?!a)b": "neither look-around",
    "(?<=a)b": "neither look-around",
    "(?<!a)b": "neither look-around",
    "(?#c)a": "neither look-around, comments",
    "(?>a)": "has (?>a",
    "(a)(?(1)b|c)": "has (?(1",
    "(?P<n>a)(?P=n)": "has (?P=",
    r"(a)\1": "no back-references",
    r"\N{DASH}": r"the escape \N",
    r"\u0041": r"the escape \u",
    r"\é": r"the escape \é",
    r"\x\pL\pL": "is no regular expression",
    "a\\": "is no regular expression",
    r"\Qopen": r"without \E",
    r"\C": r"the escape \C",
    r"[\b]": r"the escape \b",
    r"[\Z]": "leave it out",
    "a*+": "leave out the last +",
    "a{2}+": "leave out the last +",
    "a**": "is no regular expression",
    "a{2}{3}": "is no regular expression",
    "(": "is no regular expression",
    "a)": "is no regular expression",
    "[a": "is no regular expression",
    "[b-a]": "is no regular expression",
    "*": "is no regular expression",
    "(?i)*": "is no regular expression",
    "a{2,1}": "is no regular expression",
    "[[:foo:]]": "which is no class; there are alnum",
    r"\p{Foo}": r"write a category, such as \p{L}",
    r"[\p{Foo}]": r"write a category, such as \p{L}",
    "(" * 5000 + "a" + ")" * 5000: "groups in groups",
}


def faults_of_promtool(expressions: list[str], tmp_path: Path) -> set[int]:
    """Return which of the expressions promtool refuses, by their place."""
    promtool = need_tool("promtool", "prometheus")
    rules = []
    for number, expression in enumerate(expressions):
        quoted = expression.replace("\\", "\\\\").replace('"', '\\"')
        rules.append({"record": f"a:n{number}:sum", "expr": f'up{{job=~"{quoted}"}}'})
    path = tmp_path / "rules.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "one", "rules": rules}]}, allow_unicode=True))
    done = subprocess.run(
        [promtool, "check", "rules", str(path)], check=False, capture_output=True, text=True
    )
    said = done.stdout + done.stderr
    assert (done.returncode == 0) == ("a:n" not in said)
    return {number for number in range(len(expressions)) if f'"a:n{number}:sum"' in said}


def test_what_prometheus_takes_is_taken(tmp_path: Path) -> None:
    """Each of these passes our check and promtool's: what RE2 has and Python has not, too."""
    for expression in TAKEN:
        check_expression(expression)
    assert faults_of_promtool(TAKEN, tmp_path) == set()


@pytest.mark.parametrize("expression", REFUSED, ids=lambda text: text[:30])
def test_what_prometheus_refuses_is_refused(expression: str) -> None:
    """The error says what is wrong, and what to write instead where that is known."""
    with pytest.raises(NotRE2Error) as raised:
        check_expression(expression)
    assert REFUSED[expression] in str(raised.value)
    assert len(str(raised.value)) < 300


def test_prometheus_does_refuse_these(tmp_path: Path) -> None:
    """We refuse nothing for no reason: promtool says no to each."""
    assert faults_of_promtool(list(REFUSED), tmp_path) == set(range(len(REFUSED)))


def test_a_selector_is_read_with_its_escapes(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """What PromQL makes of the quoted text is checked, and not the quoted text itself."""
    promtool = need_tool("promtool", "prometheus")
    for taken in (r'job=~"a\\.b"', r'job=~"\x28a\x29"', r'job=~"\u00e9\101\t"', r'job="\\Z"', r'job=~"\""'):
        assert main(["alerts", "--selector", taken]) == 0
        path = tmp_path / "rules.yml"
        path.write_text(capsys.readouterr().out)
        done = subprocess.run([promtool, "check", "rules", str(path)], check=False, capture_output=True)
        assert done.returncode == 0, done.stderr
    for refused in (r'job=~"\x28a"', r'job=~"\\Z"', r"""job="\'" """, r'job="\ud800"', r'job="\U00110000"'):
        assert main(["alerts", "--selector", refused]) == 2
        assert "write matchers as PromQL does" in capsys.readouterr().err
