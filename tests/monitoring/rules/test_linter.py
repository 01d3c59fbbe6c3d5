"""Lint the rules, and check that the linter catches each kind of mistake."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from pool_exporter.catalogue.vocabularies import VOCABULARIES
from pool_exporter.monitoring.rules import RuleOptions, rule_file
from tests.monitoring.rules.linter import faults_in, queries_in

CHOICES: list[dict[str, Any]] = [
    {},
    {"group_by": ("cluster", "namespace", "job", "pool"), "selector": 'cluster="eu",job=~"shop-.*"'},
    {"time_scale": 60.0, "labels": {"team": "payments"}, "database_limit": 100},
]


@pytest.mark.parametrize("vocabulary", VOCABULARIES)
@pytest.mark.parametrize("which", ["default", "opt-in"])
@pytest.mark.parametrize("choice", CHOICES, ids=["defaults", "labels", "drill"])
def test_the_rules_have_no_fault(vocabulary: str, which: Any, choice: dict[str, Any]) -> None:
    """Every rule of every choice names what exists, guards its divisions and has what an alert must have."""
    content = rule_file(RuleOptions(vocabulary=vocabulary, **choice), which)
    assert faults_in(content, VOCABULARIES[vocabulary]) == []


def an_alert() -> dict[str, Any]:
    """Return an alert without a fault, and a recording rule before it."""
    content = rule_file(RuleOptions())
    (alert,) = [
        rule
        for group in content["groups"]
        for rule in group["rules"]
        if rule.get("alert") == "SQLAlchemyPoolLeakCollected"
    ]
    record = {
        "record": "job_pool:sqlalchemy_pool_connections:sum",
        "expr": "sum(sqlalchemy_pool_connections)",
    }
    return {"groups": [{"name": "one", "rules": [record, alert]}]}


def test_the_alert_that_the_mistakes_are_made_in_has_no_fault() -> None:
    """What the tests below find is what they put in."""
    assert faults_in(an_alert()) == []


@pytest.mark.parametrize(
    ("expression", "fault"),
    [
        ("sum by (job (", "does not parse"),
        ("sqlalchemy_pool_connectons > 1", "no series is called sqlalchemy_pool_connectons"),
        ("job_pool:sqlalchemy_pool_nothing:sum > 1", "no series is called job_pool:"),
        ("db_client_connection_count > 1", "no series is called db_client_connection_count"),
        ('sqlalchemy_pool_connections{phase="queued"} > 1', "has no label phase"),
        ('sqlalchemy_pool_connections{state="busy"} > 1', "never has state=busy"),
        ('sqlalchemy_pool_closes_total{reason=~"lost|gone"} > 1', "never has reason=gone"),
        ("sum by (job, pol) (sqlalchemy_pool_connections) > 1", "no series has the label pol"),
        ("up and on (jb) sqlalchemy_pool_connections", "no series has the label jb"),
        ("up * on (job) group_left (sever) sqlalchemy_pool_info", "no series has the label sever"),
        ("sqlalchemy_pool_connections / sqlalchemy_pool_connections_max > 1", "divides by what may be 0"),
        ("up / (sqlalchemy_pool_connections_max >= 0) > 1", "divides by what may be 0"),
        ("rate(sqlalchemy_pool_connections[5m]) > 0", "rate() of the gauge"),
        ("increase(job_pool:sqlalchemy_pool_acquires:rate5m[5m]) > 0", "increase() of the gauge"),
        ("rate(sqlalchemy_pool_acquires_total[5m:1m]) > 0", "rate() of a subquery"),
        ("sqlalchemy_pool_acquires_total > 5", "bare value of the counter"),
    ],
)
def test_a_mistake_in_an_expression_is_caught(expression: str, fault: str) -> None:
    """Each kind of mistake is found in an alert, and in a recording rule too."""
    content = an_alert()
    for rule in content["groups"][0]["rules"]:
        rule["expr"] = expression
    found = faults_in(content)
    assert len([one for one in found if fault in one]) >= 2, found


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"alert": "PoolLeak"}, "is not named SQLAlchemyPoolCamelCase"),
        ({"alert": "SQLAlchemyPool_leak"}, "is not named SQLAlchemyPoolCamelCase"),
        ({"alert": "SQLAlchemyPoolNobodyWroteAboutIt"}, "has no runbook"),
        ({"labels": {"severity": "page"}}, "has no severity"),
        ({"labels": {}}, "has no severity"),
        ({"summary": None}, "has no summary"),
        ({"description": None}, "has no description"),
        ({"runbook_url": None}, "has no runbook_url"),
        ({"dashboard_url": None}, "has no dashboard_url"),
        ({"summary": "{{ $value }} leaks"}, "has a summary that is not static"),
        ({"description": "A leak."}, "has a description that names nothing"),
        ({"runbook_url": "https://example.com/SQLAlchemyPoolStuck.md"}, "has no runbook"),
        (
            {
                "description": "{{ with query (printf `sum(sqlalchemy_pool_own{job=%q})` $labels.job) }}{{ end }}"
            },
            "no series is called sqlalchemy_pool_own",
        ),
    ],
)
def test_a_mistake_in_an_alert_is_caught(change: dict[str, Any], fault: str) -> None:
    """Each kind of mistake in a name, a label or an annotation is found."""
    content = copy.deepcopy(an_alert())
    alert = content["groups"][0]["rules"][1]
    for key, value in change.items():
        place = alert if key in ("alert", "labels") else alert["annotations"]
        place[key] = value
        if value is None:
            del place[key]
    assert any(fault in one for one in faults_in(content)), faults_in(content)


def test_a_recording_rule_with_a_bad_name_is_caught() -> None:
    """A recorded series is named level:metric:operation."""
    content = an_alert()
    content["groups"][0]["rules"][0]["record"] = "sqlalchemy_pool_connections_sum"
    assert faults_in(content) == ["sqlalchemy_pool_connections_sum: is not named level:metric:operation"]


def test_every_query_of_a_template_is_seen() -> None:
    """Each description asks who or where, and the linter takes these queries out of it."""
    asked = {
        rule["alert"]: len(queries_in(rule["annotations"]["description"]))
        for which in ("default", "opt-in")
        for group in rule_file(RuleOptions(), which)["groups"]  # type: ignore[arg-type]  # both are choices
        for rule in group["rules"]
        if "alert" in rule
    }
    assert min(asked.values()) >= 1
    assert asked["SQLAlchemyPoolExhaustedByLeak"] == 2
