"""The dashboard of a suspect pool: leak or load, since when, how much of it, and whose code holds it?"""

from __future__ import annotations

from tools.dashboards.layout import Json, Row, dashboard
from tools.dashboards.panels import RATE, SHOWN, Builder, Line, Words, graph, number, states
from tools.dashboards.queries import SCRAPED, STATES, total_increase
from tools.dashboards.tables import rows
from tools.dashboards.verdict import verdict

_LEAK = "Mend the owner with leaks below (pool-exporter held names the line); a restart frees the pool until then."


def made() -> Json:
    """Return the template of the dashboard."""
    return dashboard(
        "leak-hunt",
        "leak hunt",
        "Is it a leak or load, since when, how many connections does it cost, and whose code holds them?",
        [
            Row("Leak or load?", 3, [(24, verdict(_LEAK, SCRAPED))]),
            Row("Since when", 6, [(4, _suspected()), (4, _oldest()), (4, _collected()), (12, _states())]),
            Row("Whose code holds them", 9, [(12, _table()), (12, _owners())]),
            Row("How many do not come back", 9, [(8, _aged()), (8, _overdue()), (8, _gap())]),
            Row("Is it still going on", 8, [(8, _leaks_by_owner()), (8, _life()), (8, _oldest_course())]),
            Row("Is capacity lost for good", 8, [(12, _floor()), (12, _lost())]),
        ],
        start="now-3h",
    )


def _suspected() -> Builder:
    words = Words(
        "Connections held past the leak policy while nothing is done with them: idle, idle in a transaction, or orphaned by a dispose.",
        "0. Under load it stays 0, however full the pool is.",
        "the table below names the owners; their code takes connections and does not give them back.",
    )
    line = Line('sum(<<overdue_uses{kind!="busy"}>>)', "suspected")
    return number("Suspected leaks", words, "short", line, [(None, "green"), (1, "red")], decimals=0)


def _oldest() -> Builder:
    words = Words(
        "The age of the oldest use; exempt owners are left out.",
        "as long as your longest honest use.",
        "an age that grows with the clock is a connection that does not come back: now minus this age is since when.",
    )
    line = Line("max(<<oldest_use_seconds>>)", "oldest")
    return number("Oldest use", words, "s", line, [(None, "green"), (60, "orange"), (300, "red")])


def _collected() -> Builder:
    words = Words(
        "Connections a minute that were dropped without close() and taken by the garbage collector: certain leaks.",
        "0.",
        "the owners below with leaks: put their connections and sessions into a with block.",
    )
    line = Line(f"60 * {SCRAPED.total_rate('leaks_collected_total')}", "collected")
    return number("Collected a minute", words, "short", line, [(None, "green"), (0.001, "red")], decimals=1)


def _states() -> Builder:
    words = Words(
        "The verdict on each pool over time: red is a leak, orange is load. The left end of the red says since when.",
        "green.",
        "red: the table below names who holds the connections. Orange without red: it is load, see the pool's dashboard.",
    )
    return states("Leak or load, and since when", words, SCRAPED.state, STATES)


def _table() -> Builder:
    words = Words(
        "Each owner: connections it holds now, how many it held on average, and how many of its uses became leaks, suspected or "
        "collected, in the time shown, or before their owner was first scraped in it; of hundreds the number is out by a few. An owner is a route, a name given by owner(), or the "
        "acquiring function.",
        "the held ones go up and down, and no leaks.",
        "the owner on top of the leaks is the one. `pool-exporter held URL`, or the status page, names its function, file and line: "
        "close what it opens, with a with block. Until then a restart gives the pool its connections back.",
    )
    # `increase` stretches a count by a scrape at most and never shrinks it: rounded down, tens are exact.
    leaked = f"floor(increase(<<owner_leaks_total>>[{SHOWN}]) + 0.001)"
    # What an owner had leaked already when it was first scraped is no increase; the label keeps it beside that.
    known = f"present_over_time(<<owner_leaks_total>>[1h] offset {SHOWN})"
    first = (
        f'label_replace(min_over_time(<<owner_leaks_total>>[{SHOWN}]) unless {known}, "first", "yes", "", "")'
    )
    lines = [
        Line("sum by (<<by>>, <<.owner>>) (<<owner_connections>>)", "Holds"),
        Line(f"sum by (<<by>>, <<.owner>>) (rate(<<owner_use_seconds_total>>[{RATE}]))", "On average"),
        Line(f"sum by (<<by>>, <<.owner>>) ({leaked} or {first})", "Leaks"),
    ]
    return rows(
        "Who holds connections",
        words,
        lines,
        {"job": "Job", "<<.pool>>": "Pool", "<<.owner>>": "Owner"},
        sort="Leaks",
        empty="No owner",
        steps={"Leaks": [(None, "transparent"), (1, "red")]},
        pool="Pool",
    )


def _owners() -> Builder:
    words = Words(
        "Connections that each owner holds on average, uses in progress included: the five that hold most.",
        "lines that go up and down.",
        "one that climbs in steps and stays is the leak; where it begins to climb is since when.",
    )
    lines = [
        Line(f"topk(5, sum by (<<.owner>>) (rate(<<owner_use_seconds_total>>[{RATE}])))", "{{<<.owner>>}}")
    ]
    return graph("Connections held by owner", words, "short", lines)


def _aged() -> Builder:
    words = Words(
        "Uses that are at least so old: those of 5 minutes are among those of 1 minute, and so on.",
        "0 at every age that no honest use of yours reaches.",
        "one line after the other lifting off is a leak growing old; all at 0 with a full pool is load.",
    )
    ages = {"60": ("1 min", "yellow"), "300": ("5 min", "orange"), "900": ("15 min", "dark-orange")}
    ages |= {"1800": ("30 min", "red"), "3600": ("1 h", "dark-red")}
    lines = [
        Line(f'sum(<<aged_uses{{age="{age}"}}>>)', f"{name} or older", color)
        for age, (name, color) in ages.items()
    ]
    return graph("Uses by age", words, "short", lines)


def _overdue() -> Builder:
    words = Words(
        "Uses past the leak policy, by what they do: nothing, nothing inside a transaction, one long statement, or held over a dispose.",
        "0.",
        "busy is long work, not a leak: make the statement faster. The others are held and forgotten.",
    )
    kinds = {"idle": "orange", "idle_in_transaction": "red", "busy": "blue", "orphaned": "purple"}
    lines = [Line(f'sum(<<overdue_uses{{kind="{kind}"}}>>)', kind, color) for kind, color in kinds.items()]
    return graph("Overdue uses by kind", words, "short", lines, stacked=True)


def _gap() -> Builder:
    words = Words(
        "Little's law: connections out on average, those that uses which came back explain, and the rest: connections that do not come "
        "back. Choose a longer time for a steadier line.",
        "the rest goes around 0.",
        "a rest that stays at a whole number is so many leaked connections. One long batch looks the same until it ends.",
    )
    out, back = SCRAPED.total_rate("occupancy_seconds_total"), SCRAPED.total_rate("use_seconds_sum")
    lines = [
        Line(back, "explained by those that came back", "green"),
        Line(f"clamp_min({out} - {back}, 0)", "do not come back", "red"),
        Line(out, "out, mean", "text", dashed=True),
    ]
    return graph("Mean uses against explained uses", words, "short", lines, stacked=True)


def _leaks_by_owner() -> Builder:
    words = Words(
        "Leaks, suspected or collected, in each interval, by owner: the five that have most.",
        "no bar.",
        "the owner's code is what to mend; bars that go on say that it still leaks.",
    )
    lines = [
        Line(f"topk(5, sum by (<<.owner>>) (increase(<<owner_leaks_total>>[{RATE}])) > 0)", "{{<<.owner>>}}")
    ]
    return graph("New leaks by owner", words, "short", lines, bars=True, empty="No leaks")


def _life() -> Builder:
    words = Words(
        "What became of leaks in each interval: newly suspected, come back after all, taken by the garbage collector.",
        "no bar.",
        "suspected and recovered alike: held too long, but given back. Suspected alone: forgotten. Collected: dropped without close().",
    )
    lines = [
        Line(f"{total_increase('leaks_suspected_total')} > 0", "suspected", "orange"),
        Line(f"{total_increase('leaks_recovered_total')} > 0", "recovered", "green"),
        Line(f"{total_increase('leaks_collected_total')} > 0", "collected", "red"),
    ]
    return graph("Suspected, recovered, collected", words, "short", lines, bars=True, empty="No leaks")


def _oldest_course() -> Builder:
    words = Words(
        "The age of the oldest use, and the longest that a use has gone without any activity.",
        "both low, with short peaks.",
        "a straight climb is one connection that does not come back. If the quiet climbs along, nothing is done with it.",
    )
    lines = [
        Line("max(<<oldest_use_seconds>>)", "oldest use", "orange"),
        Line("max(<<oldest_quiet_seconds>>)", "longest quiet", "red", dashed=True),
    ]
    return graph("Oldest use and longest quiet", words, "s", lines)


def _floor() -> Builder:
    words = Words(
        "Connections in use, and the fewest in use within each interval: the floor. A leak raises the floor for good.",
        "the floor is near 0.",
        "a floor that rises in steps is a leak; a floor that rises and falls with the traffic is load.",
    )
    lines = [
        Line('sum(<<connections{state="used"}>>)', "used", "blue"),
        Line(f'sum(min_over_time(<<connections{{state="used"}}>>[{RATE}]))', "floor", "red"),
        Line("sum(<<connections_max>>)", "max", "text", dashed=True),
    ]
    return graph("Floor of used", words, "short", lines)


def _lost() -> Builder:
    words = Words(
        "Connections from before a dispose that are still open, slots that nothing accounts for, and uses of exempt owners.",
        "0, but for the exempt ones that you know of.",
        "orphaned: someone holds on over a dispose. Unaccounted: capacity is lost until a restart, by a cancelled dispose or a listener that raises.",
    )
    lines = [
        Line("sum(<<orphaned_connections>>)", "orphaned", "purple"),
        Line("sum(<<unaccounted_slots>>)", "unaccounted", "red"),
        Line("sum(<<exempt_uses>>)", "exempt", "blue"),
    ]
    return graph("Orphaned, unaccounted, exempt", words, "short", lines)
