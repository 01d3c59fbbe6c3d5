"""Check what can be chosen about the rules, and what is said to choices that make no sense."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from pool_exporter.catalogue import CATALOGUE
from pool_exporter.cli import main
from pool_exporter.monitoring.rules import ALERTS, RECORDINGS, SETTINGS, RuleOptions, rule_file
from pool_exporter.monitoring.rules.durations import duration_of, seconds_of
from pool_exporter.monitoring.rules.numbers import percent
from pool_exporter.monitoring.rules.series import recorded_series
from tests.support import ROOT, need_tool


def alerts_in(options: RuleOptions, which: Any = "default") -> dict[str, dict[str, Any]]:
    """Return the alerting rules by their name without the prefix."""
    return {
        rule["alert"].removeprefix("SQLAlchemyPool"): rule
        for group in rule_file(options, which)["groups"]
        for rule in group["rules"]
        if "alert" in rule
    }


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Run the command, which must fail before it prints a rule, and return its one line of error."""
    assert main(["alerts", *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    return captured.err


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


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--off", "Leak"), "--off 'Leak': no alert of that name; there are ExhaustedByLeak, "),
        (
            ("--set", "LeakIdle"),
            "--set LeakIdle: expected a name and a value, as in --set LeakIdle.window=20m",
        ),
        (("--set", "LeakIdle.windw=20m"), "--set LeakIdle.windw: no such setting; there are LeakIdle.for, "),
        (("--set", "*.windw=20m"), "--set *.windw: no such setting; there are budget, burn, "),
        (("--set", "Leak.window=20m"), "--set 'Leak': no alert of that name"),
        (("--set", "LeakIdle.window=20"), "--set LeakIdle.window='20': not a duration; write one as"),
        (("--set", "LeakIdle.window=1s"), "--set LeakIdle.window='1s': out of range; from 1m to 30d"),
        (("--set", "LeakIdle.uses=0"), "--set LeakIdle.uses='0': out of range; at least 1"),
        (("--set", "LeakIdle.uses=many"), "--set LeakIdle.uses='many': expected a number"),
        (("--set", "LeakIdle.uses=nan"), "--set LeakIdle.uses='nan': expected a finite number"),
        (("--set", "Full.saturation=1.5"), "--set Full.saturation='1.5': out of range; above 0, at most 1"),
        (
            ("--set", "LeakIdle.severity=page"),
            "--set LeakIdle.severity='page': expected critical, warning, info",
        ),
        (("--set", "ExhaustedByLeak.for=5m"), "--set Full.leak_window: 300 s must be more than the 300 s"),
        (("--selector", "job=shop"), "--selector 'job=shop': cannot read 'job=shop'; write matchers"),
        (("--selector", 'job="shop" cluster="x"'), "expected a comma at"),
        (("--selector", r'job=~"a\.b"'), "has an escape that PromQL does not know; write"),
        (("--selector", r'job="a\qb"'), "has an escape that PromQL does not know; write"),
        (("--selector", 'job="a\udcff"'), "has characters that cannot be written"),
        (("--selector", '__name__="up"'), "a metric's name is not for choosing"),
        (("--selector", 'env="prod"'), "no label 'env'; add it to --group-by, as in env,job,pool"),
        (("--selector", 'pool="orders"'), "'pool' is told apart by the rules themselves"),
        (("--group-by", "job"), "--group-by 'job': 'pool' is missing"),
        (("--group-by", "job,pool,"), "--group-by '': no valid label name"),
        (("--group-by", "my-label,pool"), "--group-by 'my-label': no valid label name"),
        (("--group-by", "state,pool"), "--group-by 'state': not a label of a target"),
        (("--label", "team"), "--label team: expected a name and a value, as in --label team=payments"),
        (
            ("--label", "team=a", "--label", "team=b"),
            "--label team=a and --label team=b: team can have one value; leave one of them out",
        ),
        (("--set", "LeakIdle.for=5m", "--set", "LeakIdle.for=9m"), "LeakIdle.for can have one value"),
        (("--label", "1team=x"), "--label 1team: no valid label name"),
        (("--label", "severity=x"), "--label severity: the alerts have this label already"),
        (("--label", "server=x"), "--label server: the alerts have this label already; choose another"),
        (
            ("--vocabulary", "opentelemetry", "--label", "sqlalchemy_pool_server=x"),
            "--label sqlalchemy_pool_server: the alerts have this label already",
        ),
        (
            ("--label", "team={{ nope }}"),
            "--label team='{{ nope }}': of templates a value may have labels of the alerts only, which are "
            "{{ $labels.job }}, {{ $labels.pool }}",
        ),
        (("--label", "team={{"), "--label team='{{': of templates a value may have"),
        (("--label", "team={{ $labels.namespace }}"), "of templates a value may have labels of the alerts"),
        (("--label", "team={{ $value }}"), "of templates a value may have labels of the alerts only"),
        (("--label", "team={{ $labels.job }}{{"), "of templates a value may have labels of the alerts"),
        (("--label", "team="), "--label team='': expected text"),
        (("--database-limit", "0"), "--database-limit 0.0: out of range; at least 1 connection"),
        (("--database-limit", "a b"), "--database-limit 'a b': expected a number of connections"),
        (("--database-limit", "nan"), "--database-limit 'nan': nan is a word of PromQL; expected a number"),
        (("--database-limit", "INF"), "--database-limit 'INF': INF is a word of PromQL; expected a number"),
        (("--database-limit", "+inf"), "--database-limit inf: out of range; at least 1 connection, and"),
        (("--database-limit", "bool"), "bool is a word of PromQL; expected a number of connections"),
        (("--database-limit", 'on{a="b"}'), "on is a word of PromQL"),
        (("--vocabulary", "otel"), "--vocabulary 'otel': expected prometheus or opentelemetry"),
        (("--format", "json"), "--format 'json': expected prometheus or prometheusrule"),
        (
            ("--name", "orders"),
            "--name is for a PrometheusRule; add --format prometheusrule, or leave it out",
        ),
        (("--namespace", "a"), "--namespace is for a PrometheusRule"),
        (("--metadata-label", "a=b"), "--metadata-label is for a PrometheusRule"),
        (("--format", "prometheusrule", "--name", "Orders"), "--name 'Orders': no name for Kubernetes; give"),
        (("--format", "prometheusrule", "--name", ""), "--name '': no name for Kubernetes; give lower-case"),
        (("--format", "prometheusrule", "--name", "a" * 201), "at most 200 characters"),
        (("--format", "prometheusrule", "--namespace", "a.b"), "--namespace 'a.b': no name for a namespace"),
        (
            ("--format", "prometheusrule", "--metadata-label", "release=a b"),
            "--metadata-label release='a b': no label for Kubernetes; give letters",
        ),
        (
            ("--format", "prometheusrule", "--metadata-label", "release"),
            "--metadata-label release: expected a name and a value, as in --metadata-label release=prometheus",
        ),
        (("--runbooks", "wiki"), "--runbooks 'wiki': expected a URL that begins with http"),
        (("--interval", "5m"), "--interval 300.0: out of range; from 1s to 60s"),
        (("--interval", "often"), "--interval 'often': not a duration"),
        (("--time-scale", "0"), "--time-scale 0.0: out of range; from 0.01 to 1000"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_a_choice_that_makes_no_sense_is_refused(
    arguments: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line names the option, the value and the remedy."""
    assert said in refused(capsys, *arguments)


@pytest.mark.parametrize(
    "arguments",
    [
        {"group_by": "job,pool"},
        {"settings": [("LeakIdle.for", 60)]},
        {"settings": {"LeakIdle.for": True}},
        {"labels": ["team"]},
        {"database_limit": None},
        {"interval": None},
        {"time_scale": "60"},
    ],
    ids=str,
)
def test_code_that_passes_the_wrong_type_is_told(arguments: Any) -> None:
    """The Python interface names the argument as well."""
    with pytest.raises((TypeError, ValueError), match=next(iter(arguments))):
        RuleOptions(**arguments)


def test_an_unknown_file_is_refused() -> None:
    """There are two files."""
    with pytest.raises(ValueError, match="expected default or opt-in"):
        rule_file(RuleOptions(), "all")  # type: ignore[arg-type]  # the mistake


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


# cost


def test_cost_multiplies_the_series_of_a_pool(capsys: pytest.CaptureFixture[str]) -> None:
    """1,000 instances with 4 pools of 140 series, every 15 s."""
    assert main(["cost", "--pods", "1000", "--pools", "4"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:3] == [
        "series of a pool:     140",
        "series in all:        560,000",
        "samples a second:     37,333.3",
    ]
    recorded = recorded_series(1000, 4)
    assert lines[3].startswith(f"recorded, at most:    {recorded.series:,} more by the rules")
    assert lines[4] == f"samples a second:     {recorded.samples_a_second:,.1f} of these"


def test_what_is_recorded_is_counted_by_level_and_label() -> None:
    """Each instance and pool has every series of its level; each pool those of a job, with their labels' values."""
    table = (ROOT / "docs" / "alerts.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `((\w+):sqlalchemy_pool_(\w+):\w+)` \| (\w*) \|$", table, flags=re.MULTILINE)
    assert len(rows) == len(RECORDINGS)
    of_label = {
        metric.labels[0]: len(metric.values) for metric in CATALOGUE if metric.values and metric.in_prometheus
    }
    buckets = {metric.name: len(metric.buckets) + 1 for metric in CATALOGUE if metric.kind == "histogram"}
    overdue = next(metric for metric in CATALOGUE if metric.name == "overdue_uses")
    of_label |= {"": 1, "server": 1, "kind": len(overdue.values)}  # other metrics have other kinds
    levels: dict[str, int] = {}
    for _, level, metric, label in rows:
        values = buckets[metric.removesuffix("_bucket")] if label == "le" else of_label[label]
        levels[level] = levels.get(level, 0) + values
    for pods, pools in ((1, 1), (7, 3)):
        assert recorded_series(pods, pools).series == (
            levels["instance_pool"] * pods * pools + levels["instance"] * pods + levels["job_pool"] * pools
        )


def test_what_is_recorded_is_written_at_its_groups_pace() -> None:
    """No series is written more often than every 30 s, and most of them are not written less often."""
    series, samples = recorded_series(1000, 4)
    assert series / 60 < samples < series / 30


def test_cost_knows_owners_detail_and_interval(capsys: pytest.CaptureFixture[str]) -> None:
    """Three series for each owner, the others are one more; basic detail has none."""
    main(["cost", "--pods", "1", "--pools", "1", "--owners", "30", "--interval", "1m"])
    assert "series in all:        203" in capsys.readouterr().out
    main(["cost", "--pods", "2", "--pools", "1", "--owners", "30", "--detail", "basic", "--interval", "1m"])
    assert "series in all:        120\nsamples a second:     2.0" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--pods", "0", "--pools", "1"), "--pods 0: out of range; from 1 to"),
        (("--pods", "1", "--pools", "-1"), "--pools -1: out of range"),
        (("--pods", "1", "--pools", "1", "--interval", "15"), "--interval '15': not a duration"),
        (("--pods", "1", "--pools", "1", "--interval", "10ms"), "--interval '10ms': out of range"),
    ],
)
def test_cost_refuses_what_makes_no_sense(
    arguments: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line names the option, the value and the range."""
    assert main(["cost", *arguments]) == 2
    assert said in capsys.readouterr().err
