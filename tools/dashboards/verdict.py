"""Say in one sentence what the matter is with the worst of the chosen pools, and what to do."""

from __future__ import annotations

from tools.dashboards.panels import Builder, Line, Words, sentence
from tools.dashboards.queries import BUSY, DRAINED, FAILING, FINE, LEAKING, LOADED, STATES, Questions

_ADVICE = {
    DRAINED: "LEAK, and the pool is full. {leak}",
    LEAKING: "LEAK, the pool is not full yet. {leak}",
    FAILING: "THE DATABASE FAILS or cannot be reached. Look at it before the pool.",
    LOADED: "LOAD fills the pool, nothing leaks. Shorten what its owners do with a connection, then enlarge it.",
    BUSY: "NEARLY FULL, by load. Look at the peaks before callers queue.",
    FINE: "FINE. Nothing to do.",
}


def verdict(leak: str, questions: Questions) -> Builder:
    """Return the sentence as a panel; `leak` says what to do about a leak from this dashboard."""
    words = Words(
        "The worst state that a chosen pool is in now, which pool that is, or one of them if it is several, and what to do.",
        "fine.",
        "do what it says. A leak is a use past the leak policy in which nothing is done; load has none, however full the pool is.",
    )
    names = {value: (_ADVICE[value].format(leak=leak), color) for value, (_, color) in STATES.items()}
    return sentence(
        "Leak or load, and what to do",
        words,
        Line(f"topk(1, {questions.state})", "Worst pool: <<legend>>"),
        names,
        empty="No pool",
    )
