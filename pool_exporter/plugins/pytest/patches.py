"""Replace attributes of other people's objects for a while."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any


class Replacements:
    """What was put in the place of something else; `undo` puts it back, the last first."""

    def __init__(self) -> None:
        self._undo: list[Callable[[], None]] = []

    def put(self, target: Any, name: str, replacement: Any) -> None:
        """Replace an attribute of an object, a class or a module."""
        own = name in vars(target)  # else it was inherited
        before = getattr(target, name)
        setattr(target, name, replacement)
        self._undo.append(partial(_restore, target, name, replacement, before, own))

    def undo(self) -> None:
        """Take everything back."""
        while self._undo:
            self._undo.pop()()


def _restore(target: Any, name: str, replacement: Any, before: Any, own: bool) -> None:
    if vars(target).get(name) is not replacement:
        return  # somebody wrapped it, who goes on needing it
    if own:
        setattr(target, name, before)
    else:
        delattr(target, name)
