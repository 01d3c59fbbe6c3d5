"""Put a rule file into a PrometheusRule, the manifest of the Prometheus Operator (pure)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pool_exporter.monitoring.rules.files import Which
from pool_exporter.monitoring.rules.options import RuleOptions

NAME = "sqlalchemy-pool"
"""What the names of manifests start with, if nothing else is chosen."""
_LABELS = {"app.kubernetes.io/name": "pool-exporter"}
_NAME = re.compile(r"[a-z0-9](?:[-a-z0-9.]*[a-z0-9])?")
_NAMESPACE = re.compile(r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?")
_WORD = r"[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"
_KEY = re.compile(rf"(?:[a-z0-9](?:[-a-z0-9.]{{0,251}}[a-z0-9])?/)?{_WORD}")
_VALUE = re.compile(rf"(?:{_WORD})?")
_LONGEST_NAME = 200
"""Leaves room for what is put behind it, in the 253 characters that Kubernetes takes."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """Choose what a manifest is called, where it is put and what selects it.

    - `name`: what its name starts with. `-opt-in` and `-opentelemetry` follow, so that none of the
      files replaces another; two selectors need two names.
    - `namespace`: without one, that of whoever applies the manifest.
    - `labels`: for the Operator's `ruleSelector`, such as `{"release": "prometheus"}`.

    Raises `ValueError` or `TypeError` that names the argument, the value and the remedy.
    """

    name: str = NAME
    namespace: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name) or len(self.name) > _LONGEST_NAME:
            raise ValueError(
                f"name={self.name!r}: no name for Kubernetes; give lower-case letters, digits and -, such as orders-pool, "
                f"at most {_LONGEST_NAME} characters"
            )
        if self.namespace and not _NAMESPACE.fullmatch(self.namespace):
            raise ValueError(
                f"namespace={self.namespace!r}: no name for a namespace; give lower-case letters, digits and -, such as "
                "monitoring, at most 63 characters"
            )
        if not isinstance(self.labels, Mapping):
            raise TypeError(
                f"metadata_labels={self.labels!r}: expected a mapping such as {{'release': 'prometheus'}}"
            )
        for key, value in self.labels.items():
            if not _KEY.fullmatch(key) or not _VALUE.fullmatch(value):
                raise ValueError(
                    f"metadata_labels[{key!r}]={value!r}: no label for Kubernetes; give letters, digits, -, _ and ., "
                    "such as release=prometheus, at most 63 characters each"
                )

    def around(self, content: dict[str, Any], options: RuleOptions, which: Which) -> dict[str, Any]:
        """Return the manifest with a rule file in it."""
        ends = [
            "-opt-in" if which == "opt-in" else "",
            "-opentelemetry" if options.vocabulary == "opentelemetry" else "",
        ]
        metadata: dict[str, Any] = {"name": self.name + "".join(ends)}
        if self.namespace:
            metadata["namespace"] = self.namespace
        metadata["labels"] = {**_LABELS, **self.labels}
        return {
            "apiVersion": "monitoring.coreos.com/v1",
            "kind": "PrometheusRule",
            "metadata": metadata,
            "spec": content,
        }
