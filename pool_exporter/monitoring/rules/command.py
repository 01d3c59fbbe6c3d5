"""Write options as the command that makes the same file, for its first lines (pure)."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterator
from typing import Literal

from pool_exporter.monitoring.rules.conditions import FULL
from pool_exporter.monitoring.rules.durations import duration_of
from pool_exporter.monitoring.rules.manifest import Manifest
from pool_exporter.monitoring.rules.numbers import written
from pool_exporter.monitoring.rules.options import SETTINGS, RuleOptions
from pool_exporter.monitoring.rules.settings import Value

What = Literal["default", "opt-in", "inhibit-rules"]


def command_of(options: RuleOptions, what: What = "default", manifest: Manifest | None = None) -> str:
    """Return the command line, with every option that is not the default, in one line."""
    words = ["pool-exporter", "alerts"]
    if what != "default":
        words.append(f"--{what}")
    for option, value in (*_plain(options), *_repeated(options), *_of_manifest(manifest or Manifest())):
        words += [option, value]
    line = shlex.join(words)
    return "".join(one if one.isprintable() else "?" for one in line)  # it stands in a comment


def _plain(options: RuleOptions) -> Iterator[tuple[str, str]]:
    assert isinstance(options.interval, float)  # noqa: S101 - made so by the options themselves
    default = RuleOptions()
    limit = options.database_limit
    texts = {
        "format": options.format,
        "vocabulary": options.vocabulary,
        "selector": ",".join(one.spelled(one.label) for one in options.matchers),
        "group_by": ",".join(options.group_by),
        "database_limit": limit if isinstance(limit, str) else written(limit),
        "runbooks": options.runbooks,
        "dashboard": options.dashboard,
        "interval": duration_of(options.interval),
        "time_scale": written(options.time_scale),
    }
    for name, text in texts.items():
        if getattr(options, name) != getattr(default, name):
            yield f"--{name.replace('_', '-')}", text


def _repeated(options: RuleOptions) -> Iterator[tuple[str, str]]:
    yield from (("--set", text) for text in _settings(dict(options.settings)))
    yield from (("--off", name) for name in options.off)
    yield from (("--label", f"{name}={value}") for name, value in options.labels.items())


def _settings(left: dict[str, Value]) -> Iterator[str]:
    """Return the settings; of one that is set for every alert the commonest value in one, as `*.for=1m`."""
    for name in dict.fromkeys(full.partition(".")[2] for full in left):
        every = [one for one in SETTINGS if one.partition(".")[2] == name and not one.startswith(FULL)]
        values = [left[one] for one in every if one in left]
        if len(values) == len(every) > 1:
            ((commonest, _),) = Counter(values).most_common(1)
            yield f"*.{name}={SETTINGS[every[0]].text(commonest)}"
            left = {one: value for one, value in left.items() if one not in every or value != commonest}
    for full, value in left.items():
        yield f"{full}={SETTINGS[full].text(value)}"


def _of_manifest(manifest: Manifest) -> Iterator[tuple[str, str]]:
    if manifest.name != Manifest().name:
        yield "--name", manifest.name
    if manifest.namespace:
        yield "--namespace", manifest.namespace
    yield from (("--metadata-label", f"{name}={value}") for name, value in manifest.labels.items())
