"""See every engine as soon as somebody takes a connection of it, and tell of each use that begins.

Engines are not looked for, neither when they are made: an application instruments its engine some
time after, and it is its own instrumentation that counts. So an engine that has none is attached in
the course of its next acquire, without a name, a registry or a thread, and handed over as soon as the
application instruments it. Nothing here keeps an engine alive.
"""

from __future__ import annotations

import functools
import threading
import weakref
from collections.abc import Callable
from typing import Any

from sqlalchemy import Engine

from pool_exporter.capture.attach import Attachment, active_tap, root_engine, seam_objections
from pool_exporter.capture.callers.attribution import Attribution
from pool_exporter.capture.engine_name import default_name
from pool_exporter.capture.record_probe import RecordProbe
from pool_exporter.capture.tap import Tap
from pool_exporter.catalogue import resolve_buckets
from pool_exporter.instrumentation import instrument
from pool_exporter.instrumentation.instrumentation import Instrumentation
from pool_exporter.ledger.ledger import Ledger
from pool_exporter.ledger.uses import Use
from pool_exporter.plugins.pytest.patches import Replacements

WIRING: Any = instrument


class Engines:
    """Every engine that hands out connections between `start` and `stop`.

    `begun` is called with each use that begins, in whichever thread and while it has no fairy yet;
    `collected` with each that the collector ended, and the time by its ledger's clock. That may be in
    the midst of anything, so `collected` must not wait or raise.
    """

    def __init__(self, begun: Callable[[Tap, Use], None], collected: Callable[[Use, float], None]) -> None:
        self._begun = begun
        self._collected = collected
        self._replaced = Replacements()
        self._attaching = threading.RLock()  # held while an engine is attached or a tap followed
        self._ours: weakref.WeakSet[Attachment] = weakref.WeakSet()
        self._followed: weakref.WeakKeyDictionary[Tap, tuple[Any, Any]] = weakref.WeakKeyDictionary()
        self.failure: Exception | None = None  # what kept an engine from being seen

    def start(self) -> None:
        """Begin to see engines."""
        raw_connection = Engine.raw_connection
        known = WIRING.instrumentation_of

        @functools.wraps(raw_connection)
        def seen(engine: Engine) -> Any:
            try:
                self._see(engine)
            except Exception as error:
                self.failure = self.failure or error
            return raw_connection(engine)

        @functools.wraps(known)
        def handed_over(engine: Engine) -> Any:
            self._hand_over(engine)
            return known(engine)

        self._replaced.put(Engine, "raw_connection", seen)
        self._replaced.put(WIRING, "instrumentation_of", handed_over)

    def stop(self) -> None:
        """Leave every engine as it would be without us."""
        self._replaced.undo()
        for tap, (attribute, collected) in list(self._followed.items()):
            tap.attribute = attribute
            vars(tap.ledger.leaks)["collected"] = collected
        self._followed.clear()
        for attachment in list(self._ours):
            attachment.detach()

    def _see(self, engine: Engine) -> None:
        tap = active_tap(engine)
        if tap is not None and tap in self._followed:
            return
        with self._attaching:
            tap = active_tap(engine) or self._attach(engine)
            if tap not in self._followed:
                self._follow(tap)

    def _attach(self, engine: Engine) -> Tap:
        root = root_engine(engine) or engine
        ledger = Ledger(resolve_buckets(None), RecordProbe())
        attachment = Attachment(
            root,
            ledger,
            mode="full" if seam_objections(root.pool) is None else "reduced",
            statements=True,
            attribution=Attribution(),
        )
        self._ours.add(attachment)  # its tap keeps it alive, and what comes next
        Instrumentation(default_name(root), ledger, attachment)
        return attachment.tap

    def _hand_over(self, engine: Engine) -> None:
        """Take ours off an engine that the application instruments now."""
        tap = active_tap(engine)
        for attachment in list(self._ours):
            if attachment.tap is tap:
                attachment.detach()

    def _follow(self, tap: Tap) -> None:
        attribute, collected = tap.attribute, tap.ledger.leaks.collected
        reference = weakref.ref(tap)

        def attribute_and_tell(use: Use) -> None:
            try:
                attribute(use)
            finally:
                following = reference()
                if following is not None:
                    self._begun(following, use)

        def tell_collected(counts: Any, entry: Any, use: Use, now: float) -> None:
            self._collected(use, now)
            collected(counts, entry, use, now)

        tap.attribute = attribute_and_tell
        vars(tap.ledger.leaks)["collected"] = tell_collected
        self._followed[tap] = (attribute, collected)
