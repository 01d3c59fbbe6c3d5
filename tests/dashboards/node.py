"""Find what some tests need of npm, and run it."""

from __future__ import annotations

from pathlib import Path

MODULES = Path(__file__).parent / "npm" / "node_modules"
