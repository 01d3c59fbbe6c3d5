"""The expressions that several dashboards share, so that one question has one answer everywhere.

Each reads scraped series, or what the rules record of them for each pool of a job. Only this module
decides which.
"""

from __future__ import annotations

from dataclasses import dataclass

from tools.dashboards.panels import RATE

FINE, BUSY, LOADED, FAILING, LEAKING, DRAINED = range(6)
STATES = {
    DRAINED: ("full by a leak", "dark-red"),
    LEAKING: ("leak, not full yet", "red"),
    FAILING: ("database fails", "purple"),
    LOADED: ("full by load", "orange"),
    BUSY: ("nearly full", "yellow"),
    FINE: ("fine", "green"),
}
ESTIMATED = "Read off a histogram: between the bounds of a bucket it is estimated, so that it can lie above pool_timeout."
"""What the description of a quantile of waits says."""
_TAKEN = 'sum by (<<by>>, instance) (<<connections{state="used"}>> or <<pending_requests{phase=~"connecting|pinging"}>>)'
_SERVERS = "max by (<<by>>, instance, <<.server>>) (<<info>>)"
_ENDS = ("checkouts_total", "timeouts_total", "cancelled_acquires_total", "failed_acquires_total")


@dataclass(frozen=True, slots=True)
class Questions:
    """Expressions about the chosen pools, of scraped series or, if `recorded`, of recorded ones.

    Recorded series have no instance, their rates are over five minutes, and they have no exemplars.
    """

    recorded: bool = False

    def each(self, metric: str, operation: str, matchers: str = "") -> str:
        """Return the series of a metric: of each process, or what `operation` recorded of them."""
        braces = f"{{{matchers}}}" if matchers else ""
        return f"<<job_pool:{metric}:{operation}{braces}>>" if self.recorded else f"<<{metric}{braces}>>"

    def summed(self, gauge: str, matchers: str = "") -> str:
        """Return the sum of a gauge for each pool."""
        return f"sum by (<<by>>) ({self.each(gauge, 'sum', matchers)})"

    def highest(self, gauge: str) -> str:
        """Return the largest value of a gauge for each pool."""
        return f"max by (<<by>>) ({self.each(gauge, 'max')})"

    def rate(self, counter: str) -> str:
        """Return the rate of a counter for each pool."""
        return f"sum by (<<by>>) ({self._rate(counter)})"

    def total_rate(self, counter: str) -> str:
        """Return the rate of a counter over all that is chosen."""
        return f"sum({self._rate(counter)})"

    def _rate(self, counter: str) -> str:
        each = self.each(counter, "rate5m")
        return each if self.recorded else f"rate({each}[{RATE}])"

    @property
    def used(self) -> str:
        """Return how many connections are out."""
        return self.summed("connections", 'state="used"')

    @property
    def queued(self) -> str:
        """Return how many callers queue."""
        return self.summed("pending_requests", 'phase="queued"')

    @property
    def queued_lately(self) -> str:
        """Return how many queued at most: a state that looked at one scrape only would flip.

        Rules may be evaluated more seldom than a rate's window is long; then the last evaluation counts.
        """
        each = self.each("pending_requests", "sum", 'phase="queued"')
        last = f" or {each}" if self.recorded else ""
        return f"sum by (<<by>>) (max_over_time({each}[{RATE}]){last})"

    @property
    def suspects(self) -> str:
        """Return how many uses past the policy do nothing: what looks like leaks."""
        return self.summed("overdue_uses", 'kind!="busy"')

    @property
    def saturation(self) -> str:
        """Return how full the fullest process's pool is; connects that hang fill one too."""
        if self.recorded:
            return self.highest("saturation")
        return f"max by (<<by>>) (({_TAKEN}) / (sum by (<<by>>, instance) (<<connections_max>>) > 0))"

    @property
    def timeout_share(self) -> str:
        """Return the share of pool timeouts among acquires that ended; those begun would let it pass 1."""
        ended = " + ".join(self.total_rate(counter) for counter in _ENDS)
        return f"{self.total_rate('timeouts_total')} / (({ended}) > 0)"

    @property
    def state(self) -> str:
        """Return the state of each pool as a number of `STATES`, the worst that holds."""
        suspects, queued = self.suspects, self.queued_lately
        return " or ".join(
            [
                f"((({suspects}) > 0) and (({queued}) > 0)) * 0 + {DRAINED}",
                f"(({suspects}) > 0) * 0 + {LEAKING}",
                f"(({self.rate('leaks_collected_total')}) > 0) * 0 + {LEAKING}",
                f"(({self.rate('failed_acquires_total')}) > 0) * 0 + {FAILING}",
                f"(({queued}) > 0) * 0 + {LOADED}",
                f"(({self.saturation}) >= 0.8) * 0 + {BUSY}",
                f"({self.used}) * 0 + {FINE}",
            ]
        )

    @property
    def memory(self) -> str:
        """Return what the description of the states says of how long they look back."""
        more = ", failed acquires and collected leaks for five minutes" if self.recorded else ""
        return f"Callers that queued count for the length of a rate's window, four scrapes{more}."

    def quantile(self, rank: float, histogram: str) -> str:
        """Return a quantile of a histogram of the catalogue, over all that is chosen."""
        rates = (
            self.each(histogram, "bucket_rate5m")
            if self.recorded
            else f"rate(<<{histogram}_bucket>>[{RATE}])"
        )
        return f"histogram_quantile({rank:g}, sum by (le) ({rates}))"

    @property
    def wait_p99(self) -> str:
        """Return how long callers wait; where none gets a connection, how long who waits longest has waited."""
        longest = self.each("oldest_pending_seconds", "max")
        return f"({self.quantile(0.99, 'wait_seconds')} >= 0) or max({longest})"

    def by_server(self, gauge: str) -> str:
        """Return the sum of a gauge for each database server."""
        if self.recorded:
            return f"sum by (<<.server>>) (<<job_pool:server_{gauge}:sum>>)"
        each = f"sum by (<<by>>, instance) (<<{gauge}>>)"
        return f"sum by (<<.server>>) ({each} * on (<<by>>, instance) group_left (<<.server>>) {_SERVERS})"


SCRAPED, RECORDED = Questions(), Questions(recorded=True)


def total_increase(metric: str) -> str:
    """Return by how much a counter rose in each interval, over all that is chosen."""
    return f"sum(increase(<<{metric}>>[{RATE}]))"
