"""Let `opentelemetry-instrument` pick up every engine of a program that knows nothing of this library."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

try:
    from opentelemetry.instrumentation.instrumentor import BaseInstrumentor  # type: ignore[attr-defined]
    from opentelemetry.metrics import get_meter_provider
except ImportError as error:
    raise ImportError(
        "pool_exporter's PoolInstrumentor needs OpenTelemetry's API and instrumentation; "
        "pip install 'pool_exporter[opentelemetry]' opentelemetry-instrumentation"
    ) from error

from pool_exporter.everywhere import AllInstrumentation, instrument_all


class PoolInstrumentor(BaseInstrumentor):  # type: ignore[misc]  # untyped upstream
    """Tell OpenTelemetry of the pools of all engines: existing ones, and each that is made later.

    `instrument(meter_provider=…)` takes a meter provider instead of the global one, and the options
    of `instrument_all()`. Prometheus is off, unless it is given a `registry`. `uninstrument()` takes
    everything off again.
    """

    _all: AllInstrumentation | None = None

    def instrumentation_dependencies(self) -> Collection[str]:
        """Return the versions of SQLAlchemy with which it works."""
        return ("sqlalchemy >= 2.0.55",)

    def _instrument(self, **options: Any) -> None:
        options.pop("skip_dep_check", None)
        options.pop("raise_exception_on_conflict", None)
        if options.get("meter_provider") is None:
            options["meter_provider"] = get_meter_provider()
        for other in ("tracer_provider", "logger_provider"):  # given to every instrumentor
            options.pop(other, None)
        self._all = instrument_all(**options)

    def _uninstrument(self, **_options: Any) -> None:
        if self._all is not None:
            self._all.uninstrument()
            self._all = None
