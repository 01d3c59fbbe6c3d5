"""Write numbers as people and PromQL read them (pure)."""

from __future__ import annotations


def written(value: float) -> str:
    """Return a number in full: `12345678`, `0.95`; an exponent only from 10^15 on or below 0.0001."""
    return f"{value:.15g}"
