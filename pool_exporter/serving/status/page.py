"""Write the status page: one HTML document that needs nothing else."""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Iterator, Sequence
from importlib.resources import files
from urllib.parse import quote

from pool_exporter.messages.verdict import Severity, Verdict, verdict
from pool_exporter.records import PoolSnapshot, PoolStatus
from pool_exporter.serving.status.bars import occupancy
from pool_exporter.serving.status.charts import history_charts
from pool_exporter.serving.status.holders import holders_table
from pool_exporter.serving.status.owners import owners_table
from pool_exporter.serving.status.reports import moment, reports_table
from pool_exporter.serving.status.text import escaped, markup
from pool_exporter.support.text import humanised

_STYLE = files(__package__).joinpath("page.css").read_text("utf-8")
_SCRIPT = files(__package__).joinpath("page.js").read_text("utf-8")
MAX_POOLS = 50
"""So many pools are shown in full; each further one has its line in the overview."""
_WORDS: dict[Severity, str] = {"critical": "✕ Critical", "warning": "⚠ Attention", "good": "✓ Fine"}
_NAMED_PENDING = (("queued", "queued"), ("connecting", "connecting"), ("pinging", "pinging"))
_NOT_KNOWN = '<span class="note">not known</span>'
_ICON = "data:image/svg+xml," + quote(
    "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'><rect y='3' width='16' height='10' rx='3' "
    "fill='#2f6fde'/><rect x='9' y='5' width='5' height='6' rx='1.5' fill='#fff'/></svg>"
)


def _source_of(text: str) -> str:
    """Return a source expression of Content-Security-Policy that allows just this text."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


CONTENT_SECURITY_POLICY = (
    f"default-src 'none'; script-src {_source_of(_SCRIPT)}; style-src {_source_of(_STYLE)}; img-src data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""Allows the page its own style and script, told by their hashes, and to ask for itself again."""


def page_pieces(
    statuses: Sequence[PoolStatus],
    *,
    now: float,
    refresh_seconds: float,
    process_id: int,
    metrics_href: str | None,
) -> Iterator[str]:
    """Yield the page piece by piece, each of bounded work: a part of one pool at a time.

    `now` is the Unix time. `metrics_href` leads to the metrics, None where nothing does.
    """
    verdicts = [verdict(status.snapshot, status.held) for status in statuses]
    yield _head(verdicts, refresh_seconds)
    yield (
        f'<main><p class="about">Process <b>{process_id}</b> at {moment(now)}. '
        f"{_count(len(statuses), 'pool')}.</p>"
    )
    if not statuses:
        yield _nothing_to_see()
    shown = _worst(verdicts)
    if len(statuses) > 1:
        yield from _overview(statuses, verdicts, shown)
    for number, (status, found) in enumerate(zip(statuses, verdicts, strict=True), start=1):
        if number in shown:
            yield from _pool(status, found, number, now)
    if len(shown) < len(statuses):
        yield f'<p class="about">and {len(statuses) - len(shown)} more; their verdicts are above, the JSON has all.</p>'
    metrics = "" if metrics_href is None else f' · <a href="{escaped(metrics_href)}">Metrics</a>'
    yield (
        f'</main><footer><a href="?format=json">JSON</a>{metrics}</footer>'
        f"<script>{_SCRIPT}</script></body></html>\n"
    )


def _head(verdicts: Sequence[Verdict], refresh_seconds: float) -> str:
    severities = [found.severity for found in verdicts]
    worst: Severity = next((severity for severity in _WORDS if severity in severities), "good")
    title = "Connection pools" if worst == "good" else f"{_WORDS[worst]} · Connection pools"
    return (
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark"><meta name="robots" content="noindex">'
        f'<title>{title}</title><link rel="icon" href="{escaped(_ICON, len(_ICON))}">'
        f"<style>{_STYLE}</style>"
        f'<noscript><meta http-equiv="refresh" content="{math.ceil(refresh_seconds)}"></noscript></head>'
        f'<body data-refresh="{refresh_seconds:g}"><header><h1>Connection pools</h1>'
        f'<p id="state" role="status">refreshed every {humanised(refresh_seconds)}</p>'
        '<button type="button" id="pause" hidden>Pause</button></header>'
    )


def _nothing_to_see() -> str:
    return (
        '<section class="card empty"><h2>No pool to show</h2><p>This process has no instrumented engine. '
        "Where an Engine or AsyncEngine is made, add one line:</p>"
        "<pre><code>from pool_exporter import instrument\n\ninstrument(engine)</code></pre>"
        "<p>With several worker processes behind one port, each shows its own pools only.</p></section>"
    )


def _worst(verdicts: Sequence[Verdict]) -> set[int]:
    """Return the numbers of the pools to show in full, counted from 1: the worst, then the first."""
    ranks = list(_WORDS)  # from the worst to the best
    numbers = range(1, len(verdicts) + 1)
    return set(sorted(numbers, key=lambda number: ranks.index(verdicts[number - 1].severity))[:MAX_POOLS])


def _overview(statuses: Sequence[PoolStatus], verdicts: Sequence[Verdict], shown: set[int]) -> Iterator[str]:
    yield '<nav class="card" aria-label="Pools"><ul>'
    for number, (status, found) in enumerate(zip(statuses, verdicts, strict=True), start=1):
        name = markup(status.snapshot.name)
        link = f'<a href="#pool-{number}">{name}</a>' if number in shown else f"<span>{name}</span>"
        yield f"<li>{link} {_judgement(found)}</li>"
    yield "</ul></nav>"


def _judgement(found: Verdict) -> str:
    return (
        f'<span class="verdict {found.severity}"><b>{_WORDS[found.severity]}</b> '
        f"<span>{markup(found.text, 600)}</span></span>"
    )


def _pool(status: PoolStatus, found: Verdict, number: int, now: float) -> Iterator[str]:
    snapshot = status.snapshot
    yield (
        f'<section class="card" id="pool-{number}" aria-labelledby="name-{number}">'
        f'<h2 id="name-{number}">{markup(snapshot.name)}</h2>{_identity(snapshot)}{_judgement(found)}'
        f"{occupancy(snapshot, status.held)}{_numbers(snapshot, now)}"
    )
    yield history_charts(status.history, snapshot.max)
    yield holders_table(snapshot.name, status.held)
    yield owners_table(snapshot)
    yield reports_table(snapshot.name, status.reports, now) + _configuration(snapshot) + "</section>"


def _identity(snapshot: PoolSnapshot) -> str:
    info = snapshot.info
    parts = [
        "+".join(filter(None, (info.get("dialect"), info.get("driver")))),
        info.get("pool_class", ""),
        "/".join(filter(None, (info.get("server"), info.get("database")))),
    ]
    text = " · ".join(markup(part) for part in parts if part)
    if snapshot.mode == "reduced":
        text += (
            ' <span class="badge" title="Only SQLAlchemy\'s events can be used here: acquires in progress, '
            'waits and timeouts are not known">reduced mode</span>'
        )
    return f'<p class="identity">{text}</p>' if text else ""


def _numbers(snapshot: PoolSnapshot, now: float) -> str:
    pending = snapshot.pending_requests
    since = humanised(max(0.0, now - snapshot.start_time_seconds))
    numbers = [
        (name, _known(None if pending is None else pending.get(phase, 0))) for phase, name in _NAMED_PENDING
    ]
    longest = snapshot.oldest_pending_seconds
    numbers += [
        ("longest", _NOT_KNOWN if longest is None else humanised(longest) if longest else "–"),
        ("checkouts", _known(snapshot.checkouts)),
        ("pool timeouts", _known(snapshot.timeouts)),
        ("leaks suspected", _known(sum(snapshot.leaks_suspected.values()))),
        ("leaks collected", _known(snapshot.leaks_collected)),
    ]
    tiles = [f"<div><dt>{name}</dt><dd>{number}</dd></div>" for name, number in numbers]
    return (
        f'<div class="tiles"><h3>Acquires in progress</h3><dl>{"".join(tiles[:4])}</dl></div>'
        f'<div class="tiles"><h3>In the last {since}</h3><dl>{"".join(tiles[4:])}</dl></div>'
    )


def _configuration(snapshot: PoolSnapshot) -> str:
    timeout, recycle = snapshot.timeout_seconds, snapshot.recycle_seconds
    values = (
        ("pool_size", "none" if snapshot.size is None else str(snapshot.size)),
        ("max", "none" if snapshot.max is None else str(snapshot.max)),
        ("pool_timeout", "none" if timeout is None else humanised(timeout)),
        ("pool_recycle", "off" if recycle is None else humanised(recycle)),
        ("pre_ping", snapshot.info.get("pre_ping", "not known")),
        ("reset_on_return", snapshot.info.get("reset_on_return", "not known")),
    )
    items = "".join(f"<div><dt>{name}</dt><dd>{markup(value)}</dd></div>" for name, value in values)
    return f'<dl class="configuration">{items}</dl>'


def _known(number: int | None) -> str:
    return _NOT_KNOWN if number is None else f"{number:,}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")
