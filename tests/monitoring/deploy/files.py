"""Find what is shipped to be deployed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from tests.support import ROOT

Json = dict[str, Any]
DEPLOY = ROOT / "deploy"
COMPOSE: Json = yaml.safe_load((DEPLOY / "compose.yaml").read_text("utf-8"))
KUSTOMIZATION = DEPLOY / "kubernetes" / "kustomization.yaml"
MANIFESTS = sorted(set((DEPLOY / "kubernetes").glob("*.yaml")) - {KUSTOMIZATION})


def mounted() -> Iterator[tuple[str, Path, str]]:
    """Yield each service with the files that it mounts, and where."""
    for name, service in COMPOSE["services"].items():
        for volume in service.get("volumes", ()):
            source, target, mode = volume.split(":")
            assert mode == "ro"
            yield name, (DEPLOY / source).resolve(), target
