"""Read the committed dashboards, and fit them to one installation."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from pool_exporter.monitoring.dashboards.spelling import Words

_INSTALLED = Path(__file__).parent / "json"
DIRECTORY = _INSTALLED if _INSTALLED.is_dir() else Path(__file__).resolve().parents[3] / "dashboards"
"""A folder for each vocabulary. A wheel has a copy of the repository's, a checkout the repository's itself."""
NAMES = ("fleet", "pool", "leak-hunt")
"""The dashboards, from the general to the specific; each is a file of this name."""
FROM_RECORDED = ("fleet",)
"""Those that there is a second file of, `recorded-…`, which reads recorded series."""

Json = dict[str, Any]


def dashboards(words: Words) -> dict[str, Json]:
    """Return every dashboard as one installation needs it, by name."""
    return {name: dashboard(name, words) for name in NAMES}


def dashboard(name: str, words: Words) -> Json:
    """Return one dashboard, ready for Grafana."""
    words = replace(words, recorded=words.recorded and name in FROM_RECORDED)
    file = f"recorded-{name}.json" if words.recorded else f"{name}.json"
    committed: Json = json.loads((DIRECTORY / words.vocabulary.name / file).read_text(encoding="utf-8"))
    variables = committed["templating"]["list"]
    place = next(index for index, variable in enumerate(variables) if variable["name"] == "job")
    job = variables[place]
    fitted: Json = _fitted(committed, words)
    fitted["templating"]["list"][place:place] = [_like(job, label, words) for label in words.extra]
    return fitted


def text_of(dashboard: Json) -> str:
    """Return a dashboard as the text of its file."""
    return json.dumps(dashboard, indent=2, ensure_ascii=False) + "\n"


def _like(job: Json, label: str, words: Words) -> Json:
    """Return a variable for a label as that of the job is."""
    metric = job["query"].removeprefix("label_values(").removesuffix(", job)")
    narrowed = words.chosen(label)
    query = f"label_values({metric}{f'{{{narrowed}}}' if narrowed else ''}, {label})"
    return {**job, "name": label, "label": label, "definition": query, "query": query}


def _fitted(value: Any, words: Words) -> Any:
    if isinstance(value, str):
        return words.fitted(value)
    if isinstance(value, list):
        return [_fitted(one, words) for one in value]
    if isinstance(value, dict):
        return {words.fitted(key): _fitted(one, words) for key, one in value.items()}
    return value
