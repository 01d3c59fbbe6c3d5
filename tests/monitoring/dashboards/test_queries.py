"""Every query of every dashboard, against a real Prometheus that scraped the real demo through every trouble."""

from __future__ import annotations

from typing import Any

import pytest

from pool_exporter.catalogue.vocabularies import VOCABULARIES
from pool_exporter.monitoring.dashboards import FROM_RECORDED, NAMES, Words, dashboard
from pool_exporter.monitoring.rules import RuleOptions
from tests.monitoring.dashboards.grafana import Choice, Series, answer, asked, choosing, options
from tests.monitoring.dashboards.linter import panels_of
from tests.monitoring.dashboards.oddities import AWKWARD
from tests.monitoring.dashboards.stage import EMPTY, GONE, JOBS, ODD, POOLS, TROUBLE_SECONDS, Play

Json = dict[str, Any]
HANGING_SECONDS = 0.5
"""A scrape that takes so long was answered by a process that had no turn."""
Plays = dict[str, Play]
Servers = dict[str, str]

FAULTS: dict[str, dict[str, list[tuple[str, str | None]]]] = {
    # dashboard: panel: scenarios that it shows, and the query by its legend, None for any
    "fleet": {
        "Leak or load, and what to do": [("leak", None), ("load", None), ("restart", None)],
        "Fullest pool": [("leak", None), ("load", None), ("stream", None), ("slow", None)],
        "Acquires that timed out": [("leak", None), ("load", None), ("stream", None)],
        "Wait, p99": [("load", None)],
        "Suspected leaks": [("leak", None), ("stream", None)],
        "State of each pool": [("leak", None), ("load", None), ("stream", None), ("restart", None)],
        "Pools": [
            ("leak", "Used"),
            ("leak", "Full"),
            ("leak", "Queued"),
            ("leak", "Oldest use"),
            ("leak", "Suspected"),
        ],
        "Alerts that fire": [("leak", None), ("stream", None)],
        "Fullness": [("leak", None), ("load", None)],
        "Pool timeouts": [("leak", None), ("load", None)],
        "Wait for a connection": [("load", "p50"), ("load", "p99")],
        "Database servers": [("leak", "Open")],
        "Against the database's limit": [("load", "open")],
    },
    "pool": {
        "Leak or load, and what to do": [("leak", None), ("load", None), ("restart", None)],
        "Fullness": [("leak", None), ("load", None)],
        "Callers queued": [("leak", None), ("load", None)],
        "Acquires that timed out": [("leak", None), ("load", None)],
        "Wait, p99": [("load", None)],
        "Slots": [("leak", "used"), ("leak", "queued"), ("load", "queued")],
        "Open connections": [("leak", "of these overflow"), ("load", "of these overflow")],
        "Wait and use": [("load", "wait p99"), ("load", "use p99")],
        "Callers in the queue": [("load", "queued now"), ("load", "queued, mean")],
        "Longest wait": [("leak", "longest wait now"), ("load", "longest wait now")],
        "Waits": [("load", None)],
        "Uses": [("load", None)],
        "Connects": [("restart", None), ("stale", None)],
        "Connections held by owner": [("leak", None), ("stream", None), ("slow", None)],
        "Owners": [("leak", "Holds"), ("leak", "On average")],
        "Acquires, checkouts and checkins": [("load", "acquires")],
        "Acquires without a connection": [("load", "timeouts"), ("restart", "failed")],
        "Connects and closes": [("stale", "connects"), ("restart", "closes")],
        "Closes by reason": [("stale", None), ("restart", None), ("collected", None)],
        "Connect errors and disconnects": [
            ("restart", "connect: {{error}}"),
            ("restart", "in use: {{error}}"),
        ],
        "Dead at the pre-ping": [("stale", None)],
        "What pre-pings cost": [("load", "in use, of those that came back")],
        "When connections die": [("stale", "age, p10"), ("stale", "idle, p10")],
    },
    "leak-hunt": {
        "Leak or load, and what to do": [("leak", None), ("load", None), ("restart", None)],
        "Suspected leaks": [("leak", None), ("stream", None)],
        "Oldest use": [("leak", None), ("stream", None)],
        "Collected a minute": [("collected", None)],
        "Leak or load, and since when": [("leak", None), ("load", None), ("stream", None)],
        "Who holds connections": [("leak", "Holds"), ("collected", "Leaks"), ("leak", "Leaks")],
        "Connections held by owner": [("leak", None), ("stream", None)],
        "Uses by age": [("leak", "1 min or older")],
        "Overdue uses by kind": [
            ("leak", "idle_in_transaction"),
            ("stream", "idle_in_transaction"),
            ("slow", "busy"),
        ],
        "Mean uses against explained uses": [("leak", "do not come back")],
        "New leaks by owner": [("leak", None), ("stream", None), ("collected", None)],
        "Suspected, recovered, collected": [
            ("leak", "suspected"),
            ("stream", "recovered"),
            ("collected", "collected"),
        ],
        "Oldest use and longest quiet": [("leak", "oldest use"), ("leak", "longest quiet")],
        "Floor of used": [("leak", "floor"), ("stream", "floor")],
    },
}
UNPLAYED = {"Configuration", "Orphaned, unaccounted, exempt"}
"""Panels about what no scenario of the demo does."""
INNOCENT = {
    # panel of the leak hunt: the queries that stay at 0, or away, without a leak
    "Suspected leaks": None,
    "Collected a minute": None,
    "New leaks by owner": None,
    "Uses by age": None,
    "Suspected, recovered, collected": None,
    "Overdue uses by kind": {"idle", "idle_in_transaction", "orphaned"},
}


DASHBOARDS = [*((name, False) for name in NAMES), *((name, True) for name in FROM_RECORDED)]
"""Every dashboard, and whether it is made of recorded series."""


def words_of(vocabulary: str, recorded: bool = False) -> Words:
    return Words(VOCABULARIES[vocabulary], recorded=recorded)


def panel_of(name: str, title: str, words: Words) -> Json:
    return next(one for one in panels_of(dashboard(name, words)) if one["title"] == title)


def during(play: Play, healthy: bool) -> tuple[float, float]:
    """Return the part of a play in which the application was healthy, or in trouble."""
    if healthy:
        return play.healthy_from + 2, play.healthy_to
    return play.trouble_from, play.trouble_to - 1


def whole(plays: Plays) -> tuple[float, float]:
    return min(play.healthy_from for play in plays.values()), max(
        play.trouble_to for play in plays.values()
    ) - 1


def test_alerts_lead_to_the_dashboard_of_a_pool() -> None:
    """The address in the annotations of the rules ends with the uid of the dashboard that is about one pool."""
    assert RuleOptions().dashboard.endswith("/d/" + dashboard("pool", Words())["uid"])


CHOICES = {
    "one": {"job": [JOBS["leak"]], "pool": [POOLS[JOBS["leak"]]]},
    "several": {"job": [JOBS["leak"], JOBS["load"]], "instance": [f"{JOBS['leak']}-1", f"{JOBS['load']}-1"]},
    "all": {},
}


@pytest.mark.parametrize("chosen", CHOICES)
@pytest.mark.parametrize(("name", "recorded"), DASHBOARDS)
@pytest.mark.parametrize("vocabulary", VOCABULARIES)
def test_every_query_is_answered(
    servers: Servers, plays: Plays, vocabulary: str, name: str, recorded: bool, chosen: str
) -> None:
    """With one, several and all values chosen each query succeeds; of all, each gives something."""
    words = words_of(vocabulary, recorded)
    start, end = whole(plays)
    silent = []
    for panel in panels_of(dashboard(name, words)):
        for target in panel["targets"]:
            found = answer(servers[vocabulary], target, choosing(words, **CHOICES[chosen]), start, end)
            if not found:
                silent.append((panel["title"], target["legendFormat"]))
    if chosen == "all":
        assert silent == []


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("vocabulary", VOCABULARIES)
def test_every_annotation_is_answered(servers: Servers, plays: Plays, vocabulary: str, name: str) -> None:
    """Alerts fired and processes started; the value of a start is the time of it, in milliseconds."""
    words = words_of(vocabulary)
    start, end = whole(plays)
    found = {
        annotation["name"]: answer(servers[vocabulary], annotation["target"], choosing(words), start, end)
        for annotation in dashboard(name, words)["annotations"]["list"]
        if annotation["datasource"]["type"] == "prometheus"
    }
    assert {one.labels["alertname"] for one in found["Alerts"]} >= {"SQLAlchemyPoolExhaustedByLeak"}
    starts = [one for one in found["Restarts"] if one.labels["job"] == JOBS["leak"]]
    times = sorted({value / 1000 for one in starts for value in one.values.values()})
    play = plays[JOBS["leak"]]
    assert len(times) == 2
    assert play.healthy_from - 10 < times[0] <= play.healthy_from
    assert play.healthy_to <= times[1] <= play.trouble_from


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("vocabulary", VOCABULARIES)
def test_every_variable_offers_what_there_is(
    servers: Servers, plays: Plays, vocabulary: str, name: str
) -> None:
    """Of the jobs with pools all are offered; of instances and pools, those of the job that is chosen."""
    words = words_of(vocabulary)
    variables = {one["name"]: one for one in dashboard(name, words)["templating"]["list"]}

    def offered(variable: str, choice: Choice) -> list[str]:
        return options(servers[vocabulary], variables[variable], choice, *whole(plays))

    assert set(offered("job", choosing(words))) == {*JOBS.values(), ODD}
    one = choosing(words, job=[ODD])
    assert offered("instance", one) == [f"{ODD}-1"]
    assert set(offered("pool", one)) == {AWKWARD, "null", "endless", "impatient"}
    assert offered("pool", choosing(words, job=[EMPTY, GONE])) == []


@pytest.mark.parametrize(("name", "recorded"), DASHBOARDS)
@pytest.mark.parametrize("vocabulary", VOCABULARIES)
def test_a_job_without_pools_shows_nothing_and_breaks_nothing(
    servers: Servers, plays: Plays, vocabulary: str, name: str, recorded: bool
) -> None:
    """Of an instance with no data, and of one that is gone, each query is answered with nothing."""
    words = words_of(vocabulary, recorded)
    for panel in panels_of(dashboard(name, words)):
        for target in panel["targets"]:
            found = answer(servers[vocabulary], target, choosing(words, job=[EMPTY, GONE]), *whole(plays))
            of_pools = [one for one in found if "SQLAlchemyPool" not in one.labels.get("alertname", "")]
            assert of_pools == [] or target["expr"] == "vector($limit)", (
                panel["title"],
                target["legendFormat"],
            )


@pytest.mark.parametrize(("name", "recorded"), DASHBOARDS)
@pytest.mark.parametrize("vocabulary", VOCABULARIES)
def test_a_pool_with_an_awkward_name_is_found_alone(
    servers: Servers, plays: Plays, vocabulary: str, name: str, recorded: bool
) -> None:
    """Quotes, backslashes, dollars, braces and Unicode in the chosen pool's name select that pool."""
    words = words_of(vocabulary, recorded)
    choice = choosing(words, pool=[AWKWARD])
    label = words.vocabulary.label("pool")
    named = set()
    for panel in panels_of(dashboard(name, words)):
        for target in panel["targets"]:
            named |= {
                one.labels[label]
                for one in answer(servers[vocabulary], target, choice, *whole(plays))
                if label in one.labels
            }
    assert named == {AWKWARD}


@pytest.mark.parametrize("pool", ["null", "endless"])
def test_a_pool_without_a_limit_has_no_maximum(servers: Servers, plays: Plays, pool: str) -> None:
    """NullPool, and a QueuePool with unlimited overflow, show their uses, and no maximum or fullness."""
    words = words_of("prometheus")
    choice = choosing(words, job=[ODD], pool=[pool])
    found = {
        (title, target["legendFormat"]): answer(servers["prometheus"], target, choice, *whole(plays))
        for title in ("Fullness", "Slots", "Owners")
        for target in panel_of("pool", title, words)["targets"]
    }
    assert [key for key, series in found.items() if not series] == [("Fullness", "full"), ("Slots", "max")]
    (state,) = answer(
        servers["prometheus"],
        panel_of("fleet", "State of each pool", words)["targets"][0],
        choice,
        *whole(plays),
    )
    assert set(state.values.values()) == {0}


def strength(panel: Json, target: Json, series: list[Series]) -> float:
    """Return how much of a fault one answer shows: the largest value, of a heatmap the largest tail."""
    if panel["type"] != "heatmap":
        return max((one.highest for one in series), default=0)
    buckets = {one.labels["le"]: one for one in series}
    low, everything = buckets.get("0.05"), buckets.get("+Inf")
    if low is None or everything is None:
        return 0
    if panel["title"] == "Connects":
        return everything.highest
    return max(everything.values[time] - low.values[time] for time in everything.values)


CASES = [
    (name, title, scenario, legend)
    for name, panels in FAULTS.items()
    for title, shown in panels.items()
    for scenario, legend in shown
]


@pytest.mark.parametrize("vocabulary", VOCABULARIES)
@pytest.mark.parametrize(("name", "title", "scenario", "legend"), CASES)
def test_a_panel_shows_its_fault(
    servers: Servers, plays: Plays, vocabulary: str, name: str, title: str, scenario: str, legend: str | None
) -> None:
    """What a panel is about is more while its trouble lasts than while the same application was healthy."""
    words = words_of(vocabulary)
    panel = panel_of(name, title, words)
    job = JOBS[scenario]
    choice = choosing(words, job=[job])
    wanted = (
        None if legend is None else legend.replace("{{error}}", f"{{{{{words.vocabulary.label('error')}}}}}")
    )
    targets = [target for target in panel["targets"] if wanted in (None, target["legendFormat"])]
    assert targets
    for target in targets:
        course = {**target, "instant": False}  # of what shows the present, every present there was
        calm, troubled = (
            strength(panel, target, answer(servers[vocabulary], course, choice, *during(plays[job], healthy)))
            for healthy in (True, False)
        )
        assert troubled > calm, target["legendFormat"]


@pytest.mark.parametrize("name", NAMES)
def test_every_panel_is_played(name: str) -> None:
    """Each panel has a scenario that shows what it is for, or is about none of them."""
    titles = {panel["title"] for panel in panels_of(dashboard(name, Words()))}
    assert titles - UNPLAYED == FAULTS[name].keys()


def hung(server: str, play: Play, job: str) -> bool:
    """Return whether an application hung while in trouble, because the machine had no time for it.

    Then its honest transactions were idle for longer than the demo's policy allows, and suspecting them was right.
    """
    query = f'max_over_time(scrape_duration_seconds{{job="{job}"}}[{TROUBLE_SECONDS}s])'
    (found,) = asked(server, "query", query=query, time=play.trouble_to)["result"]
    return float(found["value"][1]) > HANGING_SECONDS


def unrecovered(server: str, play: Play, job: str) -> float:
    """Return how many suspected uses had not come back when an application's trouble ended."""
    suspected, recovered = (
        asked(
            server,
            "query",
            query=f'sum(sqlalchemy_pool_leaks_{what}_total{{job="{job}"}})',
            time=play.trouble_to - 1,
        )
        for what in ("suspected", "recovered")
    )
    return float(suspected["result"][0]["value"][1]) - float(recovered["result"][0]["value"][1])


@pytest.mark.parametrize("scenario", ["leak", "stream", "collected"])
def test_the_leaks_of_an_owner_are_those_that_its_process_counted(
    servers: Servers, plays: Plays, scenario: str
) -> None:
    """The process counts from 0 within the time shown; of many, the estimate that `increase` is may be a little more."""
    words, job = words_of("prometheus"), JOBS[scenario]
    (target,) = (
        one
        for one in panel_of("leak-hunt", "Who holds connections", words)["targets"]
        if one["legendFormat"] == "Leaks"
    )
    start, end = whole(plays)
    found = answer(servers["prometheus"], target, choosing(words, job=[job]), start, end)
    query = f'sqlalchemy_pool_owner_leaks_total{{job="{job}"}}'
    counted = asked(servers["prometheus"], "query", query=query, time=end)["result"]
    leaks = {one.labels["owner"]: one.highest for one in found}
    assert max(leaks.values()) >= 10
    for one in counted:
        real = float(one["value"][1])
        assert leaks[one["metric"]["owner"]] == pytest.approx(real, abs=0 if real <= 10 else 0.05 * real)


@pytest.mark.parametrize("scenario", ["healthy", "load", "slow", "restart", "stale"])
@pytest.mark.parametrize("title", INNOCENT)
def test_no_leak_is_shown_without_one(servers: Servers, plays: Plays, title: str, scenario: str) -> None:
    """Under load, slow statements, restarts and stale connections the leak hunt stays quiet.

    Where the machine let an application hang, what was suspected meanwhile has come back.
    """
    words = words_of("prometheus")
    panel = panel_of("leak-hunt", title, words)
    job = JOBS[scenario]
    for target in panel["targets"]:
        only = INNOCENT[title]
        if only is None or target["legendFormat"] in only:
            found = answer(
                servers["prometheus"], target, choosing(words, job=[job]), *during(plays[job], False)
            )
            if strength(panel, target, found) != 0:
                assert hung(servers["prometheus"], plays[job], job), target["legendFormat"]
                assert unrecovered(servers["prometheus"], plays[job], job) == 0, target["legendFormat"]


@pytest.mark.parametrize(
    ("scenario", "state"),
    [("leak", 5), ("stream", 5), ("collected", 4), ("load", 2), ("restart", 3), ("healthy", 0)],
)
def test_the_state_says_leak_or_load(servers: Servers, plays: Plays, scenario: str, state: int) -> None:
    """The worst state of each application is the one that its trouble makes."""
    words = words_of("prometheus")
    (target,) = panel_of("leak-hunt", "Leak or load, and since when", words)["targets"]
    job = JOBS[scenario]
    (series,) = answer(servers["prometheus"], target, choosing(words, job=[job]), *during(plays[job], False))
    if scenario == "load" and hung(servers["prometheus"], plays[job], job):
        values = sorted(series.values.values())
        assert values[len(values) * 9 // 10] == state  # but for moments, it is load
    else:
        assert series.highest == state
