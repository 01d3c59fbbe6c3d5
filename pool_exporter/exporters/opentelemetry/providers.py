"""Keep the telemetry of every OpenTelemetry meter provider that is told of a pool."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING

from pool_exporter.exporters.opentelemetry.provider import RELIEF_SECONDS, ProviderExporter
from pool_exporter.exporters.opentelemetry.sdk import real_provider
from pool_exporter.instrumentation.destinations import Bounds, Destination, DestinationOptions, Destinations

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider


class ProviderExporters:
    """Every meter provider's telemetry. Providers are held weakly."""

    def __init__(self, exports: Destinations, warn_once: Callable[..., None]) -> None:
        self._exports = exports
        self._warn_once = warn_once
        self._by_provider: weakref.WeakKeyDictionary[MeterProvider, weakref.ref[ProviderExporter]] = (
            weakref.WeakKeyDictionary()
        )

    def of(
        self, provider: MeterProvider, options: DestinationOptions, bounds: Bounds, *, asked: bool = True
    ) -> ProviderExporter:
        """Return a provider's telemetry, its instruments made.

        Raises `ValueError` where its pools have other buckets or another level of detail, if both were `asked`
        for. Where who started the program came first, his instruments stay, and a warning says so.
        """
        telemetry = self._known(provider)
        if telemetry is None:
            own = Destination(options.detail, bounds)
            telemetry = ProviderExporter(provider, own, self._exports.registries, self._warn_once)
            self._exports.add(own)
            self._by_provider[provider] = weakref.ref(telemetry)
            telemetry.asked = asked
            return telemetry
        try:
            telemetry.own.check_same(options, "meter provider")
        except ValueError as error:
            if asked and telemetry.asked:
                raise
            self._warn_once("OpenTelemetry's instruments stay as they are: %s", error)
        else:
            telemetry.asked = telemetry.asked or asked
        return telemetry

    def _known(self, provider: MeterProvider) -> ProviderExporter | None:
        """Return what there is for a provider, which may have been a proxy when it was first given."""
        for known, ref in tuple(self._by_provider.items()):
            telemetry = ref()
            if telemetry is not None and real_provider(known) is real_provider(provider):
                return telemetry
        return None

    def relieve(self) -> float | None:
        """Record what has waited long enough; return the seconds until the next time, None for never."""
        pauses = []
        for ref in tuple(self._by_provider.values()):
            telemetry = ref()
            if telemetry is None:
                continue
            try:
                pause = telemetry.relieve()
            except Exception as error:
                telemetry.failed(error)
                pause = RELIEF_SECONDS
            if pause is not None:
                pauses.append(pause)
        return min(pauses, default=None)
