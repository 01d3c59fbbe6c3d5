"""The fleet's dashboard of recorded series says what the one of scraped series says, and reads nothing else."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any

import pytest

from pool_exporter.catalogue.vocabularies import VOCABULARIES
from pool_exporter.monitoring.dashboards import FROM_RECORDED, dashboard
from pool_exporter.monitoring.rules import RuleOptions, rule_file
from tests.monitoring.dashboards.expressions import selected
from tests.monitoring.dashboards.grafana import (
    SCRAPE_SECONDS,
    Choice,
    Series,
    answer,
    asked,
    choosing,
    options,
    substituted,
)
from tests.monitoring.dashboards.linter import panels_of
from tests.monitoring.dashboards.stage import JOBS, ODD, TIME_SCALE
from tests.monitoring.dashboards.test_queries import Plays, Servers, during, whole, words_of

Json = dict[str, Any]
ELSEWHERE = {"ALERTS"}
"""What is neither scraped nor recorded: Prometheus writes it of the alerts."""
RATE_SECONDS = 300 / TIME_SCALE
"""The window of a recorded rate in the play."""
LATE_SECONDS = 2 * 60 / TIME_SCALE + SCRAPE_SECONDS
"""How old what a recorded value of the play is made of may be: histograms are recorded each minute, and a busy
machine leaves one evaluation out."""
STEP_SECONDS = 0.5
STATES = {"leak": 5, "load": 2, "healthy": 0}
"""The state of the application that plays a scenario, while the others are in trouble too."""
ALWAYS = {
    *(
        "Leak or load, and what to do",
        "Fullest pool",
        "Acquires that timed out",
        "Wait, p99",
        "Suspected leaks",
    ),
    *("State of each pool", "Pools", "Fullness", "Wait for a connection", "Database servers"),
    "Against the database's limit",
}
"""Panels that say something of every pool; the others, of one in trouble."""


def queries_of(made: Json) -> Iterator[str]:
    """Yield each query of a dashboard: of its panels, annotations and variables."""
    for panel in panels_of(made):
        yield from (target["expr"] for target in panel["targets"])
    yield from (one["target"]["expr"] for one in made["annotations"]["list"] if "expr" in one["target"])
    for variable in made["templating"]["list"]:
        found = re.fullmatch(r"label_values\((.+), \w+\)", str(variable.get("query")))
        if found:
            yield found[1]


@pytest.mark.parametrize("name", FROM_RECORDED)
@pytest.mark.parametrize("vocabulary", VOCABULARIES)
def test_no_query_reads_a_scraped_series(vocabulary: str, name: str) -> None:
    """Panels, annotations and variables read what the default rules record for each pool of a job, and alerts."""
    rules = [
        rule for group in rule_file(RuleOptions(vocabulary=vocabulary))["groups"] for rule in group["rules"]
    ]
    recorded = {rule["record"] for rule in rules if rule.get("record", "").startswith("job_pool:")}
    read = [
        selected(query) - ELSEWHERE
        for query in queries_of(dashboard(name, words_of(vocabulary, recorded=True)))
    ]
    assert sum(bool(one) for one in read) >= 25
    assert set().union(*read) - recorded == set()


def scraped_course(
    server: str, target: Json, choice: Choice, start: float, end: float, window: float
) -> list[Series]:
    """Return what a query of scraped series gives with a window of its rates, at every moment there was."""
    expr = target["expr"].replace("$__rate_interval", f"{window * 1000:.0f}ms")
    expr = substituted(expr, choice, seconds=end - start)
    data = asked(server, "query_range", query=expr, start=start - LATE_SECONDS, end=end, step=STEP_SECONDS)
    return [
        Series(one["metric"], {float(time): float(value) for time, value in one["values"]})
        for one in data["result"]
    ]


def bounds(courses: list[Series], labels: dict[str, str], moment: float) -> tuple[float, float] | None:
    """Return the least and the most that was so shortly before a moment, None if nothing was."""
    found = [
        value
        for one in courses
        if one.labels == labels
        for time, value in one.values.items()
        if moment - LATE_SECONDS <= time <= moment and not math.isnan(value)
    ]
    return (min(found), max(found)) if found else None


def differing(
    server: str, scraped: Json, recorded: Json, job: str, vocabulary: str, start: float, end: float
) -> tuple[int, list[str]]:
    """Return how many recorded values were compared, and those that no scraped value explains.

    A recorded rate is over five minutes, and was true when the rules were last evaluated.
    """
    raw, own = (choosing(words_of(vocabulary, one), job=[job]) for one in (False, True))
    courses = [
        one
        for window in (RATE_SECONDS, 4 * SCRAPE_SECONDS, SCRAPE_SECONDS)
        for one in scraped_course(server, scraped, raw, start, end, window)
    ]
    course = {**recorded, "instant": False}
    compared, wrong = 0, []
    for series in answer(server, course, own, start, end):
        for moment, value in series.values.items():
            if math.isnan(value):
                continue
            compared += 1
            found = bounds(courses, series.labels, moment)
            slack = 0.02 * max(map(abs, found)) if found else 0
            if found is None or not found[0] - slack <= value <= found[1] + slack:
                wrong.append(f"{series.labels} at {moment - start:.1f}: {value}, scraped {found}")
    return compared, wrong


def phase(plays: Plays, name: str) -> tuple[str, float, float]:
    """Return the application of a phase and its time, from when rates are of it alone."""
    start, end = during(plays[JOBS[name]], False)
    return JOBS[name], start + RATE_SECONDS, end


@pytest.mark.parametrize("name", STATES)
@pytest.mark.parametrize("vocabulary", VOCABULARIES)
def test_recorded_panels_say_what_scraped_ones_say(
    servers: Servers, plays: Plays, vocabulary: str, name: str
) -> None:
    """Each value lies between those that the scraped series gave since the rules were evaluated before."""
    job, start, end = phase(plays, name)
    silent = []
    pairs = zip(
        panels_of(dashboard("fleet", words_of(vocabulary))),
        panels_of(dashboard("fleet", words_of(vocabulary, recorded=True))),
        strict=True,
    )
    for panel, own in pairs:
        assert panel["title"] == own["title"]
        for scraped, recorded in zip(panel["targets"], own["targets"], strict=True):
            compared, wrong = differing(servers[vocabulary], scraped, recorded, job, vocabulary, start, end)
            # A scrape or an evaluation that a busy machine puts off moves single points.
            assert len(wrong) <= compared // 20, (panel["title"], recorded["legendFormat"], wrong)
            if not compared:
                silent.append(panel["title"])
    assert set(silent) & ALWAYS == set()
    if name == "leak":
        assert silent == []


@pytest.mark.parametrize("name", STATES)
@pytest.mark.parametrize("vocabulary", VOCABULARIES)
def test_recorded_states_are_those_of_the_phases(
    servers: Servers, plays: Plays, vocabulary: str, name: str
) -> None:
    """Leak, load and health are the state most of the time, by the verdict and by the bars."""
    job, start, end = phase(plays, name)
    words = words_of(vocabulary, recorded=True)
    panels = {panel["title"]: panel for panel in panels_of(dashboard("fleet", words))}
    for title in ("State of each pool", "Leak or load, and what to do"):
        course = {**panels[title]["targets"][0], "instant": False}
        (series,) = answer(servers[vocabulary], course, choosing(words, job=[job]), start, end)
        values = sorted(series.values.values())
        assert values[len(values) // 2] == STATES[name], title


@pytest.mark.parametrize("vocabulary", VOCABULARIES)
def test_recorded_series_offer_the_same_choice(servers: Servers, plays: Plays, vocabulary: str) -> None:
    """All jobs with pools are offered, and of one its pools; there is no instance to choose."""
    offered = {}
    for recorded in (False, True):
        words = words_of(vocabulary, recorded)
        variables = {one["name"]: one for one in dashboard("fleet", words)["templating"]["list"]}
        offered[recorded] = {
            (name, job): sorted(
                options(servers[vocabulary], variables[name], choosing(words, job=[job]), *whole(plays))
            )
            for name in ("job", "pool")
            for job in (JOBS["leak"], ODD)
        }
    assert offered[True] == offered[False]
    assert len(offered[True]["pool", ODD]) == 4
    assert "instance" not in variables


@pytest.mark.parametrize("vocabulary", VOCABULARIES)
def test_recorded_starts_are_those_of_the_processes(servers: Servers, plays: Plays, vocabulary: str) -> None:
    """Each process of an application that was restarted is marked at the time when it started."""
    found = {}
    for recorded in (False, True):
        words = words_of(vocabulary, recorded)
        (starts,) = (
            one for one in dashboard("fleet", words)["annotations"]["list"] if one["name"] == "Restarts"
        )
        choice = choosing(words, job=[JOBS["leak"]])
        answers = answer(servers[vocabulary], starts["target"], choice, *whole(plays))
        found[recorded] = {value for one in answers for value in one.values.values()}
    assert len(found[True]) == 2
    assert found[True] == found[False]
