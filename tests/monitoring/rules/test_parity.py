"""Check that the rules for both vocabularies are the same rules with other names."""

from __future__ import annotations

import re
from typing import Any

import pytest

from pool_exporter.catalogue import CATALOGUE
from pool_exporter.catalogue.vocabularies import OPENTELEMETRY, PROMETHEUS
from pool_exporter.monitoring.rules import RECORDINGS, RuleOptions, rule_file
from pool_exporter.monitoring.rules.options import DASHBOARD

WORD = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")


def in_prometheus_words() -> dict[str, str]:
    """Return what each word of the OpenTelemetry rules is in the other ones."""
    words = {OPENTELEMETRY.presence: PROMETHEUS.presence}
    for metric in CATALOGUE:
        if metric.in_prometheus:
            ends = ("_bucket", "_sum", "_count") if metric.kind == "histogram" else ("",)
            for end in ends:
                words[OPENTELEMETRY.metric(metric.name) + end] = PROMETHEUS.metric(metric.name) + end
        for label in ("pool", *metric.labels):
            words[OPENTELEMETRY.label(label)] = label
    here, there = RuleOptions().words, RuleOptions(vocabulary="opentelemetry").words
    words |= {one.name(there): one.name(here) for one in RECORDINGS.values()}
    return words


def translated(value: Any, words: dict[str, str]) -> Any:
    """Return a structure with every text in the other words."""
    if isinstance(value, dict):
        return {key: translated(one, words) for key, one in value.items()}
    if isinstance(value, list):
        return [translated(one, words) for one in value]
    if isinstance(value, str):
        return WORD.sub(lambda word: words.get(word[0], word[0]), value)
    return value


@pytest.mark.parametrize("which", ["default", "opt-in"])
def test_both_files_are_the_same_rules_with_other_names(which: Any) -> None:
    """Word by word the OpenTelemetry file becomes the Prometheus file, and no word is both."""
    there = rule_file(RuleOptions(vocabulary="opentelemetry"), which)
    here = rule_file(RuleOptions(), which)
    assert there != here
    for group in there["groups"]:
        group["name"] = group["name"].replace("db_client_connection_pool", "sqlalchemy_pool")
    for group in there["groups"]:
        for rule in group["rules"]:
            if "annotations" in rule:  # each set of rules leads to the dashboards of its own names
                url = rule["annotations"]["dashboard_url"]
                assert url.startswith(DASHBOARD + "-otel")
                rule["annotations"]["dashboard_url"] = url.replace("-otel", "", 1)
    assert translated(there, in_prometheus_words()) == here
