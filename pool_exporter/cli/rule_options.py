"""Read the options that are the same for the rules and for the dashboards, and name them in errors about them."""

from __future__ import annotations

import re
from collections.abc import Iterable

from pool_exporter.cli.errors import CommandError
from pool_exporter.support.text import visible

_OPTIONS = {"settings": "--set", "labels": "--label", "metadata_labels": "--metadata-label"}
"""Options that have another name than the argument that they become; of others only the spelling differs."""


def labels_of(text: str) -> list[str]:
    """Return the labels that `--group-by` lists."""
    return [label.strip() for label in text.split(",")]


def pairs_of(option: str, given: Iterable[str], example: str) -> dict[str, str]:
    """Return the names and values of an option that may be given several times, for a name once."""
    found: dict[str, str] = {}
    said: dict[str, str] = {}
    for text in given:
        name, equals, value = (part.strip() for part in text.partition("="))
        if not equals or not name:
            raise CommandError(
                f"{option} {visible(text)}: expected a name and a value, as in {option} {example}"
            )
        if name in said:
            raise CommandError(
                f"{option} {visible(said[name])} and {option} {visible(text)}: {visible(name)} can have one value; "
                "leave one of them out"
            )
        found[name], said[name] = value, text
    return found


def in_the_words_of_a_command(message: str) -> str:
    """Return an error about an argument, of the rules or of the dashboards, with the name of its option instead."""
    word = re.match(r"[a-z_]+", message)
    if word is None:
        return message
    option = _OPTIONS.get(word[0], "--" + word[0].replace("_", "-"))
    rest = re.sub(r"^\['([^']*)'\]", r"\1", message[word.end() :])
    return f"{option} {rest.removeprefix('=')}".replace("add it to group_by", "add it to --group-by")
