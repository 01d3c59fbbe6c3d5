"""Write a rule file as YAML, for Prometheus or as a PrometheusRule of the Prometheus Operator."""

from __future__ import annotations

from typing import Any

from pool_exporter.monitoring.rules.command import command_of
from pool_exporter.monitoring.rules.files import Which, rule_file
from pool_exporter.monitoring.rules.inhibition import inhibit_rules
from pool_exporter.monitoring.rules.manifest import Manifest
from pool_exporter.monitoring.rules.options import RuleOptions

try:
    import yaml
except ModuleNotFoundError as missing:
    _MISSING: ModuleNotFoundError | None = missing
    _Base: Any = object
else:
    _MISSING = None
    _Base = yaml.SafeDumper

OLDEST_PROMETHEUS = "2.42"


class _Dumper(_Base):  # type: ignore[misc]  # the base is Any where PyYAML may be missing
    """Write texts of several lines as blocks, and lists below their key with two more spaces."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> Any:
        """Indent lists too, as people do."""
        return super().increase_indent(flow, False)


def _text(dumper: Any, text: str) -> Any:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


if _MISSING is None:
    _Dumper.add_representer(str, _text)


def rendered(options: RuleOptions, which: Which = "default", manifest: Manifest | None = None) -> str:
    """Return a rule file as YAML text, in the format that the options choose; `manifest` is for a PrometheusRule.

    Raises `ModuleNotFoundError` that names the extra where PyYAML is missing.
    """
    content = rule_file(options, which)
    if options.format == "prometheusrule":
        content = (manifest or Manifest()).around(content, options, which)
    return _header(options, which, manifest) + _yaml(content)


def placeholder_note(options: RuleOptions) -> str:
    """Return a line that says which links lead nowhere and by which options they are set; "" if none does."""
    left = options.placeholders
    if not left:
        return ""
    urls = " and ".join({"runbooks": "runbook_url", "dashboard": "dashboard_url"}[name] for name in left)
    return f"{urls}: example.com leads nowhere; give your own with {' and '.join(f'--{name} URL' for name in left)}."


def rendered_inhibition(options: RuleOptions) -> str:
    """Return the part of Alertmanager's configuration by which causes mute their symptoms, as YAML text."""
    return (
        f"# Made by `{command_of(options, 'inhibit-rules')}`. Paste these into the inhibit_rules of alertmanager.yml.\n"
        "# For other labels or names make them anew: where an alert lacks a label of `equal`, it mutes other pools.\n"
        "# That goes for external labels too: where several clusters send to one Alertmanager, a cause in one mutes the\n"
        "# pages of the others, unless these are made with --group-by cluster,job,pool; group notifications by it as well.\n"
    ) + _yaml(inhibit_rules(options))


def _yaml(content: dict[str, Any]) -> str:
    if _MISSING is not None:
        raise ModuleNotFoundError(
            "PyYAML is missing, which writes the rules; install it with: pip install 'pool_exporter[rules]'"
        ) from _MISSING
    return str(yaml.dump(content, Dumper=_Dumper, sort_keys=False, width=1_000_000, allow_unicode=True))


def _header(options: RuleOptions, which: Which, manifest: Manifest | None) -> str:
    lines = [f"Made by `{command_of(options, which, manifest)}`; change its options, not this text."]
    if any(
        "keep_firing_for" in rule for group in rule_file(options, which)["groups"] for rule in group["rules"]
    ):
        lines.append(f"Needs Prometheus {OLDEST_PROMETHEUS} or later, for keep_firing_for.")
    if which == "opt-in":
        lines.append(
            "Load it beside the default file, made with the same options, whose recording rules it uses."
        )
    lines.append(placeholder_note(options))
    return "".join(f"# {line}\n" for line in lines if line)
