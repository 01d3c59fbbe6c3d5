"""Say who acquires a connection: the owner, the application's frame, the task and the trace."""

from __future__ import annotations

import asyncio
import sys
import weakref
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from pool_exporter.capture.callers.frames import frame_finder
from pool_exporter.capture.callers.owner import CURRENT, current_owner
from pool_exporter.ledger.call_site import CallSite
from pool_exporter.ledger.uses import Use

MAX_OWNER_LENGTH = 200
"""Characters of an owner, which becomes a label value."""


@dataclass(frozen=True, slots=True)
class Attribution:
    """Say how `instrument()` finds out who holds a connection.

    - `skip`: prefixes of module names whose frames acquire for others, such as `("myapp.database",)`,
      besides SQLAlchemy's, the standard library's and those of known wrappers.
    - `sql_text`: keep the text of each connection's last statement, without parameters, for
      `held()` and the status page. It may hold literals of your users.

    Raises `TypeError` that names the argument, the value and the remedy.
    """

    skip: Collection[str] = ()
    sql_text: bool = False

    def __post_init__(self) -> None:
        if isinstance(self.skip, str) or not isinstance(self.skip, Collection):
            raise TypeError(f"skip={self.skip!r}: expected a collection of modules, such as ('myapp.db',)")
        skip = tuple(self.skip)
        for prefix in skip:
            if not isinstance(prefix, str) or not prefix.strip("."):
                raise TypeError(f"skip: {prefix!r} is no module; expected names such as 'myapp.db'")
        if not isinstance(self.sql_text, bool):
            raise TypeError(f"sql_text={self.sql_text!r}: expected True or False")
        object.__setattr__(self, "skip", tuple(prefix.strip(".") for prefix in skip))


def checked_attribution(attribution: object) -> Attribution | None:
    """Return how to attribute, None for not at all."""
    if isinstance(attribution, bool):
        return Attribution() if attribution else None
    if isinstance(attribution, Attribution):
        return attribution
    raise TypeError(f"attribution={attribution!r}: expected True, False or an Attribution")


def nobody(use: Use) -> None:
    """Leave the use's owner unknown: what stands in where attribution is off."""
    use.clear_attribution()


def attributor(attribution: Attribution) -> Callable[[Use], None]:
    """Return a function that writes on a use who acquires it.

    It is called by what an override of `Pool.connect()` calls; on the hot path, hence a closure.
    """
    find, named = frame_finder(tuple(attribution.skip)), CURRENT.get
    running_loop, current_task = asyncio._get_running_loop, asyncio.current_task
    reference, modules = weakref.ref, sys.modules
    telemetry: Callable[[], object] | None = None  # OpenTelemetry's context, once its API was imported

    def attribute(use: Use) -> None:
        nonlocal telemetry
        site, use.instruction = find()
        use.site = site
        use.owner = _named(site) if site is None or named() is not None else site.function
        loop = running_loop()
        task = None if loop is None else current_task(loop)
        if task is None:
            use.task_ref = use.task_name = None
        else:
            use.task_ref = reference(task)
            use.task_name = task.get_name()
        if telemetry is None and "opentelemetry.trace" in modules:
            telemetry = _telemetry()
        # An empty context has no span, and to ask for that costs more.
        use.span = _span() if telemetry is not None and telemetry() else None

    return attribute


def _named(site: CallSite | None) -> str:
    """Return the name of the work in progress, bounded; the function's where it has none yet."""
    owner = current_owner()
    if owner is None:
        return "unknown" if site is None else site.function
    return owner if len(owner) <= MAX_OWNER_LENGTH else owner[:MAX_OWNER_LENGTH]


def _telemetry() -> Callable[[], object] | None:
    """Return what gives OpenTelemetry's current context; None while its API is still being imported."""
    found: Callable[[], object] | None = getattr(
        sys.modules.get("opentelemetry.context"), "get_current", None
    )
    return found


def _span() -> Any:
    """Return the context of OpenTelemetry's current span, which holds no span; None where there is none.

    Where the API was not imported, there is no span that could be current.
    """
    current_span = getattr(sys.modules.get("opentelemetry.trace"), "get_current_span", None)
    if current_span is None:  # it is being imported, or an import of it is forbidden
        return None
    context = current_span().get_span_context()
    return context if context.is_valid else None
