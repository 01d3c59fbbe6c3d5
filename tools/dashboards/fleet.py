"""The dashboard of all pools: is any in trouble, which one, and since when?"""

from __future__ import annotations

from grafana_foundation_sdk.builders.dashboard import TextBoxVariable

from tools.dashboards.layout import Json, Row, dashboard
from tools.dashboards.panels import RATE, Builder, Line, Words, graph, number, states
from tools.dashboards.queries import ESTIMATED, STATES, Questions
from tools.dashboards.tables import rows
from tools.dashboards.verdict import verdict

_IDLE = 'kind!="busy"'
_LEAK = "Follow its red bar below to the leak hunt."


def made(questions: Questions) -> Json:
    """Return the template of the dashboard; `questions` is what its panels are made of."""
    limit = TextBoxVariable("limit").label("max_connections").default_value("100")
    return dashboard(
        "fleet",
        "fleet",
        "Is any connection pool in trouble, which one, and since when? Its row leads to the pool and to the leak hunt.",
        [
            Row("Verdict on the worst pool", 3, [(24, verdict(_LEAK, questions))]),
            Row(
                "Now",
                4,
                [
                    (6, _worst(questions)),
                    (6, _share(questions)),
                    (6, _wait(questions)),
                    (6, _suspects(questions)),
                ],
            ),
            Row("Which pool, and since when", 9, [(24, _states(questions))]),
            Row("The pools, the fullest first", 10, [(16, _ranked(questions)), (8, _alerts())]),
            Row(
                "Courses", 9, [(8, _saturation(questions)), (8, _timeouts(questions)), (8, _waits(questions))]
            ),
            Row("What the databases must bear", 8, [(12, _servers(questions)), (12, _limit(questions))]),
        ],
        start="now-1h",
        more_variables=[
            limit.description(
                "What SHOW max_connections says on the database; compared with on this dashboard."
            )
        ],
        questions=questions,
    )


def _most_in_a_day(expr: str) -> str:
    """Return the largest value of the last 24 hours, looked at each 5 minutes, but no less than it is now."""
    return f"(max_over_time(({expr})[1d:5m]) > {expr}) or {expr}"


def _worst(questions: Questions) -> Builder:
    words = Words(
        "The share of its connections that the fullest pool has out, connects in progress included.",
        "below 80 %, with room for a burst.",
        "read its state below: a leak is to be hunted, load needs shorter uses or a larger pool.",
    )
    steps = [(None, "green"), (0.8, "orange"), (1.0, "red")]
    return number(
        "Fullest pool",
        words,
        "percentunit",
        Line(f"max({questions.saturation})", "fullest"),
        steps,
        empty="No limit",
        decimals=0,
    )


def _share(questions: Questions) -> Builder:
    words = Words(
        "Of the acquires that ended, the share that ended in a pool timeout: callers that got an error.",
        "0 %; callers never wait as long as pool_timeout.",
        "find the pool in the table; its dashboard says whether it leaks or is loaded.",
    )
    steps = [(None, "green"), (0.0001, "orange"), (0.01, "red")]
    return number(
        "Acquires that timed out",
        words,
        "percentunit",
        Line(questions.timeout_share, "timeouts"),
        steps,
        empty="No acquires",
        decimals=1,
    )


def _wait(questions: Questions) -> Builder:
    words = Words(
        "The time that 99 of 100 successful acquires stayed below, over all pools; where none succeeds, how long the longest has waited. "
        f"{ESTIMATED}",
        "a few milliseconds: a connection is there when it is asked for.",
        "see in the courses since when, and in the table who has callers queued.",
    )
    steps = [(None, "green"), (0.1, "orange"), (1.0, "red")]
    return number("Wait, p99", words, "s", Line(questions.wait_p99, "p99"), steps, empty="No acquires")


def _suspects(questions: Questions) -> Builder:
    words = Words(
        "Connections held past the leak policy while nothing is done with them, over all pools.",
        "0.",
        "the state below is red for the pool that has them; follow its link to the leak hunt.",
    )
    steps = [(None, "green"), (1, "red")]
    return number(
        "Suspected leaks",
        words,
        "short",
        Line(f"sum({questions.each('overdue_uses', 'sum', _IDLE)})", "suspected"),
        steps,
        decimals=0,
    )


def _states(questions: Questions) -> Builder:
    words = Words(
        "The state of each pool over time, the worst that holds: full by a leak, leaking, database fails, full by load, "
        f"nearly full, fine. {questions.memory} A gap means that nothing was scraped.",
        "green, with some yellow at peak times.",
        "red is a leak: the left end says since when; follow the link to the leak hunt. Orange is load: shorten uses, "
        "then enlarge the pool. Purple: look at the database first. A gap: look at the process.",
    )
    return states("State of each pool", words, questions.state, STATES)


def _ranked(questions: Questions) -> Builder:
    words = Words(
        "Each pool now: connections out, the most it may open, how full its fullest process is, callers queued, the age of "
        "its oldest use, uses older than 5 minutes, and uses past the leak policy that do nothing. A pool without a limit has no maximum.",
        "fullness below 80 %, nothing queued, nothing suspected.",
        "follow the pool's link: suspected uses lead to the leak hunt, a queue without them to the pool's owners.",
    )
    lines = [
        Line(questions.used, "Used"),
        Line(questions.summed("connections_max"), "Max"),
        Line(questions.saturation, "Full"),
        Line(questions.queued, "Queued"),
        Line(questions.highest("oldest_use_seconds"), "Oldest use"),
        Line(questions.summed("aged_uses", 'age="300"'), "Over 5 min"),
        Line(questions.suspects, "Suspected"),
    ]
    return rows(
        "Pools",
        words,
        lines,
        {"job": "Job", "<<.pool>>": "Pool"},
        units={"Full": "percentunit", "Oldest use": "s"},
        sort="Full",
        empty="No pool",
        steps={
            "Full": [(None, "transparent"), (0.8, "orange"), (1.0, "red")],
            "Queued": [(None, "transparent"), (1, "orange")],
            "Suspected": [(None, "transparent"), (1, "red")],
        },
        pool="Pool",
    )


def _alerts() -> Builder:
    words = Words(
        "The alerts of this package's rules that fire now, for the chosen jobs and pools.",
        "none.",
        "the alert's annotation says what to do; without the rules loaded this table is always empty.",
    )
    expr = "max by (alertname, severity, <<by>>) (<<ALERTS>>)"
    columns = {"alertname": "Alert", "severity": "Severity", "job": "Job", "<<.pool>>": "Pool"}
    return rows(
        "Alerts that fire",
        words,
        [Line(expr, "Fires")],
        columns,
        sort="Severity",
        descending=False,
        hidden=["Fires"],
        empty="No alert fires",
        pool="Pool",
    )


def _saturation(questions: Questions) -> Builder:
    words = Words(
        "The five pools that were fullest in the time shown, each by its fullest process. What is above 100 %, just after a dispose, is drawn as 100 %.",
        "below 80 %, going up and down with the traffic.",
        "a line that climbs and never comes down is a leak; one that follows the traffic is load.",
    )
    fullest = f"topk(5, max_over_time(({questions.saturation})[$__range:{RATE}] @ end()))"  # the same at every moment
    lines = [Line(f"clamp_max({questions.saturation}, 1) and {fullest}", "<<legend>>")]
    return graph("Fullness", words, "percentunit", lines, by_pool=True)


def _timeouts(questions: Questions) -> Builder:
    words = Words(
        "Pool timeouts a second of the five pools that have most.",
        "no bar at all.",
        "follow the bar's link to its pool.",
    )
    lines = [Line(f"topk(5, {questions.rate('timeouts_total')} > 0)", "<<legend>>")]
    return graph("Pool timeouts", words, "reqps", lines, bars=True, empty="No errors", by_pool=True)


def _waits(questions: Questions) -> Builder:
    words = Words(
        "The time that half, and 99 of 100, of the successful acquires of all pools stayed below; those that timed out are not in it. "
        f"{ESTIMATED}",
        "both flat and below 10 ms.",
        "p99 alone rising is one pool or one peak; both rising is a pool that everybody waits for.",
    )
    lines = [
        Line(questions.quantile(0.5, "wait_seconds"), "p50", "blue", exemplars=not questions.recorded),
        Line(questions.quantile(0.99, "wait_seconds"), "p99", "orange", exemplars=not questions.recorded),
    ]
    return graph("Wait for a connection", words, "s", lines)


def _servers(questions: Questions) -> Builder:
    words = Words(
        "For each database server: connections open now, the most that its pools may open together, and the most that they "
        "might have at the largest number of processes of the last 24 hours. Pools without a limit are not in the last two.",
        "the last column stays below the server's max_connections, less what it reserves.",
        "lower pool_size or max_overflow, run fewer processes, or put a pooler in between, before the server refuses.",
    )
    lines = [
        Line(questions.by_server("connections"), "Open"),
        Line(questions.by_server("connections_max"), "May open"),
        Line(_most_in_a_day(questions.by_server("connections_max")), "Most in a day"),
    ]
    return rows(
        "Database servers",
        words,
        lines,
        {"<<.server>>": "Server"},
        sort="Most in a day",
        empty="No bounded pool",
    )


def _limit(questions: Questions) -> Builder:
    words = Words(
        "The database server whose pools may open most: how much that is, how much it was at the largest number of processes "
        "of the last 24 hours, and the limit typed in above as max_connections.",
        "both lines stay below the dashed one.",
        "with more processes the server would refuse connections; see the table of servers.",
    )
    lines = [
        Line(f"max({questions.by_server('connections')})", "open", "blue"),
        Line(f"max({questions.by_server('connections_max')})", "may open", "orange"),
        Line(_most_in_a_day(f"max({questions.by_server('connections_max')})"), "most in a day", "purple"),
        Line("vector($limit)", "max_connections", "red", dashed=True),
    ]
    return graph("Against the database's limit", words, "short", lines)
