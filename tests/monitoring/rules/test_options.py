"""Check what each option changes in the rule files, and how the command writes them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from pool_exporter.cli import main
from pool_exporter.monitoring.rules import ALERTS, SETTINGS, RuleOptions, rule_file
from pool_exporter.monitoring.rules.durations import duration_of, seconds_of
from pool_exporter.monitoring.rules.numbers import percent
from tests.support import need_tool


def alerts_in(options: RuleOptions, which: Any = "default") -> dict[str, dict[str, Any]]:
    """Return the alerting rules by their name without the prefix."""
    return {
        rule["alert"].removeprefix("SQLAlchemyPool"): rule
        for group in rule_file(options, which)["groups"]
        for rule in group["rules"]
        if "alert" in rule
    }


def test_a_threshold_reaches_its_rule() -> None:
    """Numbers, durations and severities change what they name and nothing else."""
    changed = alerts_in(
        RuleOptions(
            settings={
                "LeakIdle.window": "20m",
                "SQLAlchemyPoolLeakIdle.for": 90,
                "LeakIdle.severity": "critical",
                "LeakIdle.keep_firing_for": "0",
            }
        )
    )
    plain = alerts_in(RuleOptions())
    rule = changed.pop("LeakIdle")
    assert "[20m]" in rule["expr"]
    assert rule["for"] == "90s"
    assert rule["labels"]["severity"] == "critical"
    assert "keep_firing_for" not in rule
    del plain["LeakIdle"]
    assert changed == plain


def test_a_star_sets_every_alert_that_has_the_setting() -> None:
    """What comes later is more particular, and wins."""
    options = RuleOptions(settings={"*.keep_firing_for": 0, "LeakCollected.keep_firing_for": "5m"})
    rules = {**alerts_in(options), **alerts_in(options, "opt-in")}
    assert {name for name, rule in rules.items() if "keep_firing_for" in rule} == {"LeakCollected"}


def test_a_shared_threshold_reaches_all_that_share_it() -> None:
    """What full means is one thing for every alert that asks for it."""
    options = RuleOptions(settings={"Full.saturation": 0.8})
    for name, which in (("ExhaustedByLeak", "default"), ("ExhaustedByLoad", "default"), ("Stuck", "opt-in")):
        assert "instance_pool:sqlalchemy_pool_full:ratio" in alerts_in(options, which)[name]["expr"]
    (full,) = (
        rule["expr"]
        for group in rule_file(options)["groups"]
        for rule in group["rules"]
        if rule.get("record") == "instance_pool:sqlalchemy_pool_full:ratio"
    )
    assert ">= 0.8\n" in full


@pytest.mark.parametrize("name", SETTINGS)
def test_every_setting_changes_the_rules(name: str) -> None:
    """No setting is there for nothing."""
    setting = SETTINGS[name]
    default = setting.default
    other = "info" if default != "info" else "warning"
    if isinstance(default, float):
        other = default * 2 if default * 2 <= setting.most else default / 2
        other = other or 60.0
    changed = RuleOptions(settings={name: other})
    assert any(
        rule_file(changed, which) != rule_file(RuleOptions(), which) for which in ("default", "opt-in")
    )  # type: ignore[arg-type]  # both are choices


def test_alerts_can_be_switched_off() -> None:
    """An alert that is off is not in its file; the recording rules stay."""
    left = alerts_in(RuleOptions(off=("LeakIdle", "SQLAlchemyPoolTelemetryMissing")))
    assert left.keys() == {"ExhaustedByLeak", "ExhaustedByLoad", "DatabaseUnreachable", "LeakCollected"}
    silent = rule_file(RuleOptions(off=tuple(ALERTS)))
    assert [group["name"] for group in silent["groups"]] == [
        f"sqlalchemy_pool_{name}"
        for name in (
            "recording",
            "dashboards",
            "fleet",
            "reasons",
            "wait_histogram",
            "use_histogram",
            "connect_histogram",
            "presence",
        )
    ]


def test_a_selector_and_labels_are_everywhere() -> None:
    """Each selector of each rule has the matcher, alerts group by the labels asked for and carry those given."""
    options = RuleOptions(
        selector='job="shop"', group_by=("cluster", "job", "pool"), labels={"team": "payments"}
    )
    for which in ("default", "opt-in"):
        content = rule_file(options, which)  # type: ignore[arg-type]  # a choice
        for rule in (rule for group in content["groups"] for rule in group["rules"]):
            expression = rule["expr"].replace("pg_settings_max_connections", "")
            selectors = sum(map(expression.count, ("sqlalchemy_pool_", "up{job=", "ALERTS{job=")))
            assert expression.count('{job="shop"') == selectors, rule["expr"]
            if "alert" in rule:
                assert rule["labels"]["team"] == "payments"
    assert "(cluster, job, pool)" in alerts_in(options)["LeakCollected"]["expr"]
    assert (
        "of job {{ $labels.job }}, cluster {{ $labels.cluster }}"
        in (alerts_in(options)["LeakCollected"]["annotations"]["description"])
    )


def test_the_databases_limit_is_a_number_or_a_series() -> None:
    """A number stands in the rule; of a series the smallest value counts, and none of it fires nothing."""
    number = alerts_in(RuleOptions(database_limit="500"), "opt-in")["CapacityAboveDatabase"]["expr"]
    series = alerts_in(RuleOptions(database_limit='pgbouncer_max{server="db"}'), "opt-in")
    assert number.endswith("> 0.95 * 500")
    assert series["CapacityAboveDatabase"]["expr"].endswith(
        '> 0.95 * scalar(min(pgbouncer_max{server="db"}))'
    )


def test_a_large_number_is_written_in_full() -> None:
    """No digit of a threshold or of a limit is lost, and none is put into an exponent."""
    options = RuleOptions(database_limit="12345678", settings={"LeakIdle.uses": "1234567"})
    assert alerts_in(options, "opt-in")["CapacityAboveDatabase"]["expr"].endswith("> 0.95 * 12345678")
    assert ">= 1234567\n" in alerts_in(options)["LeakIdle"]["expr"]
    assert SETTINGS["LeakIdle.uses"].text(1234567.0) == "1234567"
    assert SETTINGS["Timeouts.budget"].text(0.0005) == "0.0005"


def test_a_small_share_is_not_told_as_nothing() -> None:
    """The words have the part that was chosen, and not what rounding leaves of it."""
    options = RuleOptions(settings={"Full.leak_share": 0.004, "CapacityAboveDatabase.share": 0.999})
    told = alerts_in(options)["ExhaustedByLeak"]["annotations"]["description"]
    assert "hold 0.4% " in told
    told = alerts_in(options, "opt-in")["CapacityAboveDatabase"]["annotations"]["description"]
    assert "more than 99.9% of what it allows" in told
    assert percent(0.5) == "50%"
    assert percent(10) == "1000%"


def test_the_time_scale_divides_every_duration() -> None:
    """Windows, waits and the interval of evaluation shrink together; counts do not."""
    options = RuleOptions(time_scale=60)
    content = rule_file(options)
    assert [group["interval"] for group in content["groups"]] == ["500ms"] * 4 + ["1s"] * 4 + ["5s"]
    leak = alerts_in(options)["ExhaustedByLeak"]
    assert leak["for"] == "2s"
    assert "[5s]" in leak["expr"]
    assert ">= 0.5\n" in leak["expr"]
    opted = alerts_in(options, "opt-in")
    assert ">= 10)" in opted["FailoverStorm"]["expr"]
    assert "[1m]) * 0.5 >= 5" in opted["Timeouts"]["expr"]
    for rule in (*alerts_in(options).values(), *alerts_in(options, "opt-in").values()):
        for unscaled in ("[5m]", "[1h]", "[10m]", "[2m]"):
            assert unscaled not in rule["expr"] + rule["annotations"]["description"]


def test_the_manifest_is_a_prometheusrule_around_the_same_groups(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The Operator's manifest has the groups of the plain file."""
    assert main(["alerts", "--format", "prometheusrule", "--opt-in"]) == 0
    manifest = yaml.safe_load(capsys.readouterr().out)
    assert (manifest["apiVersion"], manifest["kind"]) == ("monitoring.coreos.com/v1", "PrometheusRule")
    assert manifest["metadata"] == {
        "name": "sqlalchemy-pool-opt-in",
        "labels": {"app.kubernetes.io/name": "pool-exporter"},
    }
    assert manifest["spec"] == rule_file(RuleOptions(), "opt-in")


def test_no_manifest_replaces_another(capsys: pytest.CaptureFixture[str]) -> None:
    """Each file and vocabulary has a name of its own, whatever its name starts with."""
    names = set()
    for start in ((), ("--name", "orders")):
        for which in ((), ("--opt-in",)):
            for words in ((), ("--vocabulary", "opentelemetry")):
                assert main(["alerts", "--format", "prometheusrule", *start, *which, *words]) == 0
                names.add(yaml.safe_load(capsys.readouterr().out)["metadata"]["name"])
    ends = ("", "-opt-in", "-opentelemetry", "-opt-in-opentelemetry")
    assert names == {start + end for start in ("sqlalchemy-pool", "orders") for end in ends}


def test_a_manifest_can_be_put_and_selected(capsys: pytest.CaptureFixture[str]) -> None:
    """Its namespace and the labels that the Operator's ruleSelector asks for are options."""
    wanted = ("--metadata-label", "release=prometheus", "--metadata-label", "example.com/role=alerts")
    assert main(["alerts", "--format", "prometheusrule", "--namespace", "monitoring", *wanted]) == 0
    metadata = yaml.safe_load(capsys.readouterr().out)["metadata"]
    assert metadata["namespace"] == "monitoring"
    assert metadata["labels"] == {
        "app.kubernetes.io/name": "pool-exporter",
        "release": "prometheus",
        "example.com/role": "alerts",
    }


def test_prometheus_accepts_the_rules_of_many_options(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """promtool finds no fault with what the options make."""
    promtool = need_tool("promtool", "prometheus")
    arguments = [
        *("--set", "Full.saturation=0.9", "--set", "Timeouts.budget=0.0005", "--off", "LeakIdle"),
        *("--selector", '{job=~"shop|till",cluster!="test"}', "--group-by", "cluster,namespace,job,pool"),
        *("--label", "team=payments", "--label", "where={{ $labels.cluster }}/{{ $labels.namespace }} }}"),
        *("--database-limit", "400", "--time-scale", "60", "--interval", "15s"),
        *("--runbooks", "https://wiki.example.com/", "--dashboard", "https://g.example.com/d/x?orgId=1"),
    ]
    for extra in ((), ("--opt-in",), ("--vocabulary", "opentelemetry")):
        assert main(["alerts", *arguments, *extra]) == 0
        path = tmp_path / "rules.yml"
        path.write_text(capsys.readouterr().out)
        done = subprocess.run(
            [promtool, "check", "rules", str(path)], check=False, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr


def test_without_pyyaml_the_command_names_the_extra() -> None:
    """What is missing is said with the command that installs it, and nothing else fails."""
    hidden = "import sys; sys.modules['yaml'] = None; from pool_exporter.cli import main; "
    done = subprocess.run(
        [sys.executable, "-c", hidden + "sys.exit(main(['alerts']))"],
        check=False,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert "pip install 'pool_exporter[rules]'" in done.stderr


@pytest.mark.parametrize(
    ("given", "urls", "options"),
    [
        ((), "runbook_url and dashboard_url", "--runbooks URL and --dashboard URL"),
        (("--runbooks", "https://wiki.acme.test/pools"), "dashboard_url", "--dashboard URL"),
        (("--dashboard", "https://grafana.acme.test/d/pool"), "runbook_url", "--runbooks URL"),
    ],
)
def test_links_that_lead_nowhere_are_said(
    given: tuple[str, ...], urls: str, options: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whoever leaves a placeholder is told so on stderr, and so is who reads the file, with the option that mends it."""
    assert main(["alerts", *given]) == 0
    captured = capsys.readouterr()
    note = f"{urls}: example.com leads nowhere; give your own with {options}."
    assert captured.err == f"pool-exporter alerts: {note}\n"
    assert f"\n# {note}\n" in captured.out
    assert "example.com" in captured.out.replace(note, "")


def test_links_of_ones_own_and_files_without_links_are_not_spoken_of(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """With both given there is no placeholder left to speak of; what mutes symptoms has no links."""
    own = ("--runbooks", "https://wiki.acme.test/pools", "--dashboard", "https://grafana.acme.test/d/pool")
    assert main(["alerts", *own]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    assert "example.com" not in captured.out
    assert main(["alerts", "--inhibit-rules"]) == 0
    assert capsys.readouterr().err == ""


def test_the_list_names_every_setting(capsys: pytest.CaptureFixture[str]) -> None:
    """`--list` says what can be set, with the default and its reason."""
    assert main(["alerts", "--list"]) == 0
    text = capsys.readouterr().out
    for name, setting in SETTINGS.items():
        assert f"{name}={setting.text(setting.default)}  " in text
        assert setting.reason in text


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("1h30m", 5400), ("0", 0), ("1500ms", 1.5), ("1d", 86400), ("2w", 1209600)],
)
def test_durations_are_prometheus_own(text: str, seconds: float) -> None:
    """They are read as Prometheus reads them, and written so that it reads the same."""
    assert seconds_of(text) == seconds
    assert seconds_of(duration_of(seconds)) == seconds


@pytest.mark.parametrize("text", ["", "5", "5 m", "m5", "1m1h", "-5m", "5.5m", "٥m"])
def test_what_prometheus_would_not_read_is_no_duration(text: str) -> None:
    """Nothing is guessed."""
    with pytest.raises(ValueError, match="not a duration"):
        seconds_of(text)
