"""Check that OpenTelemetry's histograms have every sample once."""

from __future__ import annotations

import gc
from typing import Any

import pytest
from opentelemetry.metrics._internal import _ProxyMeterProvider
from opentelemetry.sdk.metrics import (
    Histogram,
    MeterProvider,
    ObservableCounter,
)
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    ExponentialHistogramDataPoint,
    InMemoryMetricReader,
)
from opentelemetry.sdk.metrics.view import (
    ExplicitBucketHistogramAggregation,
    ExponentialBucketHistogramAggregation,
    View,
)
from sqlalchemy import Engine, create_engine
from sqlalchemy.pool import QueuePool

from pool_exporter import instrument
from pool_exporter.exporters.opentelemetry.provider import MAX_SAMPLES, MAX_SAMPLES_UNASKED, WAITING_SAMPLES
from pool_exporter.instrumentation.runtime import RUNTIME
from tests.exporters.opentelemetry.collecting import collect
from tests.exporters.opentelemetry.pools import DELTA, use


def test_own_buckets_are_advice_to_the_sdk(
    engine: Engine, provider: MeterProvider, reader: InMemoryMetricReader
) -> None:
    """The bounds that were asked for are those of the exported histogram."""
    with instrument(engine, meter_provider=provider, buckets={"wait_seconds": [0.25, 0.5]}):
        use(engine)
        assert collect(reader).point("db.client.connection.wait_time").explicit_bounds == (0.25, 0.5)


def test_other_buckets_of_one_provider_are_refused(engine: Engine, provider: MeterProvider) -> None:
    """One provider has one set of instruments, hence one set of bounds and one level of detail."""
    other = create_engine("sqlite://", poolclass=QueuePool)
    with instrument(engine, meter_provider=provider):
        with pytest.raises(ValueError, match="meter provider's pools have other buckets already"):
            instrument(other, meter_provider=provider, buckets={"wait_seconds": [1]})
        with pytest.raises(ValueError, match="detail='basic': this meter provider's pools"):
            instrument(other, meter_provider=provider, detail="basic")


@pytest.mark.parametrize(
    "view",
    [
        View(instrument_name="db.client.connection.*", aggregation=ExponentialBucketHistogramAggregation()),
        View(
            instrument_name="db.client.connection.*_time",
            aggregation=ExplicitBucketHistogramAggregation(boundaries=[10.0]),
        ),
    ],
    ids=["exponential", "explicit"],
)
def test_views_have_every_sample(view: View, engine: Engine, reader: InMemoryMetricReader) -> None:
    """Whatever a view makes of a histogram, it gets each sample once and with its exact value."""
    provider = MeterProvider([reader], views=[view], shutdown_on_exit=False)
    with instrument(engine, meter_provider=provider) as pool:
        use(engine, 10)
        point = collect(reader).point("db.client.connection.wait_time")
        waits = pool.snapshot().wait_seconds
    assert waits is not None
    assert point.count == 10
    assert point.sum == pytest.approx(waits.sum)
    if isinstance(point, ExponentialHistogramDataPoint):
        assert sum(point.positive.bucket_counts) == 10
        assert point.scale > 0
    else:
        assert point.bucket_counts == (10, 0)
    provider.shutdown()


def test_delta_and_cumulative_readers_each_have_every_sample_once(engine: Engine) -> None:
    """Several readers of different temporality, collecting in any order, lose and repeat nothing."""
    cumulative, delta = InMemoryMetricReader(), InMemoryMetricReader(preferred_temporality=DELTA)
    provider = MeterProvider([cumulative, delta], shutdown_on_exit=False)
    wait, checkouts = "db.client.connection.wait_time", "sqlalchemy.pool.checkouts"
    with instrument(engine, meter_provider=provider):
        seen = []
        for reader in (delta, cumulative, cumulative, delta, delta):
            use(engine, 3)
            collected = collect(reader)
            seen.append((collected.point(wait).count, collected.value(checkouts)))
    assert seen == [(3, 3), (6, 6), (9, 9), (9, 9), (3, 3)]
    provider.shutdown()


def test_a_delta_reader_has_gauges_as_they_are(engine: Engine) -> None:
    """With the temporality that exporters ask for, used and idle stay what they are now."""
    delta = {ObservableCounter: AggregationTemporality.DELTA, Histogram: AggregationTemporality.DELTA}
    reader = InMemoryMetricReader(preferred_temporality=delta)
    provider = MeterProvider([reader], shutdown_on_exit=False)
    with instrument(engine, meter_provider=provider), engine.connect():
        values = [
            collect(reader).value("db.client.connection.count", db__client__connection__state="used")
            for _ in range(3)
        ]
    assert values == [1, 1, 1]
    provider.shutdown()


def test_samples_from_before_the_first_collection_are_not_lost(
    engine: Engine, provider: MeterProvider, reader: InMemoryMetricReader
) -> None:
    """They wait for it, as many as are kept before it is known that there will be one."""
    with instrument(engine, meter_provider=provider):
        use(engine, 600)
        assert RUNTIME.check() is not None  # nothing is recorded before its time
        assert collect(reader).point("db.client.connection.use_time").count == 600


def test_many_samples_before_the_first_collection_are_all_there(
    engine: Engine, provider: MeterProvider, reader: InMemoryMetricReader
) -> None:
    """However long the first collection takes to come: they are recorded in the background until then."""
    with instrument(engine, meter_provider=provider):
        for _ in range(3):
            use(engine, 2 * MAX_SAMPLES_UNASKED)
            RUNTIME.check()
        assert collect(reader).point("db.client.connection.wait_time").count == 6 * MAX_SAMPLES_UNASKED


@pytest.mark.parametrize("temporality", [None, DELTA], ids=["cumulative", "delta"])
@pytest.mark.parametrize("dropped", [True, False])
def test_a_successor_by_the_same_name_counts_on(temporality: Any, dropped: bool) -> None:
    """The counters of one series never go back, whichever engine they are of; nor do they disagree with histograms."""
    reader = InMemoryMetricReader(preferred_temporality=temporality)
    provider = MeterProvider([reader], shutdown_on_exit=False)
    seen = []
    for times in (20, 5, 7):
        engine = create_engine("sqlite://", poolclass=QueuePool)
        pool = instrument(engine, name="n", meter_provider=provider)
        use(engine, times)
        collected = collect(reader)
        seen.append(
            (
                collected.value("sqlalchemy.pool.checkouts"),
                collected.point("db.client.connection.use_time").count,
                collected.value("sqlalchemy.pool.closes", sqlalchemy__pool__reason="dispose"),
            )
        )
        use(engine, 1)  # after the last collection of its life
        engine.dispose()
        if not dropped:
            pool.uninstrument()
        del engine, pool
        gc.collect()
    each, total = [(20, 20, 0), (6, 6, 1), (8, 8, 1)], [(20, 20, 0), (26, 26, 1), (34, 34, 2)]
    assert seen == (total if temporality is None else each)
    provider.shutdown()


def test_what_nobody_ever_collects_does_not_pile_up(engine: Engine) -> None:
    """Where no provider is set the last samples are kept and no more."""
    with instrument(engine, meter_provider=_ProxyMeterProvider()) as pool:
        use(engine, MAX_SAMPLES_UNASKED + 200)
        pool.snapshot()
        kept = pool._ledger.samples()
    assert {len(samples) for samples in kept.values()} == {MAX_SAMPLES_UNASKED, 1}


def test_waiting_samples_are_recorded_in_the_background(
    engine: Engine, provider: MeterProvider, reader: InMemoryMetricReader
) -> None:
    """Between two collections many samples are recorded already; no sample is missing in the next."""
    with instrument(engine, meter_provider=provider) as pool:
        collect(reader)
        RUNTIME.watcher.stop()  # whose part is played here
        use(engine, WAITING_SAMPLES + 50)
        RUNTIME.check()
        assert not pool._ledger.counts.wait_seconds.samples
        use(engine, 5)
        assert collect(reader).point("db.client.connection.wait_time").count == WAITING_SAMPLES + 55


def test_samples_that_come_too_fast_are_a_reported_fault(
    engine: Engine, provider: MeterProvider, reader: InMemoryMetricReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where samples had to be dropped, the pool's own errors say so."""
    monkeypatch.setattr("pool_exporter.exporters.opentelemetry.provider.MAX_SAMPLES", 10)
    with instrument(engine, meter_provider=provider) as pool:
        collect(reader)
        use(engine, 30)
        pool.snapshot()
        collect(reader)
        assert pool.snapshot().telemetry_errors == 2  # of waits, and of uses
    assert MAX_SAMPLES > 10_000
