"""Count the series that the recording rules write, out of the rules themselves (pure)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from pool_exporter.catalogue import CATALOGUE
from pool_exporter.monitoring.rules.durations import seconds_of
from pool_exporter.monitoring.rules.files import rule_file
from pool_exporter.monitoring.rules.options import RuleOptions
from pool_exporter.monitoring.rules.recording import RECORDINGS, Recording

_METRICS = {metric.name: metric for metric in CATALOGUE}


class Recorded(NamedTuple):
    """Hold how many series one job's rules write at most, and how many samples a second that makes."""

    series: int
    samples_a_second: float


def recorded_series(pods: int, pools: int) -> Recorded:
    """Return what is recorded of one job with so many instances, each with these pools.

    At most: what is recorded only of pools that are full or leak is counted for each pool.
    """
    counted = [(_of_level(one, pods, pools) * values, seconds) for one, values, seconds in _recordings()]
    return Recorded(
        sum(series for series, _ in counted), sum(series / seconds for series, seconds in counted)
    )


def _recordings() -> Iterator[tuple[Recording, int, float]]:
    """Give each recording, how many values its further labels have, and the seconds between two evaluations."""
    options = RuleOptions()
    by_name = {one.name(options.words): one for one in RECORDINGS.values()}
    for group in rule_file(options)["groups"]:
        for rule in group["rules"]:
            if "record" in rule:
                one = by_name[rule["record"]]
                labels = rule["expr"].partition("by (")[2].partition(")")[0].split(", ")
                yield one, _values(one, labels), seconds_of(group["interval"])


def _of_level(one: Recording, pods: int, pools: int) -> int:
    return {"instance_pool": pods * pools, "instance": pods, "job_pool": pools}[one.level]


def _values(one: Recording, labels: list[str]) -> int:
    metric = _METRICS.get(one.metric)
    if metric is None:
        return 1
    if "le" in labels:
        return len(metric.buckets) + 1
    return len(metric.values) if set(metric.labels) & set(labels) else 1
