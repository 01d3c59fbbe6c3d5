"""Write numbers as people and PromQL read them (pure)."""

from __future__ import annotations


def written(value: float) -> str:
    """Return a number in full: `12345678`, `0.95`; an exponent only from 10^15 on or below 0.0001."""
    return f"{value:.15g}"


def percent(share: float) -> str:
    """Return a share in percent, to three digits: `50%`, `0.4%`, `99.9%`."""
    return f"{float(f'{share * 100:.3g}'):.15g}%"
