"""Check that slow waits and long uses lead to the trace of whoever waited or used."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from opentelemetry import trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from prometheus_client import CollectorRegistry
from prometheus_client import generate_latest as generate_text
from prometheus_client.openmetrics.exposition import generate_latest
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from prometheus_client.samples import Exemplar as PrometheusExemplar
from sqlalchemy import Engine

from pool_exporter import instrument
from tests.exporters.opentelemetry.collecting import collect

TRACER = TracerProvider(shutdown_on_exit=False).get_tracer("test")
UNSAMPLED = TracerProvider(sampler=ALWAYS_OFF, shutdown_on_exit=False).get_tracer("test")
WAIT, USE, CREATE = (f"db.client.connection.{name}_time" for name in ("wait", "use", "create"))


@pytest.fixture
def registry() -> Iterator[CollectorRegistry]:
    return CollectorRegistry()


def use(engine: Engine) -> None:
    with engine.connect():
        pass


def exposed(registry: CollectorRegistry, name: str) -> list[PrometheusExemplar]:
    """Return the exemplars of a histogram, as a scraper that asks for OpenMetrics reads them."""
    families = text_string_to_metric_families(generate_latest(registry).decode())
    return [
        sample.exemplar
        for family in families
        if family.name == name
        for sample in family.samples
        if sample.exemplar is not None
    ]


def test_a_sampled_span_is_the_exemplar_of_wait_and_use(
    engine: Engine, provider: MeterProvider, reader: InMemoryMetricReader
) -> None:
    """The samples of an acquire within a span carry that span, also when they are recorded much later."""
    with instrument(engine, meter_provider=provider):
        with TRACER.start_as_current_span("request") as span:
            use(engine)
        with TRACER.start_as_current_span("of whoever collects"):
            collected = collect(reader)
    context = span.get_span_context()
    for name in (WAIT, USE):
        (exemplar,) = collected.point(name).exemplars
        assert (exemplar.trace_id, exemplar.span_id) == (context.trace_id, context.span_id)
        assert exemplar.value == collected.point(name).sum
    assert list(collected.point(CREATE).exemplars) == []


def test_a_sample_without_a_span_has_no_exemplar(
    engine: Engine, provider: MeterProvider, reader: InMemoryMetricReader
) -> None:
    """Not even that of the span in which somebody collects."""
    with instrument(engine, meter_provider=provider):
        use(engine)
        with TRACER.start_as_current_span("of whoever collects"):
            collected = collect(reader)
    assert list(collected.point(WAIT).exemplars) == []
    assert list(collected.point(USE).exemplars) == []


def test_an_unsampled_span_is_no_exemplar(
    engine: Engine, provider: MeterProvider, reader: InMemoryMetricReader, registry: CollectorRegistry
) -> None:
    """A trace that nobody kept leads nowhere; it is still the trace of the holder."""
    with instrument(engine, meter_provider=provider, registry=registry) as pool:
        with UNSAMPLED.start_as_current_span("request") as span, engine.connect():
            assert pool.held()[0].trace_id == f"{span.get_span_context().trace_id:032x}"
        assert list(collect(reader).point(WAIT).exemplars) == []
        assert exposed(registry, "sqlalchemy_pool_wait_seconds") == []


def test_openmetrics_has_the_last_exemplar_of_each_bucket(
    engine: Engine, registry: CollectorRegistry
) -> None:
    """A scraper gets trace and span of the last sampled one, its seconds and when it was."""
    before = time.time()
    with instrument(engine, name="orders", registry=registry) as pool:
        spans = []
        for _ in range(3):
            with TRACER.start_as_current_span("request") as span:
                use(engine)
            spans.append(span.get_span_context())
        use(engine)  # without a span: the exemplar stays
        found = exposed(registry, "sqlalchemy_pool_use_seconds")
        recorded = pool.snapshot().use_seconds.exemplars
    last = found[-1] if len(found) == 1 else max(found, key=lambda one: float(str(one.timestamp)))
    assert last.labels == {
        "trace_id": f"{spans[-1].trace_id:032x}",
        "span_id": f"{spans[-1].span_id:016x}",
    }
    assert {one.trace_id for one in recorded.values()} <= {f"{span.trace_id:032x}" for span in spans}
    assert last.timestamp is not None
    assert before - 1 <= float(str(last.timestamp)) <= time.time() + 1
    assert 0 < last.value < 60


def test_the_older_text_format_has_no_exemplars(engine: Engine, registry: CollectorRegistry) -> None:
    """Which it cannot carry; the same page is valid for a scraper that asks for it."""
    with instrument(engine, registry=registry):
        with TRACER.start_as_current_span("request"):
            use(engine)
        assert b" # {" not in generate_text(registry)
        assert b" # {" in generate_latest(registry)


def test_without_attribution_there_is_no_exemplar(engine: Engine, registry: CollectorRegistry) -> None:
    """Whoever switched off who acquires pays nothing for the trace either."""
    with instrument(engine, registry=registry, attribution=False):
        with TRACER.start_as_current_span("request"):
            use(engine)
        assert exposed(registry, "sqlalchemy_pool_use_seconds") == []


def test_a_span_ends_although_its_use_goes_on(
    engine: Engine, provider: MeterProvider, reader: InMemoryMetricReader
) -> None:
    """What is kept is the span's identity: a use that outlives its request still leads to it."""
    with instrument(engine, meter_provider=provider):
        with TRACER.start_as_current_span("request") as span:
            connection = engine.connect()
        assert trace.get_current_span() is trace.INVALID_SPAN
        connection.close()
        (exemplar,) = collect(reader).point(USE).exemplars
    assert exemplar.trace_id == span.get_span_context().trace_id
