"""Check that a file says which command makes it, and that settings that contradict each other are refused."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from typing import Any

import pytest
import yaml

from pool_exporter.cli import main
from pool_exporter.monitoring.rules import ALERTS, RuleOptions, rule_file
from pool_exporter.monitoring.rules.contradictions import PASSING
from pool_exporter.monitoring.rules.files import FILES
from pool_exporter.monitoring.rules.options import SETTINGS

CHOICES = [
    (),
    ("--opt-in",),
    ("--opt-in", "--set", "*.keep_firing_for=0", "--set", "Full.saturation=0.9", "--set", "LeakIdle.for=90s"),
    ("--set", "*.for=1m", "--set", "LeakIdle.for=2m", "--set", "LeakIdle.severity=info", "--off", "Stuck"),
    (
        *("--vocabulary", "opentelemetry", "--selector", '{job=~"a\\\\.b|it\'s", cluster!="x y"}'),
        *("--group-by", "cluster,job,pool", "--label", "team=o'neil's \"é\" $x"),
    ),
    ("--opt-in", "--database-limit", "12345678", "--interval", "15s", "--time-scale", "2.5"),
    ("--opt-in", "--database-limit", 'max_connections{server="a b"}', "--runbooks", "https://a.example/b"),
    ("--format", "prometheusrule", "--name", "a", "--namespace", "b", "--metadata-label", "release=p"),
    ("--inhibit-rules", "--group-by", "cluster,job,pool", "--off", "Timeouts"),
]


@pytest.mark.parametrize("arguments", CHOICES, ids=" ".join)
def test_the_first_line_is_the_command_that_makes_the_file(
    arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    """Run again, it makes the same file, and no shorter command is named."""
    assert main(["alerts", *arguments]) == 0
    text = capsys.readouterr().out
    assert text.startswith("# Made by `pool-exporter alerts")
    command = shlex.split(text.splitlines()[0].removeprefix("# Made by `").rpartition("`")[0])
    assert main(command[1:]) == 0
    assert capsys.readouterr().out == text
    assert len(command) <= len(arguments) + 2


def test_the_file_says_what_it_needs_of_prometheus(capsys: pytest.CaptureFixture[str]) -> None:
    """A file without keep_firing_for does not ask for the version that brought it."""
    for arguments, needed in ((), True), (("--set", "*.keep_firing_for=0"), False):
        assert main(["alerts", *arguments]) == 0
        assert ("# Needs Prometheus 2.42 or later" in capsys.readouterr().out) is needed


def test_the_opt_in_file_says_that_it_needs_the_other_and_its_options(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Who reads it knows that both are made with the same options."""
    assert main(["alerts", "--opt-in"]) == 0
    assert "# Load it beside the default file, made with the same options" in capsys.readouterr().out


def test_the_snippet_for_alertmanager_warns_of_external_labels(capsys: pytest.CaptureFixture[str]) -> None:
    """Clusters that share an Alertmanager must not mute each other."""
    assert main(["alerts", "--inhibit-rules"]) == 0
    assert "external labels" in capsys.readouterr().out


def test_rules_are_written_in_utf_8_whatever_the_terminal_takes() -> None:
    """A rule file is read as UTF-8, so its letters are not written as escapes that YAML takes for text."""
    done = subprocess.run(
        [sys.executable, "-m", "pool_exporter", "alerts", "--label", "team=é"],
        check=True,
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
    )
    content = yaml.safe_load(done.stdout.decode("utf-8"))
    labels = [rule["labels"] for group in content["groups"] for rule in group["rules"] if "alert" in rule]
    assert {one["team"] for one in labels} == {"é"}


def test_the_list_has_files_and_ranges(capsys: pytest.CaptureFixture[str]) -> None:
    """`--list` says of each alert which file it is in, and of each setting what it may be."""
    assert main(["alerts", "--list"]) == 0
    text = capsys.readouterr().out
    for which, alerts in FILES.items():
        for alert in alerts:
            assert f"{alert.name} ({alert.severity}, in the {which} file): {alert.summary}\n" in text
    for name, setting in SETTINGS.items():
        if setting.kind != "severity":
            assert f"  {name}={setting.text(setting.default)}  ({setting.range})  " in text


@pytest.mark.parametrize("name", PASSING)
def test_an_event_is_not_waited_for_longer_than_it_is_known(name: str) -> None:
    """An alert that could never fire is refused with what to set instead; one that is off is not asked."""
    window: Any = SETTINGS[f"{name}.window"].default
    with pytest.raises(ValueError, match=f"'{name}.for'.*must be less.*longer, as in {name}.window="):
        RuleOptions(settings={f"{name}.for": window})
    RuleOptions(settings={f"{name}.for": window - 1})
    RuleOptions(settings={f"{name}.for": window}, off=[name])


def test_what_an_event_makes_true_for_a_window_is_listed() -> None:
    """Every alert whose default is to fire at once is about what passes."""
    at_once = {one.name for one in ALERTS.values() if SETTINGS[f"{one.name}.for"].default == 0}
    assert at_once <= set(PASSING)


def test_an_error_of_all_alerts_names_the_remedy(capsys: pytest.CaptureFixture[str]) -> None:
    """`*.for` that is too long for one of them says for which, and what can be set beside it."""
    assert main(["alerts", "--set", "*.for=1h"]) == 2
    assert "set the one longer, as in Full.leak_window=2h, or the other shorter" in capsys.readouterr().err


def test_a_storm_of_one_instance_is_refused() -> None:
    """With the instance in its labels an alert is about one, and two are asked for."""
    options = RuleOptions(group_by=("job", "pool", "instance"))
    assert rule_file(options)["groups"]
    with pytest.raises(ValueError, match=r"FailoverStorm asks for 2 instances.*--off FailoverStorm"):
        rule_file(options, "opt-in")
    for allowed in ({"off": ("FailoverStorm",)}, {"settings": {"FailoverStorm.instances": 1}}):
        rule_file(RuleOptions(group_by=("job", "pool", "instance"), **allowed), "opt-in")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--group-by", "job,pool,process"), "--group-by 'process': not a label of a target"),
        (("--label", "team=a\nb"), "--label team='a\\nb': has characters that cannot be written"),
        (
            ("--opt-in", "--group-by", "job,pool,instance"),
            "--group-by 'job,pool,instance': FailoverStorm asks",
        ),
        (("--set", "StrandedWaiters.for=5m"), "--set StrandedWaiters.for: 300 s must be less than the 300 s"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_a_contradiction_is_refused_in_the_words_of_the_command(
    arguments: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line names the option, the value and the remedy."""
    assert main(["alerts", *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert said in captured.err
