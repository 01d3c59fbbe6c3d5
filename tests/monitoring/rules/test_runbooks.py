"""Check the runbooks: a page for each alert, with its sections, and two queries that can be asked."""

from __future__ import annotations

import re

import pytest

from pool_exporter.monitoring.rules import ALERTS, SETTINGS, RuleOptions, rule_file
from pool_exporter.monitoring.rules.options import RUNBOOKS
from pool_exporter.monitoring.rules.standard import STANDARD
from tests.monitoring.rules.queries import faults_of
from tests.support import ROOT

PAGES = ROOT / "alerts" / "runbooks"
SECTIONS = ["What it means", "Confirm it", "Likely causes", "Cure", "When to ignore it"]
NAMES = [alert.full_name for alert in ALERTS.values()]
CURES = ("**The code change**", "**The setting**", "**The operation**")


def sections_of(name: str) -> dict[str, str]:
    """Return the sections of a page by their heading."""
    parts = re.split(r"^## (.*)\n", (PAGES / f"{name}.md").read_text(encoding="utf-8"), flags=re.MULTILINE)[
        1:
    ]
    return dict(zip(parts[::2], parts[1::2], strict=True))


def test_there_is_a_page_for_each_alert_and_no_other() -> None:
    """No alert goes without a runbook, and no runbook is about nothing."""
    assert sorted(path.stem for path in PAGES.glob("*.md")) == sorted(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_page_has_its_sections_in_order(name: str) -> None:
    """Each page has the same five sections, each says something, and the causes are in order."""
    sections = sections_of(name)
    assert list(sections) == SECTIONS
    assert all(len(text.strip()) > 20 for text in sections.values())
    numbers = re.findall(r"^(\d)\. ", sections["Likely causes"], flags=re.MULTILINE)
    assert numbers == [str(number) for number in range(1, len(numbers) + 1)]
    assert numbers
    assert any(cure in sections["Cure"] for cure in CURES)


@pytest.mark.parametrize("name", NAMES)
def test_the_two_queries_of_a_page_can_be_asked(name: str) -> None:
    """They parse, and name series and labels that there are."""
    queries = re.findall(r"```promql\n(.*?)\n```", sections_of(name)["Confirm it"], flags=re.DOTALL)
    assert len(queries) == 2
    for query in queries:
        assert list(faults_of(query)) == [], query


@pytest.mark.parametrize("name", NAMES)
def test_a_page_knows_its_alerts_severity_and_file(name: str) -> None:
    """What the head of the page says is what the rules have."""
    text = (PAGES / f"{name}.md").read_text(encoding="utf-8")
    (alert,) = (one for one in ALERTS.values() if one.full_name == name)
    file = "default" if alert in STANDARD else "opt-in"
    assert text.startswith(f"# {name}\n\nSeverity: {alert.severity}. In the {file} file.")


@pytest.mark.parametrize("name", NAMES)
def test_the_settings_and_metrics_that_a_page_names_exist(name: str) -> None:
    """A setting in the text is one, and so is a metric, in a query or not."""
    text = (PAGES / f"{name}.md").read_text(encoding="utf-8")
    for alert, setting in re.findall(r"`(\w+)\.(\w+)`", text):
        if alert in (*ALERTS, "Full"):
            assert f"{alert}.{setting}" in SETTINGS
    for metric in re.findall(r"`(sqlalchemy_pool_\w+(?:\{[^}]*\})?)`", text):
        if not metric.endswith("_"):
            assert list(faults_of(metric)) == []


@pytest.mark.parametrize("which", ["default", "opt-in"])
def test_the_url_of_an_alert_ends_in_its_page(which: str) -> None:
    """Wherever the pages are put, the address is the base and the page's name."""
    rules = [
        rule
        for group in rule_file(RuleOptions(), which)["groups"]  # type: ignore[arg-type]  # a choice
        for rule in group["rules"]
        if "alert" in rule
    ]
    for rule in rules:
        assert rule["annotations"]["runbook_url"] == f"{RUNBOOKS}/{rule['alert']}.md"
        assert (PAGES / f"{rule['alert']}.md").is_file()
    assert rules


def test_nobody_is_told_that_something_is_no_leak() -> None:
    """What is held for less than the LeakPolicy looks like work: neither a page nor an annotation may deny a leak."""
    texts = [path.read_text(encoding="utf-8") for path in PAGES.glob("*.md")]
    for which in ("default", "opt-in"):
        groups = rule_file(RuleOptions(), which)["groups"]  # type: ignore[arg-type]  # a choice
        texts += [str(rule["annotations"]) for group in groups for rule in group["rules"] if "alert" in rule]
    assert len(texts) == 2 * len(NAMES)
    assert [text for text in texts if re.search(r"(not a|no)\s+leak\b", text)] == []
