"""Find what is wrong with a rule file: names, annotations, expressions and the queries in templates."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from pool_exporter.catalogue.vocabularies import PROMETHEUS, Vocabulary
from pool_exporter.monitoring.rules import PREFIX
from tests.monitoring.rules.queries import counters_outside_of_rates, faults_of
from tests.support import ROOT

RUNBOOKS = ROOT / "alerts" / "runbooks"
ANNOTATIONS = {"summary", "description", "runbook_url", "dashboard_url"}
SEVERITIES = {"critical", "warning", "info"}
RECORD = re.compile(r"[a-z_]+:[a-z_]+:(?:sum|max|count|ratio|rate5m)")
ALERT = re.compile(PREFIX + r"(?:[A-Z][a-z]+)+")
QUERY = re.compile(r"query \((?:printf|print) `([^`]*)`")


def queries_in(template: str) -> list[str]:
    """Return the queries that a template asks, as if every label of the alert were `x`."""
    return [found.replace("%q", '"x"').replace("%%", "%") for found in QUERY.findall(template)]


def faults_in(content: dict[str, Any], vocabulary: Vocabulary = PROMETHEUS) -> list[str]:
    """Return what is wrong with a rule file, each with the rule's name."""
    faults = []
    for group in content["groups"]:
        for rule in group["rules"]:
            name = rule.get("alert") or rule.get("record") or "a rule without a name"
            check = _of_alert if "alert" in rule else _of_recording
            faults += [f"{name}: {fault}" for fault in check(rule, vocabulary)]
    return faults


def _of_recording(rule: dict[str, Any], vocabulary: Vocabulary) -> Iterator[str]:
    if not RECORD.fullmatch(rule.get("record", "")):
        yield "is not named level:metric:operation"
    yield from _of_expression(rule["expr"], vocabulary)


def _of_alert(rule: dict[str, Any], vocabulary: Vocabulary) -> Iterator[str]:
    if not ALERT.fullmatch(rule["alert"]):
        yield f"is not named {PREFIX}CamelCase"
    if rule.get("labels", {}).get("severity") not in SEVERITIES:
        yield "has no severity of critical, warning or info"
    annotations = rule.get("annotations", {})
    for missing in sorted(ANNOTATIONS - annotations.keys()):
        yield f"has no {missing}"
    if "{{" in annotations.get("summary", ""):
        yield "has a summary that is not static"
    if "{{" not in annotations.get("description", "{{"):
        yield "has a description that names nothing"
    page = annotations.get("runbook_url", "").rpartition("/")[2]
    if page != f"{rule['alert']}.md" or not (RUNBOOKS / page).is_file():
        yield f"has no runbook {page}"
    yield from _of_expression(rule["expr"], vocabulary)
    for template in annotations.values():
        for query in queries_in(template):
            for fault in faults_of(query, vocabulary):
                yield f"asks in a template what is wrong: {fault}: {query}"


def _of_expression(expression: str, vocabulary: Vocabulary) -> Iterator[str]:
    faults = list(faults_of(expression, vocabulary))
    yield from faults
    if not any(fault.startswith("does not parse") for fault in faults):
        yield from counters_outside_of_rates(expression, vocabulary)
