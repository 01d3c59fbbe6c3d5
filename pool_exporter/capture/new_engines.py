"""Tell of every engine: those that there are, and each that is made from now on."""

from __future__ import annotations

import functools
import gc
from collections.abc import Callable
from typing import Any

from sqlalchemy import URL, Engine
from sqlalchemy.engine import CreateEnginePlugin


def existing_engines() -> list[Engine]:
    """Return every engine of the process, also one that is part of an AsyncEngine; nothing lists them.

    Each object refers to its class. To go through all objects instead would hold for a moment what other
    threads are about to make, and CPython resizes no tuple that somebody else refers to.
    """
    found: list[Engine] = []
    classes = [Engine]
    for cls in classes:
        found += [one for one in gc.get_referrers(cls) if type(one) is cls]
        classes += [sub for sub in type.__subclasses__(cls) if sub not in classes]
    return found


class _Telling(CreateEnginePlugin):
    """The last of an engine's plugins, which hears of it when it is ready."""

    def __init__(self, tell: Callable[[Engine], None]) -> None:
        self._tell = tell

    def engine_created(self, engine: Engine) -> None:
        self._tell(engine)


def tell_of_new_engines(tell: Callable[[Engine], None]) -> Callable[[], None]:
    """Call `tell`, which must not raise, with each engine that `create_engine()` makes; return what ends that.

    It is a method of the URL that names an engine's plugins; so it does not matter under which name, or
    from which module, the application imported `create_engine()` or `create_async_engine()`.
    """
    owner: Any = URL
    original = owner._instantiate_plugins
    telling = True

    @functools.wraps(original)
    def _instantiate_plugins(self: Any, kwargs: Any) -> Any:
        url, plugins, kwargs = original(self, kwargs)
        return url, [*plugins, _Telling(tell)] if telling else plugins, kwargs

    def end() -> None:
        nonlocal telling
        telling = False
        if owner._instantiate_plugins is _instantiate_plugins:  # else somebody wrapped it, who needs it
            owner._instantiate_plugins = original

    owner._instantiate_plugins = _instantiate_plugins
    return end
