"""Read the templates of the dashboards, which the development generator wrote, and spell them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from pool_exporter.monitoring.dashboards.spelling import Words

TEMPLATES = Path(__file__).parent / "templates"
NAMES = ("fleet", "pool", "leak-hunt")
"""The dashboards, from the general to the specific; each is a file of this name."""
FROM_RECORDED = ("fleet",)
"""Those that there is a second template of, which asks recorded series; its file is in a directory of its own."""

Json = dict[str, Any]


def dashboards(words: Words) -> dict[str, Json]:
    """Return every dashboard as one installation needs it, by name."""
    return {name: dashboard(name, words) for name in NAMES}


def dashboard(name: str, words: Words) -> Json:
    """Return one dashboard, ready for Grafana."""
    words = replace(words, recorded=words.recorded and name in FROM_RECORDED)
    directory = TEMPLATES / "recorded" if words.recorded else TEMPLATES
    template: Json = json.loads((directory / f"{name}.json").read_text(encoding="utf-8"))
    variables = template["templating"]["list"]
    place = next(index for index, variable in enumerate(variables) if variable["name"] == "job")
    variables[place:place] = [_like(variables[place], label) for label in words.extra]
    spelled: Json = _spelled(template, words)
    return spelled


def text_of(dashboard: Json) -> str:
    """Return a dashboard as the text of its file."""
    return json.dumps(dashboard, indent=2, ensure_ascii=False) + "\n"


def _like(job: Json, label: str) -> Json:
    """Return a variable for a label as that of the job is."""
    query = job["query"].replace("before job>>, job)", f"before {label}>>, {label})")
    return {**job, "name": label, "label": label, "definition": query, "query": query}


def _spelled(value: Any, words: Words) -> Any:
    if isinstance(value, str):
        return words.spell(value)
    if isinstance(value, list):
        return [_spelled(one, words) for one in value]
    if isinstance(value, dict):
        return {words.spell(key): _spelled(one, words) for key, one in value.items()}
    return value
