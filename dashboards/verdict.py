"""Say in one sentence what the matter is with the worst of the chosen pools, and what to do."""

from __future__ import annotations

from dashboards.panels import Builder, Line, Words, sentence
from dashboards.questions import BUSY, DRAINED, FAILING, FINE, LEAKING, LOADED, STATE, STATES

_ADVICE = {
    DRAINED: "LEAK, and the pool is full. Mend the owner below that does not give back; a restart frees the pool until then.",
    LEAKING: "LEAK, the pool is not full yet. Mend the owner below that does not give back.",
    FAILING: "THE DATABASE FAILS or cannot be reached. Look at it before the pool.",
    LOADED: "LOAD fills the pool, nothing leaks. Shorten what the owners do with a connection, then enlarge the pool.",
    BUSY: "NEARLY FULL by load. Look at the peaks before callers queue.",
    FINE: "FINE. Nothing to do.",
}


def verdict() -> Builder:
    """Return the sentence as a panel."""
    words = Words(
        "The worst state that a chosen pool is in now, and what to do.",
        "fine.",
        "do what it says. A leak is a use past the leak policy in which nothing is done; load has none, however full the pool is.",
    )
    names = {value: (_ADVICE[value], color) for value, (_, color) in STATES.items()}
    return sentence(
        "Leak or load, and what to do", words, Line(f"max({STATE})", "state"), names, empty="No pool"
    )
