"""Check the arguments of the public functions: one clear error that names argument, value and remedy."""

from __future__ import annotations

import enum
import os
import reprlib
import sys
from importlib.util import find_spec
from typing import TYPE_CHECKING

from prometheus_client import REGISTRY, CollectorRegistry

from pool_exporter.catalogue import Detail

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider

MAX_NAME_LENGTH = 200
DISABLING_VARIABLE = "POOL_EXPORTER_DISABLED"


class Default(enum.Enum):
    """Stands for what is not spelled out."""

    DEFAULT = "prometheus_client's REGISTRY, or none where a meter_provider is given"

    def __repr__(self) -> str:
        return self.name


DEFAULT = Default.DEFAULT
"""As an argument `registry`: prometheus_client's REGISTRY, or none where a meter_provider is given."""


def disabled() -> bool:
    """Tell whether the environment switches the library off (`POOL_EXPORTER_DISABLED=1`)."""
    return os.environ.get(DISABLING_VARIABLE, "").strip().lower() in ("1", "true", "yes", "on")


def checked_name(name: object, argument: str = "name") -> str | None:
    """Return a valid `pool` label, None if none was asked for."""
    if name is None:
        return None
    if not isinstance(name, str):
        raise TypeError(f"{argument}={name!r}: expected text for the pool label, such as 'orders'")
    if not name.strip():
        raise ValueError(
            f"{argument}={name!r}: is empty; give the pool a name such as 'orders', or leave {argument} out"
        )
    if len(name) > MAX_NAME_LENGTH:
        raise ValueError(
            f"{argument}={name[:20]!r}… has {len(name)} characters; a pool label has at most {MAX_NAME_LENGTH}"
        )
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"{argument}={name!r}: cannot be written as UTF-8; leave out lone surrogates"
        ) from error
    return name


def checked_flag(argument: str, value: object) -> bool:
    """Return a boolean argument."""
    if not isinstance(value, bool):
        raise TypeError(f"{argument}={value!r}: expected True or False")
    return value


def checked_detail(detail: object) -> Detail:
    """Return a level of detail that exists."""
    if detail == "full":
        return "full"
    if detail == "basic":
        return "basic"
    raise ValueError(f"detail={detail!r}: expected 'full' or 'basic'")


def checked_meter_provider(provider: object) -> MeterProvider | None:
    """Return an OpenTelemetry meter provider to export to, None to export nothing there.

    Raises `ImportError` where OpenTelemetry's API is not installed, `TypeError` for what is no provider.
    """
    if provider is None:
        return None
    api = sys.modules.get("opentelemetry.metrics")  # a provider comes of an import of it
    if api is None and find_spec("opentelemetry") is None:
        raise ImportError(
            f"meter_provider={provider!r}: OpenTelemetry's API is not installed; "
            "pip install 'pool_exporter[opentelemetry]'"
        )
    if api is None or not isinstance(provider, api.MeterProvider):
        raise TypeError(
            f"meter_provider={provider!r}: expected an OpenTelemetry MeterProvider, such as "
            "opentelemetry.metrics.get_meter_provider() returns"
        )
    given: MeterProvider = provider
    return given


def checked_registry(registry: object, meter_provider: object = None) -> CollectorRegistry | None:
    """Return a registry to export to, None to export nothing.

    Not spelled out, it is the default one, and none where there is a meter provider.
    """
    if registry is DEFAULT:
        return REGISTRY if meter_provider is None else None
    if registry is None or isinstance(registry, CollectorRegistry):
        return registry
    raise TypeError(
        f"registry={registry!r}: expected a prometheus_client CollectorRegistry, or None to export nothing"
    )


def served_registry(registry: object) -> CollectorRegistry:
    """Return a registry to serve."""
    if isinstance(registry, CollectorRegistry):
        return registry
    raise TypeError(
        f"registry={registry!r}: expected a prometheus_client CollectorRegistry; leave it out to serve "
        "the default one, in which instrument(engine) puts its pools"
    )


def not_an_engine(engine: object) -> TypeError:
    """Return the error for an `engine` argument that is none."""
    kind = f"{type(engine).__module__}.{type(engine).__qualname__}"
    return TypeError(
        f"engine is a {kind}: expected an AsyncEngine or Engine; pass what create_async_engine() or "
        "create_engine() returned, not a session, a session factory, a connection or a URL"
    )


def checked_owner(name: object) -> str:
    """Return a valid name of an owner, as plain text even if it is a member of a text enumeration."""
    if not isinstance(name, str):
        raise TypeError(f"name={reprlib.repr(name)}: expected text for the owner, such as 'nightly-billing'")
    if not name.strip():
        raise ValueError(f"name={reprlib.repr(name)}: is empty; name the work, such as 'nightly-billing'")
    if len(name) > MAX_NAME_LENGTH:
        raise ValueError(
            f"name={name[:20]!r}… has {len(name)} characters; an owner has at most {MAX_NAME_LENGTH}: "
            "name the kind of work, such as 'nightly-billing'"
        )
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"name={reprlib.repr(name)}: cannot be written as UTF-8; leave out lone surrogates"
        ) from error
    return str.__str__(name)  # str() of an enumeration's member may be "Job.BILLING"
