"""Watch one scenario: which alerts fire in Prometheus, and which of them the receiver is told of."""

from __future__ import annotations

import time
from collections.abc import Collection

from pool_exporter.catalogue.vocabularies import VOCABULARIES
from pool_exporter_lab.drill.aftermath import Aftermath, aftermath
from pool_exporter_lab.drill.scale import minutes
from pool_exporter_lab.drill.stage import Stage
from pool_exporter_lab.drill.verdict import Firing, first_firings, muted

DELIVERY_SECONDS = 10.0
"""How long a notification may take from Prometheus to the receiver."""
_LOOK_SECONDS = 2.0
_WORDS = VOCABULARIES["prometheus"]


class Watch:
    """What comes of a scenario that began to be played at `start`, by the monotonic clock."""

    def __init__(self, stage: Stage, start: float) -> None:
        self._stage = stage
        self._start = start
        self._subjects = {stage.name}  # its job, and the database servers that its pools go to

    @property
    def window(self) -> str:
        """Return the time since the start, as a window of PromQL."""
        return f"[{round(time.monotonic() - self._start) + 1}s]"

    def firings(self) -> list[Firing]:
        """Return the first notification of each alert so far; seconds are since the fault began."""
        return first_firings(self._stage.servers.receiver.notices, self._subjects, self._stage.began)

    async def until_told_of(self, alerts: Collection[str], minutes_at_most: float) -> None:
        """Wait for notifications of all these alerts, or until all of them fire in Prometheus."""
        receiver = self._stage.servers.receiver
        wanted = {*alerts}
        deadline = time.monotonic() + minutes(minutes_at_most)
        await self._look_for_servers()

        def told() -> bool:
            return wanted <= self._told()

        while not await receiver.until(told, _LOOK_SECONDS):
            if time.monotonic() > deadline or wanted <= await self._fired():
                return

    async def until_over(self, alerts: Collection[str], minutes_at_most: float) -> None:
        """Wait until the receiver has heard that all these alerts are resolved, or until the time is over."""
        await self._look_for_servers()
        receiver = self._stage.servers.receiver
        await receiver.until(lambda: not self.aftermath(alerts).unresolved, minutes(minutes_at_most))

    def aftermath(self, alerts: Collection[str]) -> Aftermath:
        """Return how it ended for these alerts, as far as it has."""
        return aftermath(self._stage.servers.receiver.notices, self._subjects, self._stage.began, alerts)

    async def untold(self) -> list[str]:
        """Return the alerts that fired and of which no notification came in time, though no other mutes them."""
        await self._look_for_servers()
        fired = await self._fired()
        due = fired - muted(fired, self._stage.servers.mutes)

        def told() -> bool:
            return due <= self._told()

        await self._stage.servers.receiver.until(told, DELIVERY_SECONDS)
        return sorted(due - self._told())

    async def number(self, expression: str) -> float:
        """Return the value of an expression of one series, 0 if there is none."""
        found = await self._stage.servers.prometheus.query(expression)
        return found[0][1] if found else 0.0

    def _told(self) -> set[str]:
        return {firing.alert for firing in self.firings()}

    async def _fired(self) -> set[str]:
        firing = [f'ALERTS{{alertstate="firing",job="{self._stage.name}"}}{self.window}']
        label = _WORDS.label("server")
        firing += [
            f'ALERTS{{alertstate="firing",job="",{label}="{one}"}}{self.window}'
            for one in self._subjects - {self._stage.name}
        ]
        query = " or ".join(f"max_over_time({one})" for one in firing)
        return {labels["alertname"] for labels, _ in await self._stage.servers.prometheus.query(query)}

    async def _look_for_servers(self) -> None:
        """Learn from the pools' own series which servers they go to: an alert about one of these is ours."""
        label = _WORDS.label("server")
        pools = f'last_over_time({_WORDS.metric("info")}{{job="{self._stage.name}"}}{self.window})'
        for labels, _ in await self._stage.servers.prometheus.query(f"group by ({label}) ({pools})"):
            if labels.get(label):
                self._subjects.add(labels[label])
