"""Replace the generated parts of a document, which stand between two comments."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path


def rewritten(document: Path, parts: Mapping[str, str]) -> str:
    """Return the document's text with each part between `<!-- generated: NAME -->` and `<!-- end: NAME -->`.

    Raises `ValueError` where the document has no such comments.
    """
    text = document.read_text(encoding="utf-8")
    for name, part in parts.items():
        before, begin, rest = text.partition(f"<!-- generated: {name} -->\n")
        _, end, after = rest.partition(f"\n<!-- end: {name} -->")
        if not begin or not end:
            raise ValueError(f"{document.name} has no '<!-- generated: {name} -->' and its end")
        text = before + begin + part + end + after
    return text
