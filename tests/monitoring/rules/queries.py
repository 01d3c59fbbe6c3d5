"""Check one PromQL expression against what there is to ask for, by its syntax tree."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import promql_parser

from pool_exporter.catalogue import CATALOGUE
from pool_exporter.catalogue.vocabularies import PROMETHEUS, Vocabulary
from pool_exporter.monitoring.rules import RECORDINGS, RuleOptions

TARGET_LABELS = ("job", "instance", "cluster", "namespace")
FOREIGN = {
    "pg_settings_max_connections": ("job", "instance", "server"),
    "ALERTS": ("alertname", "alertstate", "job", "cluster", "namespace"),
}
RATES = {"rate", "irate", "increase"}


class Series(NamedTuple):
    """What is known of a series: whether it only rises, its labels, and the values of those that are bounded."""

    rises: bool
    labels: tuple[str, ...]
    values: Mapping[str, tuple[str, ...]]


def known_series(vocabulary: Vocabulary = PROMETHEUS) -> dict[str, Series]:
    """Return everything that a rule may name: the catalogue, the targets, and what is recorded."""
    known = {vocabulary.presence: Series(False, TARGET_LABELS, {})}
    known |= {name: Series(False, labels, {}) for name, labels in FOREIGN.items()}
    for metric in CATALOGUE:
        if not metric.in_prometheus:
            continue
        own = tuple(map(vocabulary.label, ("pool", *metric.labels)))
        values = {vocabulary.label(metric.labels[0]): metric.values} if metric.values else {}
        name = vocabulary.metric(metric.name)
        if metric.kind == "histogram":
            known[name + "_bucket"] = Series(True, (*TARGET_LABELS, *own, "le"), values)
            known[name + "_sum"] = known[name + "_count"] = Series(True, (*TARGET_LABELS, *own), values)
        else:
            known[name] = Series(metric.kind == "counter", (*TARGET_LABELS, *own), values)
    words = RuleOptions(vocabulary=vocabulary.name).words
    every = tuple({label for series in known.values() for label in series.labels})
    known |= {one.name(words): Series(False, every, {}) for one in RECORDINGS.values()}
    return known


def nodes_of(expression: Any) -> list[Any]:
    """Return every node of a syntax tree, the outermost first."""
    found: list[Any] = []
    promql_parser.walk(expression, found.append)
    return found


def faults_of(query: str, vocabulary: Vocabulary = PROMETHEUS) -> Iterator[str]:
    """Yield what is wrong with a query."""
    try:
        tree = promql_parser.parse(query)
    except ValueError as error:
        yield f"does not parse: {error}"
        return
    known = known_series(vocabulary)
    labels = {label for series in known.values() for label in series.labels}
    for node in nodes_of(tree):
        if isinstance(node, promql_parser.VectorSelector):
            yield from _of_selector(node, known)
        elif isinstance(node, promql_parser.BinaryExpr):
            yield from _of_division(node)
        elif isinstance(node, promql_parser.Call) and node.func.name in RATES:
            yield from _of_rate(node, known)
        for label in _labels_of(node):
            if label not in labels:
                yield f"no series has the label {label}"


def counters_outside_of_rates(query: str, vocabulary: Vocabulary = PROMETHEUS) -> Iterator[str]:
    """Yield the counters whose bare value a query looks at, which restarts make meaningless."""
    tree, known = promql_parser.parse(query), known_series(vocabulary)
    within = {
        node.args[0].vector_selector.name
        for node in nodes_of(tree)
        if isinstance(node, promql_parser.Call)
        and node.func.name in RATES
        and isinstance(node.args[0], promql_parser.MatrixSelector)
    }
    for node in nodes_of(tree):
        if isinstance(node, promql_parser.VectorSelector):
            series = known.get(node.name)
            if series is not None and series.rises and node.name not in within:
                yield f"looks at the bare value of the counter {node.name}"


def _of_selector(node: Any, known: Mapping[str, Series]) -> Iterator[str]:
    series = known.get(node.name)
    if series is None:
        yield f"no series is called {node.name}"
        return
    for matcher in node.matchers.matchers:
        if matcher.name not in series.labels:
            yield f"{node.name} has no label {matcher.name}"
        values = series.values.get(matcher.name)
        for value in matcher.value.split("|"):
            if values is not None and value not in values:
                yield f"{node.name} never has {matcher.name}={value}"


def _of_division(node: Any) -> Iterator[str]:
    if str(node.op) != "/" or isinstance(node.rhs, promql_parser.NumberLiteral):
        return
    inner = node.rhs.expr if isinstance(node.rhs, promql_parser.ParenExpr) else None
    guarded = (
        isinstance(inner, promql_parser.BinaryExpr)
        and str(inner.op) == ">"
        and isinstance(inner.rhs, promql_parser.NumberLiteral)
        and inner.rhs.val == 0
    )
    if not guarded:
        yield "divides by what may be 0; write / (… > 0)"


def _of_rate(node: Any, known: Mapping[str, Series]) -> Iterator[str]:
    argument = node.args[0]
    if not isinstance(argument, promql_parser.MatrixSelector):
        yield f"{node.func.name}() of a subquery"
        return
    series = known.get(argument.vector_selector.name)
    if series is not None and not series.rises:
        yield f"{node.func.name}() of the gauge {argument.vector_selector.name}"


def _labels_of(node: Any) -> Iterator[str]:
    modifier = getattr(node, "modifier", None)
    if modifier is None:
        return
    if isinstance(node, promql_parser.AggregateExpr):
        yield from modifier.labels
        return
    if modifier.matching is not None:
        yield from modifier.matching.labels
    yield from modifier.group_labels or ()
