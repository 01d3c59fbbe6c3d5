"""The Grafana dashboards of `dashboards/`, in each vocabulary. Needs Python 3.11, for Grafana's SDK."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pool_exporter.catalogue.vocabularies import VOCABULARIES
from pool_exporter.monitoring.dashboards import Words, text_of
from tools.dashboards import fleet, leak_hunt, pool
from tools.dashboards.queries import RECORDED, SCRAPED
from tools.dashboards.spelling import spelled
from tools.imports import ROOT

DASHBOARDS = ROOT / "dashboards"


def made() -> dict[str, Any]:
    """Return every dashboard with tokens for what differs between installations, by the name of its file."""
    return {
        "fleet": fleet.made(SCRAPED),
        "pool": pool.made(),
        "leak-hunt": leak_hunt.made(),
        "recorded-fleet": fleet.made(RECORDED),
    }


def files() -> dict[Path, str]:
    """Return the text of each dashboard in each vocabulary, by path."""
    return {
        DASHBOARDS / vocabulary.name / f"{name}.json": text_of(
            spelled(template, Words(vocabulary, recorded=name.startswith("recorded-")))
        )
        for vocabulary in VOCABULARIES.values()
        for name, template in made().items()
    }
