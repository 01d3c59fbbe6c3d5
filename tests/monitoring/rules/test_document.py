"""Check what docs/alerts.md says of the rules against the rules."""

from __future__ import annotations

import argparse
import re
from typing import Any

import promql_parser

from pool_exporter.catalogue import prometheus_metrics
from pool_exporter.cli import alerts
from pool_exporter.monitoring.rules import RECORDINGS, RuleOptions, rule_file
from pool_exporter.monitoring.rules.checking import DATABASE_LIMIT
from tests.monitoring.rules.queries import FOREIGN, nodes_of
from tests.robustness.test_reduced_mode import UNKNOWN
from tests.support import ROOT

TEXT = (ROOT / "docs" / "alerts.md").read_text(encoding="utf-8")


def rules_of(which: Any) -> list[dict[str, Any]]:
    return [rule for group in rule_file(RuleOptions(), which)["groups"] for rule in group["rules"]]


EXPRESSIONS = {rule["record"]: rule["expr"] for rule in rules_of("default") if "record" in rule}


def series_in(expression: str) -> set[str]:
    """Return the series that an expression names."""
    return {
        node.name
        for node in nodes_of(promql_parser.parse(expression))
        if isinstance(node, promql_parser.VectorSelector)
    }


def scraped_for(expression: str) -> set[str]:
    """Return the scraped series that an expression stands on, through what is recorded."""
    found: set[str] = set()
    for name in series_in(expression):
        found |= scraped_for(EXPRESSIONS[name]) if name in EXPRESSIONS else {name}
    return found


def alerts_named_in(sentence: str) -> set[str]:
    """Return the alerts that the sentence of the document names, which begins and ends so."""
    begin, end = sentence.split("…")
    part = TEXT[TEXT.index(begin) : TEXT.index(end, TEXT.index(begin))]
    return set(re.findall(r"[A-Z][a-z]+(?:[A-Z][a-z]+)+|Timeouts|Stuck", part))


def short(rule: dict[str, Any]) -> str:
    return str(rule["alert"]).removeprefix("SQLAlchemyPool")


def test_the_alerts_that_need_recorded_series_alone_are_those() -> None:
    """What a centre gets by the remote_write of the document is enough for the alerts that it names."""
    enough = EXPRESSIONS.keys() | FOREIGN.keys() | {"up"}
    every = [rule for which in ("default", "opt-in") for rule in rules_of(which) if "alert" in rule]
    satisfied = {short(rule) for rule in every if series_in(rule["expr"]) <= enough}
    assert alerts_named_in("ExhaustedByLeak, ExhaustedByLoad, LeakIdle…need no more") == satisfied
    (pattern,) = re.findall(r'regex: "(.*)"', TEXT)
    assert all(re.fullmatch(pattern, name) for name in {*EXPRESSIONS, "up", "ALERTS", DATABASE_LIMIT})
    assert not re.fullmatch(pattern, "sqlalchemy_pool_acquires_total")


def test_the_alerts_that_work_with_basic_detail_are_those() -> None:
    """The default ones have their series with it, and of the opt-in ones those that the document names."""
    basic = {metric.prometheus_name for metric in prometheus_metrics("basic")}
    # Without these a rule still says the same: nothing is lost, detached or young.
    spared = {
        f"sqlalchemy_pool_{name}" for name in ("unaccounted_slots", "detaches_total", "start_time_seconds")
    }

    def works(rule: dict[str, Any]) -> bool:
        left = scraped_for(rule["expr"]) - basic - FOREIGN.keys() - {"up"}
        return left <= spared and not scraped_for(rule["expr"]) <= spared

    default, opted = ([one for one in rules_of(which) if "alert" in one] for which in ("default", "opt-in"))
    assert all(works(rule) for rule in default)
    named = alerts_named_in("of the opt-in file Timeouts…the others not")
    assert named == {short(rule) for rule in opted if works(rule)}


def is_empty(node: Any, absent: set[str]) -> bool:
    """Tell whether an expression gives nothing for certain, where these scraped series are absent."""
    if isinstance(node, promql_parser.BinaryExpr):
        left, right = (is_empty(one, absent) for one in (node.lhs, node.rhs))
        if str(node.op) == "or":
            return left and right
        return left if str(node.op) == "unless" else left or right
    if isinstance(node, promql_parser.Call):
        return any(is_empty(one, absent) for one in node.args)
    if isinstance(node, promql_parser.MatrixSelector):
        return is_empty(node.vector_selector, absent)
    if isinstance(node, promql_parser.VectorSelector):
        if node.name in EXPRESSIONS:
            return is_empty(promql_parser.parse(EXPRESSIONS[node.name]), absent)
        return node.name in absent
    return hasattr(node, "expr") and is_empty(node.expr, absent)


def test_the_alerts_that_cannot_fire_in_reduced_mode_are_those() -> None:
    """Without the series of acquires these are silent, and no others."""
    absent = set()
    for metric in prometheus_metrics("full"):
        if metric.field in UNKNOWN:
            ends = ("_bucket", "_sum", "_count") if metric.kind == "histogram" else ("",)
            absent |= {metric.prometheus_name + end for end in ends}
    every = [rule for which in ("default", "opt-in") for rule in rules_of(which) if "alert" in rule]
    silent = {short(rule) for rule in every if is_empty(promql_parser.parse(rule["expr"]), absent)}
    assert alerts_named_in("they get: ExhaustedByLeak…have no series and never fire") == silent


def test_every_option_is_in_the_table() -> None:
    """The option table names every option of the command."""
    parser = argparse.ArgumentParser(add_help=False)
    alerts.add_arguments(parser)
    options = [option for action in parser._actions for option in action.option_strings]
    table = TEXT[TEXT.index("## Options") : TEXT.index("### Thresholds")]
    assert len(options) >= 14
    assert [option for option in options if f"`{option}" not in table] == []


def test_recorded_series_that_the_document_names_exist() -> None:
    """A recorded name is one that the rules write, in one vocabulary or the other."""
    words = [RuleOptions(vocabulary=name).words for name in ("prometheus", "opentelemetry")]
    known = {one.name(spelled) for spelled in words for one in RECORDINGS.values()}
    named = re.findall(r"`((?:instance|instance_pool|job_pool):[a-z_]+:[a-z0-9]+)`", TEXT)
    assert len(named) > len(RECORDINGS)
    assert set(named) <= known
