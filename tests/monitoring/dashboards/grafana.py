"""Do to a dashboard's queries what Grafana does before it sends them, and send them.

Source: `escaping.ts` of Grafana's own package `@grafana/prometheus` 13, with the feature toggle
`prometheusSpecialCharsInLabelValues` on.
"""

from __future__ import annotations

import json
import re
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from pool_exporter.monitoring.dashboards import Words

SCRAPE_SECONDS = 1
ALL = ".+"
Json = dict[str, Any]
Choice = Mapping[str, Sequence[str] | None]
"""What is chosen of each variable; None is All."""


class Series(NamedTuple):
    """One series of an answer: its labels, and its values by time."""

    labels: dict[str, str]
    values: dict[float, float]

    @property
    def highest(self) -> float:
        """Return the largest value, NaN aside; minus infinity if there is none."""
        return max((value for value in self.values.values() if value == value), default=float("-inf"))


def escaped(value: str) -> str:
    """Return a value as Grafana puts it into a regular expression within a string of PromQL."""
    text = value.replace("\\", "\\\\\\\\").replace('"', '\\\\\\"')
    return re.sub(r"[$^*{}\[\]'+?.()|]", r"\\\\\g<0>", text)


def interpolated(values: Sequence[str] | None) -> str:
    """Return what a variable becomes with some values chosen."""
    if values is None:
        return ALL
    made = [escaped(value) for value in values]
    return made[0] if len(made) == 1 else f"({'|'.join(made)})"


def substituted(
    text: str, choice: Choice, *, step: float = 1, seconds: float = 60, scrape: float = SCRAPE_SECONDS
) -> str:
    """Return a query with its variables replaced; `seconds` is the time that the dashboard shows."""
    rate_interval = max(step + scrape, 4 * scrape)
    values = {name: interpolated(values) for name, values in choice.items()}
    values |= {"__rate_interval": f"{rate_interval:g}s", "__range": f"{seconds:.0f}s", "limit": "100"}

    def replaced(found: re.Match[str]) -> str:
        return values[found[1] or found[2]]

    return re.sub(r"\$(?:\{(\w+)\}|(\w+))", replaced, text)


def choosing(words: Words, **chosen: Sequence[str]) -> Choice:
    """Return a choice: what is named here, and All of the rest."""
    return {name: chosen.get(name) for name in words.variables}


def asked(address: str, path: str, **parameters: str | float) -> Any:
    """Return the data of Prometheus' answer; fail with its own words if it answers with an error."""
    query = urllib.parse.urlencode(parameters)
    try:
        with urllib.request.urlopen(f"{address}/api/v1/{path}?{query}", timeout=30) as answer:
            return json.load(answer)["data"]
    except urllib.error.HTTPError as error:
        raise AssertionError(f"{error.read().decode()} for {parameters}") from error


def answer(
    address: str, target: Json, choice: Choice, start: float, end: float, *, step: float = 2
) -> list[Series]:
    """Return what one query of a panel gives: over the time, or at its end."""
    expr = substituted(target["expr"], choice, step=step, seconds=end - start)
    if target.get("instant"):
        data = asked(address, "query", query=expr, time=end)
        return [Series(one["metric"], _values([one["value"]])) for one in data["result"]]
    data = asked(address, "query_range", query=expr, start=start, end=end, step=step)
    return [Series(one["metric"], _values(one["values"])) for one in data["result"]]


def _values(pairs: Sequence[Sequence[Any]]) -> dict[float, float]:
    return {float(time): float(value) for time, value in pairs}


def options(address: str, variable: Json, choice: Choice, start: float, end: float) -> list[str]:
    """Return what there is to choose of a variable whose query is `label_values(selector, label)`."""
    found = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"])
    assert found, variable["query"]
    selector, label = substituted(found[1], choice), found[2]
    data: list[str] = asked(address, f"label/{label}/values", **{"match[]": selector}, start=start, end=end)
    return data
