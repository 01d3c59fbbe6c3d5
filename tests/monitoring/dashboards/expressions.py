"""Find what is wrong with a PromQL expression of a dashboard, on its syntax tree."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import promql_parser as promql

from pool_exporter.catalogue import CATALOGUE, Metric
from pool_exporter.monitoring.dashboards import Words
from pool_exporter.monitoring.rules import RECORDINGS, RuleOptions
from pool_exporter.monitoring.rules.recording import Recording

RATE_INTERVAL = timedelta(seconds=12345)
"""Stands for `$__rate_interval`, which the parser does not know."""
SHOWN = timedelta(seconds=54321)
"""Stands for `$__range`, all of the time shown."""
RATES = {"rate", "irate", "increase"}


def parsed(expr: str) -> Any:
    """Return the syntax tree, with numbers in the place of Grafana's variables; `ValueError` if it has none."""
    text = expr.replace("$__rate_interval", "12345s").replace("[$__range:", "[1h:")
    text = text.replace("[$__range]", "[54321s]").replace("offset $__range", "offset 54321s")
    text = re.sub(r'(?<!["~|])\$(limit)\b', "100", text)
    return promql.parse(text)


def walked(node: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, tuple[Any, ...]]]:
    """Yield every node with those above it, the nearest last."""
    yield node, above
    below = (*above, node)
    if isinstance(node, promql.MatrixSelector):
        yield from walked(node.vector_selector, below)
    elif isinstance(node, promql.BinaryExpr):
        yield from walked(node.lhs, below)
        yield from walked(node.rhs, below)
    elif isinstance(node, promql.Call):
        for one in node.args:
            yield from walked(one, below)
    elif isinstance(node, (promql.AggregateExpr, promql.ParenExpr, promql.UnaryExpr, promql.SubqueryExpr)):
        yield from walked(node.expr, below)


def complaints(expr: str, words: Words) -> list[str]:
    """Return what is wrong with an expression, in words."""
    try:
        tree = parsed(expr)
    except ValueError as error:
        return [f"is no PromQL: {error}"]
    found = []
    for node, above in walked(tree):
        if isinstance(node, promql.VectorSelector):
            found += _of_selector(node, above, words)
        elif isinstance(node, promql.Call):
            found += _of_call(node)
        elif isinstance(node, promql.BinaryExpr) and str(node.op) == "/":
            found += _of_division(node)
    return found


def selected(expr: str) -> set[str]:
    """Return the names of the series that an expression reads."""
    return {str(node.name) for node, _ in walked(parsed(expr)) if isinstance(node, promql.VectorSelector)}


def recorded(words: Words) -> dict[str, Recording]:
    """Return what the rules record for each pool of a job, by the name of the series."""
    rules = RuleOptions(vocabulary=words.vocabulary.name).words
    return {one.name(rules): one for one in RECORDINGS.values() if one.level == "job_pool"}


def most_series(expr: str) -> float:
    """Return how many series an expression can give at most, infinity if nothing bounds them."""
    return _most(parsed(expr))


def _most(node: Any) -> float:
    while isinstance(node, (promql.ParenExpr, promql.SubqueryExpr)):
        node = node.expr
    if isinstance(node, promql.NumberLiteral):
        return 1
    if isinstance(node, promql.AggregateExpr):
        if node.param is not None:
            return float(node.param.val)
        return float("inf") if node.modifier is not None else 1
    if isinstance(node, promql.BinaryExpr):
        both = [_most(one) for one in (node.lhs, node.rhs) if not isinstance(one, promql.NumberLiteral)]
        # Two single series without labels are one series to `or`.
        return sum(both) if str(node.op) == "or" and max(both) > 1 else min(both)
    if isinstance(node, promql.Call) and node.args:
        if node.func.name == "histogram_quantile":
            inner = node.args[1]
            by_le = isinstance(inner, promql.AggregateExpr) and inner.modifier.labels == ["le"]
            return 1 if by_le else float("inf")
        return max(_most(one) for one in node.args)
    return float("inf")


def _of_selector(node: Any, above: tuple[Any, ...], words: Words) -> Iterator[str]:
    matchers = {
        matcher.name: (str(matcher.op).rpartition(".")[2], matcher.value)
        for matcher in node.matchers.matchers
    }
    if node.name == "ALERTS":
        for name in words.group_by:
            if matchers.get(words.vocabulary.label(name)) != ("Re", f"${name}|"):
                yield f'ALERTS lacks {words.vocabulary.label(name)}=~"${name}|"'
        return
    for name in words.variables:
        if matchers.get(words.vocabulary.label(name)) != ("Re", f"${name}"):
            yield f'{node.name} lacks {words.vocabulary.label(name)}=~"${name}"'
    recording = recorded(words).get(str(node.name))
    if recording is not None:
        yield from _of_recorded(node, above, recording)
    metric, suffix = _named(str(node.name), words) if recording is None else _metric_of(recording)
    if metric is None and recording is None:
        yield f"{node.name} is {'not recorded' if ':' in node.name else 'not in the catalogue'}"
        return
    if words.recorded and recording is None:
        yield f"{node.name} is scraped, not recorded"
    yield from _of_labels(node, matchers, metric, words)
    if recording is None and metric is not None:
        yield from _of_counting(node, above, metric, suffix, words)


def _of_labels(
    node: Any, matchers: dict[str, tuple[str, str]], metric: Metric | None, words: Words
) -> Iterator[str]:
    labels, values = (metric.labels, metric.values) if metric is not None else (("server",), ())
    known = {words.vocabulary.label(label) for label in (*labels, *words.variables)}
    known |= set(re.findall(r"(\w+)\s*[=!]", words.selector))
    for label in matchers.keys() - known:
        yield f"{node.name} has no label {label}"
    for label, (operator, value) in matchers.items():
        if values and label == words.vocabulary.label(labels[0]) and operator in ("Equal", "Re"):
            for one in value.split("|"):
                if one not in values:
                    yield f"{node.name} has no {label}={one!r}"


def _metric_of(recording: Recording) -> tuple[Metric | None, str]:
    """Return the metric that is recorded, none for what the rules have a word of their own for."""
    return next(
        (one for one in CATALOGUE if one.name == recording.metric and not recording.derived), None
    ), ""


def _of_recorded(node: Any, above: tuple[Any, ...], recording: Recording) -> Iterator[str]:
    """Yield what is wrong with a use of a recorded series: it is a sum, a maximum or a rate already."""
    if any(isinstance(one, promql.Call) and one.func.name in RATES for one in above):
        yield f"{node.name} is no count: its rate means nothing"
    sums = [one for one in above if isinstance(one, promql.AggregateExpr) and one.param is None]
    if not sums:
        yield f"{node.name} is not aggregated: other labels of its rules would tell one pool apart"
    if recording.operation.startswith("bucket_"):
        yield from _not_by_le(node, sums)


def _of_counting(
    node: Any, above: tuple[Any, ...], metric: Metric, suffix: str, words: Words
) -> Iterator[str]:
    rated = len(above) > 1 and isinstance(above[-2], promql.Call) and above[-2].func.name in RATES
    counts = metric.kind == "counter" or bool(suffix)
    if counts and not rated and not _is_first(above):
        yield f"{node.name} counts since the start of its process: only its rate or increase means anything"
    if rated and not counts:
        yield f"{node.name} is a gauge: its rate means nothing"
    if metric.kind == "histogram" and not suffix:
        yield f"{node.name} has no series of this name"
    if suffix == "_bucket":
        sums = [one for one in above if isinstance(one, promql.AggregateExpr)]
        yield from _not_by_le(node, sums)


def _not_by_le(node: Any, sums: list[Any]) -> Iterator[str]:
    if not sums or sums[-1].modifier is None or "le" not in sums[-1].modifier.labels:
        yield f"{node.name} is not summed by le"


def _is_first(above: tuple[Any, ...]) -> bool:
    """Return whether a count is taken at its first in the time shown, where it was not known before."""
    names = [one.func.name for one in above if isinstance(one, promql.Call)]
    unless = any(isinstance(one, promql.BinaryExpr) and str(one.op) == "unless" for one in above)
    return unless and bool(names) and names[-1] in ("min_over_time", "present_over_time")


def _named(name: str, words: Words) -> tuple[Metric | None, str]:
    for metric in CATALOGUE:
        try:
            spelled = words.vocabulary.metric(metric.name)
        except KeyError:
            continue
        for suffix in ("_bucket", "_count", "_sum", "") if metric.kind == "histogram" else ("",):
            if name == spelled + suffix:
                return metric, suffix
    return None, ""


def _of_call(node: Any) -> Iterator[str]:
    if node.func.name in RATES:
        (window,) = node.args
        counted = node.func.name == "increase" and isinstance(window, promql.MatrixSelector)
        if counted and window.range == SHOWN:
            return
        if not isinstance(window, promql.MatrixSelector) or window.range != RATE_INTERVAL:
            yield f"{node.func.name}() is not over exactly $__rate_interval"
    if node.func.name == "histogram_quantile":
        inner = node.args[1]
        if (
            not isinstance(inner, promql.AggregateExpr)
            or inner.modifier is None
            or "le" not in inner.modifier.labels
        ):
            yield "histogram_quantile() of what is not aggregated by le"


def _of_division(node: Any) -> Iterator[str]:
    divisor = node.rhs
    while isinstance(divisor, promql.ParenExpr):
        divisor = divisor.expr
    if isinstance(divisor, promql.NumberLiteral) and divisor.val != 0:
        return
    if not isinstance(divisor, promql.BinaryExpr) or str(divisor.op) != ">":
        yield "a division may be by 0: guard the divisor with > 0"
