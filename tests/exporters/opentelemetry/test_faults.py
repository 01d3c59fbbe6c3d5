"""Check what happens where OpenTelemetry is missing, late, switched off, broken or forked."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.metrics import NoOpMeterProvider, get_meter_provider
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import (
    InMemoryMetricReader,
    MetricExporter,
    MetricExportResult,
    PeriodicExportingMetricReader,
)
from sqlalchemy import Engine

from pool_exporter import Instrumentation, instrument, instrument_all
from tests.exporters.opentelemetry.collecting import collect

DEADLINE_SECONDS = 60
PREAMBLE = """
import atexit, json, os, sys
from prometheus_client import CollectorRegistry
from sqlalchemy import create_engine
from sqlalchemy.pool import QueuePool
from pool_exporter import instrument

engine = create_engine("sqlite://", poolclass=QueuePool)
atexit.register(engine.dispose)

def use(times):
    for _ in range(times):
        with engine.connect():
            pass

def told(reader):
    "Return every value of our scope(s) by scope attribute and name; of a histogram its count."
    found = {}
    data = reader.get_metrics_data()
    for resource in data.resource_metrics if data else ():
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                for point in metric.data.data_points:
                    key = f"{(scope.scope.attributes or {}).get('process.pid', '')}{metric.name}"
                    value = point.count if hasattr(point, "count") else point.value
                    found[key] = found.get(key, 0) + value
    return found
"""


def run(program: str, **environment: str) -> Any:
    """Run a program in a fresh interpreter, which must say nothing on stderr; return its JSON."""
    # Python 3.13 warns of each SQLite connection that nobody closed; a child of a fork ends with its parent's.
    process = subprocess.run(
        [
            sys.executable,
            "-W",
            "error",
            "-W",
            "ignore::ResourceWarning",
            "-c",
            PREAMBLE + textwrap.dedent(program),
        ],
        capture_output=True,
        text=True,
        timeout=DEADLINE_SECONDS,
        check=False,
        env={**os.environ, **environment},
    )
    assert (process.returncode, process.stderr) == (0, "")
    return json.loads(process.stdout)


def use(engine: Engine, times: int = 1) -> None:
    for _ in range(times):
        with engine.connect():
            pass


def test_with_the_api_alone_nothing_is_told_and_nothing_fails() -> None:
    """Where no SDK is installed, the pool is counted as ever, and its samples do not pile up."""
    assert run(
        """
        sys.modules["opentelemetry.sdk"] = None  # as if it were not installed
        from opentelemetry.metrics import get_meter_provider

        with instrument(engine, meter_provider=get_meter_provider()) as pool:
            use(3000)
            checkouts = pool.snapshot().checkouts
            kept = max(map(len, pool._ledger.samples().values()))
        print(json.dumps([checkouts, kept]))
        """
    ) == [3000, 1024]


def test_a_missing_extra_is_an_error_that_names_the_install() -> None:
    """Without OpenTelemetry's API a meter provider cannot be one, and the way to have it is said."""
    message = run(
        """
        import importlib.util
        found = importlib.util.find_spec
        import pool_exporter.instrumentation.options as arguments
        arguments.find_spec = lambda name: None if name == "opentelemetry" else found(name)
        try:
            instrument(engine, meter_provider=object())
        except ImportError as error:
            print(json.dumps(str(error)))
        """
    )
    assert "pip install 'pool_exporter[opentelemetry]'" in message
    assert "meter_provider=<object" in message


def test_the_instrumentor_without_its_packages_names_the_install() -> None:
    """Whoever imports it and has not what it needs is told what to install."""
    message = run(
        """
        sys.modules["opentelemetry.instrumentation.instrumentor"] = None  # as if it were not installed
        try:
            import pool_exporter.plugins.opentelemetry_instrumentor
        except ImportError as error:
            print(json.dumps(str(error)))
        """
    )
    assert "pip install 'pool_exporter[opentelemetry]' opentelemetry-instrumentation" in message


@pytest.mark.parametrize("value", ["global", 1, object(), MeterProvider])
def test_what_is_no_provider_is_refused(value: Any, engine: Engine) -> None:
    """The error names the argument, the value and what would be right, before anything is touched."""
    with pytest.raises(TypeError, match=r"meter_provider=.*get_meter_provider\(\)"):
        instrument(engine, meter_provider=value)
    with pytest.raises(TypeError, match=r"meter_provider=.*get_meter_provider\(\)"):
        instrument_all(meter_provider=value)
    assert instrument(engine, registry=None).snapshot().checkouts == 0


def test_a_provider_that_is_set_later_has_everything() -> None:
    """Instrumented before there is an SDK, a pool is told of from the first sample on."""
    told = run(
        """
        from opentelemetry.metrics import get_meter_provider, set_meter_provider

        instrument(engine, meter_provider=get_meter_provider())
        use(20)
        from opentelemetry.sdk.metrics import MeterProvider
        from opentelemetry.sdk.metrics.export import InMemoryMetricReader
        reader = InMemoryMetricReader()
        set_meter_provider(MeterProvider([reader]))
        use(5)
        print(json.dumps(told(reader)))
        """
    )
    assert told["sqlalchemy.pool.checkouts"] == 25
    assert told["db.client.connection.wait_time"] == 25
    assert told["db.client.connection.count"] == 1


def test_a_provider_that_is_set_between_two_engines_is_one() -> None:
    """The proxy and what it stands for are one provider: both engines are told of, and the first call can be repeated."""
    told = run(
        """
        from opentelemetry.metrics import get_meter_provider, set_meter_provider
        from opentelemetry.sdk.metrics import MeterProvider
        from opentelemetry.sdk.metrics.export import InMemoryMetricReader

        first = instrument(engine, name="before", meter_provider=get_meter_provider())
        reader = InMemoryMetricReader()
        set_meter_provider(MeterProvider([reader]))
        assert instrument(engine, meter_provider=get_meter_provider()) is first
        use(3)
        engine = create_engine("sqlite://", poolclass=QueuePool)
        instrument(engine, name="after", meter_provider=get_meter_provider())
        use(5)
        print(json.dumps(told(reader)))
        """
    )
    assert told["sqlalchemy.pool.checkouts"] == 8
    assert told["db.client.connection.wait_time"] == 8


def test_a_disabled_sdk_is_told_nothing() -> None:
    """`OTEL_SDK_DISABLED=true` is heeded, and Prometheus is not concerned."""
    assert run(
        """
        from opentelemetry.sdk.metrics import MeterProvider
        from opentelemetry.sdk.metrics.export import InMemoryMetricReader
        reader = InMemoryMetricReader()
        registry = CollectorRegistry()
        with instrument(engine, name="p", registry=registry, meter_provider=MeterProvider([reader])):
            use(3)
            served = registry.get_sample_value("sqlalchemy_pool_checkouts_total", {"pool": "p"})
        print(json.dumps([told(reader), served]))
        """,
        OTEL_SDK_DISABLED="true",
    ) == [{}, 3]


def test_our_own_switch_goes_first(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """`POOL_EXPORTER_DISABLED=1` makes no instruments."""
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader], shutdown_on_exit=False)
    monkeypatch.setenv("POOL_EXPORTER_DISABLED", "1")
    instrument(engine, meter_provider=provider)
    use(engine)
    assert collect(reader).metrics == {}


def test_a_provider_without_an_sdk_is_fine(engine: Engine) -> None:
    """The API's own providers that do nothing are providers."""
    with instrument(engine, meter_provider=NoOpMeterProvider()) as pool:
        use(engine)
        assert pool.snapshot().checkouts == 1
    with instrument(engine, meter_provider=get_meter_provider()):
        use(engine)


def test_a_provider_that_was_shut_down_is_told_nothing(
    engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    """Before or after `instrument()`: the pool goes on, and only the SDK complains, in its own log."""
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader], shutdown_on_exit=False)
    with instrument(engine, meter_provider=provider) as pool:
        use(engine)
        collect(reader)
        provider.shutdown()
        use(engine, 500)
        assert pool.snapshot().checkouts == 501
        assert pool.snapshot().telemetry_errors == 0
    with instrument(engine, meter_provider=provider) as pool:
        use(engine)
        assert pool.snapshot().telemetry_errors == 0
    assert [record for record in caplog.records if record.name == "pool_exporter"] == []


class _Failing(MetricExporter):
    """An exporter that raises, and then works."""

    def __init__(self) -> None:
        super().__init__()
        self.failures = 0
        self.exported: list[Any] = []

    def export(self, metrics_data: Any, timeout_millis: float = 10_000, **_: Any) -> MetricExportResult:
        if not self.failures:
            self.failures += 1
            raise OSError("no route to the collector")
        self.exported.append(metrics_data)
        return MetricExportResult.SUCCESS

    def shutdown(self, timeout_millis: float = 30_000, **_: Any) -> None:
        pass

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        return True


def test_an_exporter_that_fails_loses_nothing(engine: Engine) -> None:
    """What one export could not send is in the next, and the pool's own count of errors stays 0."""
    exporter = _Failing()
    reader = PeriodicExportingMetricReader(exporter, export_interval_millis=1e9)
    provider = MeterProvider([reader], shutdown_on_exit=False)
    with instrument(engine, meter_provider=provider) as pool:
        use(engine, 3)
        provider.force_flush()
        use(engine, 4)
        provider.force_flush()
        assert pool.snapshot().telemetry_errors == 0
    (data,) = exporter.exported
    (scope,) = data.resource_metrics[0].scope_metrics
    counts = {
        metric.name: metric.data.data_points[0].count
        for metric in scope.metrics
        if metric.name == "db.client.connection.wait_time"
    }
    assert counts == {"db.client.connection.wait_time": 7}
    provider.shutdown()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
@pytest.mark.parametrize("collected_before", [True, False])
def test_a_forked_child_tells_its_own_numbers(collected_before: bool, tmp_path: Path) -> None:
    """A child counts from its fork on: nothing of the parent's, nothing negative, in delta as in cumulative.

    Where the parent was collected before, its numbers are in the SDK's storage, so the child's come in a scope
    of their own.
    """
    parent, child, pid = run(
        f"""
        from opentelemetry.sdk.metrics import MeterProvider, ObservableCounter, Histogram
        from opentelemetry.sdk.metrics.export import AggregationTemporality, InMemoryMetricReader
        from pool_exporter.instrumentation.runtime import RUNTIME
        delta = {{kind: AggregationTemporality.DELTA for kind in (ObservableCounter, Histogram)}}
        reader = InMemoryMetricReader(preferred_temporality=delta)
        instrument(engine, meter_provider=MeterProvider([reader]))
        use(7)
        if {collected_before}:
            told(reader)
        got, give = os.pipe()
        pid = os.fork()
        if pid == 0:
            engine.dispose(close=False)
            use(2)
            RUNTIME.check()  # as the background thread does at once
            use(1)
            os.write(give, json.dumps(told(reader)).encode())
            os._exit(0)
        os.close(give)
        child = json.loads(os.read(got, 1_000_000))
        os.waitpid(pid, 0)
        use(1)
        print(json.dumps([told(reader), child, pid]))
        """
    )
    scope = pid if collected_before else ""
    assert child[f"{scope}sqlalchemy.pool.checkouts"] == 3
    assert child[f"{scope}db.client.connection.wait_time"] == 3
    assert min(child.values()) >= 0
    seen = 1 if collected_before else 8
    assert parent["sqlalchemy.pool.checkouts"] == seen
    assert parent["db.client.connection.wait_time"] == seen


def test_taking_a_pool_off_and_on_again_loses_no_sample(engine: Engine) -> None:
    """One engine that is instrumented again and again counts on in the same series, and each sample once."""
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader], shutdown_on_exit=False)
    pools: list[Instrumentation] = []
    for _ in range(20):
        pools.append(instrument(engine, meter_provider=provider))
        use(engine, 3)
        collected = collect(reader)
        pools[-1].uninstrument()
    assert collected.value("sqlalchemy.pool.checkouts") == 60
    assert pools[-1].snapshot().checkouts == 3
    assert collect(reader).point("db.client.connection.use_time").count == 60
