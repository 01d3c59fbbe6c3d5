"""Check which selectors are read, and that Prometheus reads them too; regular expressions are left to it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from pool_exporter.cli import main
from pool_exporter.monitoring.rules.selectors import Matcher, matchers_of
from tests.support import need_tool


def promtool_accepts(rules: str, directory: Path) -> bool:
    """Return True if promtool finds no fault with a rule file."""
    path = directory / "rules.yml"
    path.write_text(rules)
    command = [need_tool("promtool", "prometheus"), "check", "rules", str(path)]
    return subprocess.run(command, check=False, capture_output=True).returncode == 0


@pytest.mark.parametrize(
    ("selector", "matchers"),
    [
        ("", ()),
        ("{}", ()),
        ('job="a"', (("job", "=", '"a"'),)),
        ('{ job =~ "a|b" , cluster!="", }', (("job", "=~", '"a|b"'), ("cluster", "!=", '""'))),
        ('_a1!~"x,y}",b="é"', (("_a1", "!~", '"x,y}"'), ("b", "=", '"é"'))),
    ],
)
def test_a_selector_is_read_into_its_matchers(selector: str, matchers: tuple[Matcher, ...]) -> None:
    """Braces, spaces and a last comma may be there; a value stays quoted."""
    assert matchers_of(selector) == matchers


@pytest.mark.parametrize(
    "selector",
    [r'job=~"a\\.b"', r'job=~"\x28a\x29"', r'job=~"\u00e9\U0001f600\101\t"', r'job="\\Z"', r'job=~"\""'],
)
def test_escapes_of_promql_are_accepted(
    selector: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Prometheus reads the rules with each of them."""
    assert main(["alerts", "--selector", selector]) == 0
    assert promtool_accepts(capsys.readouterr().out, tmp_path)


@pytest.mark.parametrize(
    ("selector", "said"),
    [
        ("job", "cannot read 'job'"),
        ('job=="a"', "cannot read"),
        ("job='a'", "cannot read"),
        ('job="a', "cannot read"),
        ('1job="a"', "cannot read"),
        ('my-job="a"', "cannot read"),
        (',job="a"', "cannot read ',job"),
        ('job="a",,', "cannot read ','"),
        ('job="a"}', "expected a comma at '}'"),
        ('job="a`b"', "a backtick cannot stand in the templates of annotations"),
        (r'job=~"a\.b"', r"has an escape that PromQL does not know; write \\. for \."),
        (r"""job="\'" """, "has an escape that PromQL does not know"),
        (r'job="\x4"', "has an escape that PromQL does not know"),
        (r'job="\400"', "has an escape that PromQL does not know"),
        (r'job="\u00g9"', "has an escape that PromQL does not know"),
    ],
)
def test_a_malformed_selector_is_refused(
    selector: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line names the option, the value and the remedy, for the rules and for the dashboards."""
    for command in (["alerts"], ["dashboards", "--out", str(tmp_path)]):
        assert main([*command, "--selector", selector]) == 2
        captured = capsys.readouterr()
        assert captured.out == ""
        assert f"--selector '{selector}': " in captured.err
        assert said in captured.err
        assert '; write matchers as PromQL does, such as \'job="orders"' in captured.err


def test_a_regular_expression_is_left_to_prometheus(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It stands in the rules as given, and `promtool check rules` refuses one that Prometheus cannot read."""
    for expression, accepted in ((r"\\p{Greek}[[:alpha:]]\\z", True), ("(?=a)b", False), ("(", False)):
        assert main(["alerts", "--selector", f'job=~"{expression}"']) == 0
        rules = capsys.readouterr().out
        assert f'{{job=~"{expression}"' in rules
        assert promtool_accepts(rules, tmp_path) is accepted
