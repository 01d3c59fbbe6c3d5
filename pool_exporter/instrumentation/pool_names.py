"""Give each pool of one registry a name of its own, and hand on the names of pools that are over."""

from __future__ import annotations

import logging
import threading
import weakref
from collections.abc import Callable
from typing import Generic, TypeVar

logger = logging.getLogger("pool_exporter")

T = TypeVar("T")


class PoolNames(Generic[T]):
    """Names and their weakly held holders.

    `over` tells whether a holder needs its name no more. A holder that lost its name and does
    something again after all is given another.
    """

    def __init__(self, over: Callable[[T], bool]) -> None:
        self._over = over
        self._holders: dict[str, weakref.ref[T]] = {}
        self._nameless: list[tuple[str, weakref.ref[T]]] = []
        self._lock = threading.RLock()  # guards _holders and _nameless

    def claim(self, wanted: str, holder: T) -> str:
        """Return `wanted`, or with the smallest free suffix from -2 if another needs it."""
        with self._lock:
            name, number = wanted, 1
            while not self._free(name):
                number += 1
                name = f"{wanted}-{number}"
            before = self._holders.get(name)
            if before is not None and before() is not None:
                self._nameless = [one for one in self._nameless if one[1]() is not None]
                self._nameless.append((wanted, before))
            self._holders[name] = weakref.ref(holder)
        if number > 1:
            logger.warning(
                "Two pools would be named %r; this one is exported as %r. "
                "Pass name= to instrument() to tell them apart.",
                wanted,
                name,
            )
        return name

    def _free(self, name: str) -> bool:
        ref = self._holders.get(name)
        holder = ref() if ref is not None else None
        return holder is None or self._over(holder)

    def release(self, holder: T) -> None:
        """Take the name from a holder, if it has one."""
        with self._lock:
            self._holders = {name: ref for name, ref in self._holders.items() if ref() is not holder}
            self._nameless = [(name, ref) for name, ref in self._nameless if ref() is not holder]

    def items(self) -> list[tuple[str, T]]:
        """Return the names and their living holders, in the order of their claims."""
        with self._lock:
            nameless, self._nameless = self._nameless, []
            for wanted, ref in nameless:
                holder = ref()
                if holder is None:
                    continue
                if self._over(holder):
                    self._nameless.append((wanted, ref))
                else:
                    self.claim(wanted, holder)
            found = [(name, ref()) for name, ref in self._holders.items()]
            self._holders = {name: ref for name, ref in self._holders.items() if ref() is not None}
        return [(name, holder) for name, holder in found if holder is not None]

    def holders(self) -> list[T]:
        """Return all living holders, also those that lost their names; asks none of them, and waits for nobody."""
        refs = [*self._holders.values(), *(ref for _, ref in self._nameless)]
        return [holder for ref in refs if (holder := ref()) is not None]

    def after_fork(self) -> None:
        """Replace the lock, which a thread that did not survive the fork may have held."""
        self._lock = threading.RLock()
