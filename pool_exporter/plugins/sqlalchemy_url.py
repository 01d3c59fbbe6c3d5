"""Let a database URL ask for it: `?plugin=pool_exporter`, or `plugins=["pool_exporter"]` of an engine."""

from __future__ import annotations

from collections.abc import MutableMapping
from importlib.util import find_spec
from inspect import signature
from typing import Any

from prometheus_client import REGISTRY
from sqlalchemy import URL, Engine
from sqlalchemy.engine import CreateEnginePlugin

from pool_exporter.exporters.opentelemetry.sdk import serves_opentelemetry
from pool_exporter.instrumentation.instrument import instrument
from pool_exporter.instrumentation.options import checked_detail, checked_name

PREFIX = "pool_exporter_"
OPTIONS = ("name", "group", "detail")
"""Options of `instrument()` that a URL can spell."""
KEYWORDS = tuple(
    name
    for name, parameter in signature(instrument).parameters.items()
    if parameter.kind is parameter.KEYWORD_ONLY
)
"""All options of `instrument()`."""


class PoolPlugin(CreateEnginePlugin):
    """Instrument one engine when it is made, for Prometheus, and for OpenTelemetry where that is installed.

    A URL may say `pool_exporter_name`, `pool_exporter_group` and `pool_exporter_detail`; any option of
    `instrument()` can be given to `create_engine()` as `pool_exporter={"name": …}`. An option that cannot
    be right is an error of `create_engine()`. To take it off again: `instrument(engine).uninstrument()`.
    """

    def __init__(self, url: URL, kwargs: MutableMapping[str, Any]) -> None:
        given = kwargs.pop("pool_exporter", None)
        if given is not None and not isinstance(given, dict):
            raise TypeError(
                f'pool_exporter={given!r}: expected a dict of options of instrument(), such as {{"name": "orders"}}'
            )
        self._options: dict[str, Any] = dict(given or {})
        for option, value in self._options.items():
            if option not in KEYWORDS:
                raise TypeError(
                    f"pool_exporter={{{option!r}: {value!r}}}: instrument() has no such option; there are "
                    + ", ".join(KEYWORDS)
                )
        for key, value in url.query.items():
            if not key.startswith(PREFIX):
                continue
            option = key.removeprefix(PREFIX)
            if option not in OPTIONS or not isinstance(value, str):
                raise ValueError(
                    f"{key}={value!r} in the database URL: there are {', '.join(PREFIX + one for one in OPTIONS)}, "
                    "each once; give others to create_engine() as pool_exporter={…}"
                )
            self._check(key, option, value)
            self._options[option] = value  # the deployment's word goes before the program's

    @staticmethod
    def _check(key: str, option: str, value: str) -> None:
        try:
            checked_detail(value) if option == "detail" else checked_name(value, option)
        except ValueError as error:
            raise ValueError(f"{key}={value!r} in the database URL: {error}") from error

    def update_url(self, url: URL) -> URL:
        """Return the URL without what is meant for this plugin, which a driver would not know."""
        return url.difference_update_query([key for key in url.query if key.startswith(PREFIX)])

    def engine_created(self, engine: Engine) -> None:
        """Instrument the engine."""
        options = self._options
        if "registry" not in options and "meter_provider" not in options:
            options = {**options, **_destinations()}
        instrument(engine, **options)


def _destinations() -> dict[str, Any]:
    """Return where pools go that nobody said it of: to Prometheus and, where its API is there, OpenTelemetry.

    Where OpenTelemetry's reader serves Prometheus already, that reader says everything.
    """
    if find_spec("opentelemetry") is None or find_spec("opentelemetry.metrics") is None:
        return {}
    from opentelemetry.metrics import get_meter_provider  # noqa: PLC0415 - an optional dependency

    provider = get_meter_provider()
    return {"meter_provider": provider, "registry": None if serves_opentelemetry(REGISTRY) else REGISTRY}
