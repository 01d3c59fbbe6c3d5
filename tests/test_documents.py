"""The documents name only what exists: metrics, labels, options, files."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

from pool_exporter import instrument, instrument_all, start_server, status_app
from pool_exporter.catalogue import CATALOGUE, PREFIX
from pool_exporter.catalogue.vocabularies import OPENTELEMETRY
from tests.support import ROOT

DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])


def exposed_names() -> dict[str, tuple[str, ...]]:
    """Return every sample name, of `/metrics` and of a Collector, and the labels that its series have."""
    names: dict[str, tuple[str, ...]] = {}
    for metric in CATALOGUE:
        if not metric.in_prometheus:
            continue
        labels = ("pool", *metric.labels)
        if metric.kind == "histogram":
            names[metric.prometheus_name] = labels
            names[metric.prometheus_name + "_bucket"] = (*labels, "le")
            names[metric.prometheus_name + "_sum"] = names[metric.prometheus_name + "_count"] = labels
        elif metric.kind == "info":
            names[metric.prometheus_name] = labels
        else:
            names[metric.prometheus_name] = labels
    for metric in CATALOGUE:  # as a Collector writes them; one name is the same on both roads
        spelled = tuple(OPENTELEMETRY.label(label) for label in ("pool", *metric.labels))
        name = metric.collector_name
        names[name] = (*names.get(name, ()), *spelled)
    return names


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_documents_name_only_metrics_and_labels_of_the_catalogue(document: Path) -> None:
    """A metric or label that a document names is in the catalogue."""
    names = exposed_names()
    found = re.findall(rf"(?<!:)\b({PREFIX}[a-z_]+)(?:\{{([^}}]*)\}})?", document.read_text(encoding="utf-8"))
    for name, selector in found:
        assert name in names, f"{document.name} names {name}"
        for label in re.findall(r"(\w+)\s*=", selector):
            assert label in (*names[name], "job", "instance"), f"{document.name}: {name} has no label {label}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_between_documents_lead_somewhere(document: Path) -> None:
    """A relative link in a document names a file of the repository."""
    for target in re.findall(r"\]\(([^)#:]+?)(?:#[^)]*)?\)", document.read_text(encoding="utf-8")):
        assert (document.parent / target).exists(), f"{document.name} links to {target}"


def test_the_option_tables_list_every_option() -> None:
    """The option tables of README.md name every keyword of the public functions."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    options = readme[readme.index("## Options") : readme.index("## What it touches")]
    for function in (instrument, instrument_all, start_server, status_app):
        for name, parameter in inspect.signature(function).parameters.items():
            if parameter.kind is parameter.KEYWORD_ONLY or name == "addr":
                assert f"`{name}`" in options, f"{function.__name__}({name}=) is not in the table"
