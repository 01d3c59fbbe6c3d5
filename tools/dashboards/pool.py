"""The dashboard of one pool: is it full, who waits, why do its connections die, and who uses it?"""

from __future__ import annotations

from tools.dashboards import connection_lifetimes as lives
from tools.dashboards.layout import Json, Row, dashboard
from tools.dashboards.panels import RATE, Builder, Line, Words, graph, heat, number
from tools.dashboards.queries import ESTIMATED, SCRAPED
from tools.dashboards.tables import rows
from tools.dashboards.verdict import verdict

_LEAK = "Open the leak hunt: it names whose code does not give back."


def made() -> Json:
    """Return the template of the dashboard."""
    return dashboard(
        "pool",
        "pool",
        "Is this pool full, do its callers wait, why do its connections die, and who uses it?",
        [
            Row("Leak or load?", 3, [(24, verdict(_LEAK, SCRAPED))]),
            Row("Now", 4, [(6, _full()), (6, _queued()), (6, _share()), (6, _wait())]),
            Row("Is it full?", 9, [(12, _slots()), (12, _open())]),
            Row(
                "Do callers wait, and how long is a connection held?",
                8,
                [(8, _waits()), (8, _queue()), (8, _longest())],
            ),
            Row("How the times are spread", 8, [(8, _wait_heat()), (8, _use_heat()), (8, _connect_heat())]),
            Row("Who uses it", 9, [(12, _owners()), (12, _held())]),
            Row("Does what goes out come back?", 8, [(12, _traffic()), (12, _failures())]),
            Row("Why connections die", 8, [(8, lives.connects()), (8, lives.closes()), (8, lives.errors())]),
            Row(
                "Pre-ping and stale connections",
                8,
                [(8, lives.pings()), (8, lives.ping_cost()), (8, lives.stale())],
            ),
            Row("How it is set up", 6, [(24, _configuration())]),
        ],
        start="now-1h",
    )


def _full() -> Builder:
    words = Words(
        "The share of its connections that the pool has out in its fullest process, connects in progress included.",
        "below 80 %.",
        "look whether callers wait, and below who holds the connections.",
    )
    steps = [(None, "green"), (0.8, "orange"), (1.0, "red")]
    return number(
        "Fullness",
        words,
        "percentunit",
        Line(f"max({SCRAPED.saturation})", "full"),
        steps,
        empty="No limit",
        decimals=0,
    )


def _queued() -> Builder:
    words = Words(
        "Callers that wait in the queue for a connection to come back.",
        "0.",
        "the pool is full: shorten what the owners below do with a connection, or enlarge the pool; if uses are overdue, hunt the leak.",
    )
    line = Line('sum(<<pending_requests{phase="queued"}>>)', "queued")
    return number(
        "Callers queued", words, "short", line, [(None, "green"), (1, "orange"), (10, "red")], decimals=0
    )


def _share() -> Builder:
    words = Words(
        "Of the acquires that ended, the share that ended in a pool timeout: callers that got an error.",
        "0 %.",
        "see below whether the pool leaks or is loaded; a longer pool_timeout only makes callers wait longer.",
    )
    steps = [(None, "green"), (0.0001, "orange"), (0.01, "red")]
    return number(
        "Acquires that timed out",
        words,
        "percentunit",
        Line(SCRAPED.timeout_share, "timeouts"),
        steps,
        empty="No acquires",
        decimals=1,
    )


def _wait() -> Builder:
    words = Words(
        f"The time that 99 of 100 successful acquires stayed below; where none succeeds, how long the longest has waited. {ESTIMATED}",
        "a few milliseconds.",
        "compare queue, connect and pre-ping below: one of them is what callers wait for.",
    )
    steps = [(None, "green"), (0.1, "orange"), (1.0, "red")]
    return number("Wait, p99", words, "s", Line(SCRAPED.wait_p99, "p99"), steps, empty="No acquires")


def _slots() -> Builder:
    words = Words(
        "What takes the pool's slots: connections in use, and acquires that connect or ping; on top the callers that queue. "
        "The dashed line is the most that the pool may open; a pool without a limit has none.",
        "the stack stays below the dashed line.",
        "at the line with queued callers on top the pool is full: by uses, see who; by connects that hang, see the database.",
    )
    lines = [
        Line('sum(<<connections{state="used"}>>)', "used", "blue"),
        Line('sum(<<pending_requests{phase="connecting"}>>)', "connecting", "yellow"),
        Line('sum(<<pending_requests{phase="pinging"}>>)', "pinging", "purple"),
        Line('sum(<<pending_requests{phase="queued"}>>)', "queued", "red"),
        Line("sum(<<connections_max>>)", "max", "text", dashed=True),
    ]
    return graph("Slots", words, "short", lines, stacked=True)


def _open() -> Builder:
    words = Words(
        "Open connections, in use and idle, against pool_size and the maximum; overflow is what is open above pool_size.",
        "open stays at pool_size, and overflow comes and goes with peaks.",
        "overflow all the time means that connections are opened and thrown away: raise pool_size by so much.",
    )
    lines = [
        Line('sum(<<connections{state="used"}>>)', "used", "blue"),
        Line('sum(<<connections{state="idle"}>>)', "idle", "green"),
        Line("sum(<<overflow>>)", "of these overflow", "orange", dashed=True),
        Line("sum(<<size>>)", "pool_size", "semi-dark-green", dashed=True),
        Line("sum(<<connections_max>>)", "max", "text", dashed=True),
    ]
    return graph("Open connections", words, "short", lines, stacked=True)


def _waits() -> Builder:
    words = Words(
        "How long successful acquires waited, and how long connections were held: half of them less than p50, 99 of 100 less than p99. "
        f"{ESTIMATED}",
        "waits of milliseconds; uses as long as your transactions ought to be.",
        "uses that got longer fill the pool, and then callers wait: shorten the use first.",
    )
    lines = [
        Line(SCRAPED.quantile(0.5, "wait_seconds"), "wait p50", "light-orange", exemplars=True),
        Line(SCRAPED.quantile(0.99, "wait_seconds"), "wait p99", "dark-orange", exemplars=True),
        Line(SCRAPED.quantile(0.5, "use_seconds"), "use p50", "light-blue", exemplars=True),
        Line(SCRAPED.quantile(0.99, "use_seconds"), "use p99", "dark-blue", exemplars=True),
    ]
    return graph("Wait and use", words, "s", lines)


def _queue() -> Builder:
    words = Words(
        "How many callers queue: now, and on average, which is exact whatever happened between two scrapes.",
        "no caller queues.",
        "the pool is full: see who holds the connections, and whether it leaks or is loaded.",
    )
    lines = [
        Line('sum(<<pending_requests{phase="queued"}>>)', "queued now", "light-orange"),
        Line(SCRAPED.total_rate("queue_seconds_total"), "queued, mean", "dark-orange"),
    ]
    return graph("Callers in the queue", words, "short", lines)


def _longest() -> Builder:
    words = Words(
        "How long the caller that waits longest has waited, against the pool_timeout at which it gets an error.",
        "far below the dashed line.",
        "at the line callers get errors; a longer pool_timeout only makes them wait longer.",
    )
    lines = [
        Line("max(<<oldest_pending_seconds>>)", "longest wait now", "red"),
        Line("max(<<timeout_seconds>>)", "pool_timeout", "text", dashed=True),
    ]
    return graph("Longest wait", words, "s", lines)


def _wait_heat() -> Builder:
    words = Words(
        "How long successful acquires waited: the darker, the more of them took so long. The bottom row is the shortest.",
        "one dark band at the bottom.",
        "a second band higher up is a pool that is full part of the time; exemplars lead to a trace.",
    )
    return heat("Waits", words, "wait_seconds_bucket")


def _use_heat() -> Builder:
    words = Words(
        "How long connections were held when they came back; what is still out is not in it.",
        "a band at the length of your transactions.",
        "bands far above are slow statements or work done while a connection is held; exemplars lead to a trace.",
    )
    return heat("Uses", words, "use_seconds_bucket")


def _connect_heat() -> Builder:
    words = Words(
        "How long it took to establish a connection.",
        "few, and all in one low band.",
        "a rise is a server or a network that is slow to accept; look at the database's connections and its CPU.",
    )
    return heat("Connects", words, "connect_seconds_bucket")


def _owners() -> Builder:
    words = Words(
        "Connections that each owner holds on average, uses in progress included: the five that hold most. An owner is a route, "
        "a name given by owner(), or the acquiring function.",
        "no owner holds a large part of the pool.",
        "the largest is whose code to look at; one that only grows does not give back.",
    )
    lines = [
        Line(f"topk(5, sum by (<<.owner>>) (rate(<<owner_use_seconds_total>>[{RATE}])))", "{{<<.owner>>}}")
    ]
    return graph("Connections held by owner", words, "short", lines, stacked=True)


def _held() -> Builder:
    words = Words(
        "Each owner now: connections that it holds, and how many it held on average.",
        "the numbers go up and down.",
        "pool-exporter held URL, or the status page, names function, file and line of each connection.",
    )
    lines = [
        Line("sum by (<<by>>, <<.owner>>) (<<owner_connections>>)", "Holds"),
        Line(f"sum by (<<by>>, <<.owner>>) (rate(<<owner_use_seconds_total>>[{RATE}]))", "On average"),
    ]
    columns = {"job": "Job", "<<.pool>>": "Pool", "<<.owner>>": "Owner"}
    return rows("Owners", words, lines, columns, sort="On average", empty="No owner", pool="Pool")


def _traffic() -> Builder:
    words = Words(
        "Acquires begun, those that got a connection, and connections that came back, a second.",
        "the three lines lie on each other.",
        "checkouts below acquires: callers fail or wait. Checkins below checkouts: connections do not come back, hunt the leak.",
    )
    lines = [
        Line(SCRAPED.total_rate("acquires_total"), "acquires", "yellow"),
        Line(SCRAPED.total_rate("checkouts_total"), "checkouts", "blue"),
        Line(SCRAPED.total_rate("checkins_total"), "checkins", "green"),
    ]
    return graph("Acquires, checkouts and checkins", words, "reqps", lines)


def _failures() -> Builder:
    words = Words(
        "Acquires a second that got no connection: pool timeouts, callers that gave up, and other errors.",
        "no bar.",
        "timeouts: the pool is full. Cancelled: callers have a shorter patience. Failed: the database refuses or cannot be reached.",
    )
    lines = [
        Line(f"{SCRAPED.total_rate('timeouts_total')} > 0", "timeouts", "red"),
        Line(f"{SCRAPED.total_rate('cancelled_acquires_total')} > 0", "cancelled", "yellow"),
        Line(f"{SCRAPED.total_rate('failed_acquires_total')} > 0", "failed", "purple"),
    ]
    return graph("Acquires without a connection", words, "reqps", lines, bars=True, empty="No errors")


def _configuration() -> Builder:
    words = Words(
        "What each pool is and how it is set up; the numbers are those of one process. A pool without a limit has no size and "
        "no maximum, one that is not recycled has no recycle.",
        "as you meant it to be, and mode full.",
        "mode reduced: the SQLAlchemy version is not supported in full, see the log of the start.",
    )
    labels = ("dialect", "driver", "pool_class", "pre_ping", "reset_on_return", "server", "database", "mode")
    info = f"max by (<<by>>, {', '.join(f'<<.{label}>>' for label in labels)}) (<<info>>)"
    lines = [
        Line(info, "Info"),
        Line("max by (<<by>>) (<<size>>)", "pool_size"),
        Line("max by (<<by>>) (<<connections_max>>)", "max"),
        Line("max by (<<by>>) (<<timeout_seconds>>)", "timeout"),
        Line("max by (<<by>>) (<<recycle_seconds>>)", "recycle"),
        Line("sum by (<<by>>) (<<processes>>)", "processes"),
    ]
    columns = {"job": "Job", "<<.pool>>": "Pool", **{f"<<.{label}>>": label for label in labels}}
    return rows(
        "Configuration",
        words,
        lines,
        columns,
        units={"timeout": "s", "recycle": "s"},
        sort="max",
        hidden=["Info"],
        empty="No pool",
        pool="Pool",
    )
