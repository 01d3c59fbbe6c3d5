"""Let `opentelemetry-instrument` pick up every engine of a program that knows nothing of this library."""

from __future__ import annotations

from collections.abc import Collection
from inspect import signature
from typing import Any

try:
    from opentelemetry.instrumentation.instrumentor import BaseInstrumentor  # type: ignore[attr-defined]
    from opentelemetry.metrics import get_meter_provider
except ImportError as error:
    raise ImportError(
        "pool_exporter's PoolInstrumentor needs OpenTelemetry's API and instrumentation; "
        "pip install 'pool_exporter[opentelemetry]' opentelemetry-instrumentation"
    ) from error

from pool_exporter.instrumentation.instrument_all import AllInstrumentation, apply_to_all, instrument_all

DEFAULTS = {name: parameter.default for name, parameter in signature(instrument_all).parameters.items()}
"""The options, those of `instrument_all()`."""
OF_EVERY_INSTRUMENTOR = frozenset(
    ("skip_dep_check", "raise_exception_on_conflict", "tracer_provider", "logger_provider")
)
"""What the others are given, and we are too."""


class PoolInstrumentor(BaseInstrumentor):  # type: ignore[misc]  # untyped upstream
    """Tell OpenTelemetry of the pools of all engines: existing ones, and each that is made later.

    `instrument(meter_provider=…)` takes a meter provider instead of the global one, and the options
    of `instrument_all()`. Prometheus is off, unless it is given a `registry`. What the application itself
    instruments, by `instrument()` or `instrument_all()`, is as it says, and told of all the same.
    `uninstrument()` takes everything off again.
    """

    _all: AllInstrumentation | None = None

    def instrumentation_dependencies(self) -> Collection[str]:
        """Return the versions of SQLAlchemy with which it works."""
        return ("sqlalchemy >= 2.0.55",)

    def _instrument(self, **options: Any) -> None:
        given = {name: value for name, value in options.items() if name not in OF_EVERY_INSTRUMENTOR}
        for name, value in given.items():
            if name in ("engine", "engines"):
                raise TypeError(
                    f"{name}={value!r}: PoolInstrumentor takes in every engine; for single ones call "
                    "pool_exporter.instrument(engine, meter_provider=get_meter_provider())"
                )
            if name not in DEFAULTS:
                raise TypeError(
                    f"{name}={value!r}: PoolInstrumentor().instrument() has no such option; there are "
                    + ", ".join(DEFAULTS)
                )
        if given.get("meter_provider") is None:
            given["meter_provider"] = get_meter_provider()
        self._all = apply_to_all({**DEFAULTS, **given}, asked=False)

    def _uninstrument(self, **_options: Any) -> None:
        if self._all is not None:
            self._all.uninstrument()
            self._all = None
