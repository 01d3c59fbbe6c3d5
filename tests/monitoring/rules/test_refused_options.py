"""Check that an option that makes no sense is refused in one line that names the remedy."""

from __future__ import annotations

from typing import Any

import pytest

from pool_exporter.cli import main
from pool_exporter.monitoring.rules import RuleOptions, rule_file


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Run the command, which must fail before it prints a rule, and return its one line of error."""
    assert main(["alerts", *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    return captured.err


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
