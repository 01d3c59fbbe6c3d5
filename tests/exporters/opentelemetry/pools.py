"""Pools to export, and how they are used."""

from __future__ import annotations

from opentelemetry.sdk.metrics import (
    Histogram,
    ObservableCounter,
    ObservableUpDownCounter,
)
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
)
from sqlalchemy import Engine

from pool_exporter.catalogue import CATALOGUE

DELTA = dict.fromkeys((ObservableCounter, ObservableUpDownCounter, Histogram), AggregationTemporality.DELTA)


HISTOGRAMS = [metric for metric in CATALOGUE if metric.kind == "histogram"]


def use(engine: Engine, times: int = 1) -> None:
    for _ in range(times):
        with engine.connect():
            pass
