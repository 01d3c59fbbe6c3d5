"""Put recording and alerting rules together into a rule file, as a plain structure (pure)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal

from pool_exporter.monitoring.rules.alert import Alert, Made
from pool_exporter.monitoring.rules.contradictions import check_storm
from pool_exporter.monitoring.rules.numbers import written
from pool_exporter.monitoring.rules.optional import OPTIONAL
from pool_exporter.monitoring.rules.options import ALERTS, RuleOptions
from pool_exporter.monitoring.rules.recording import (
    FLEET,
    GROUP,
    HISTOGRAMS,
    INSTANCE,
    PRESENCE,
    REASONS,
    Recording,
)
from pool_exporter.monitoring.rules.settings import Value
from pool_exporter.monitoring.rules.standard import STANDARD

Which = Literal["default", "opt-in"]
FILES: dict[str, tuple[Alert, ...]] = {"default": STANDARD, "opt-in": OPTIONAL}


def rule_file(options: RuleOptions, which: Which = "default") -> dict[str, Any]:
    """Return a rule file: of the default alerts, with all recording rules, or of the opt-in ones.

    The opt-in file's alerts use what the default file records; it is loaded beside that one.
    Raises `ValueError` for another `which`.
    """
    if which not in FILES:
        raise ValueError(f"which={which!r}: expected {' or '.join(FILES)}")
    alerts = [_alerting(options, alert) for alert in FILES[which] if alert.name not in options.off]
    if which == "opt-in":
        instances = options.values(ALERTS["FailoverStorm"])["instances"]
        check_storm(float(instances), options.group_by, options.off)
        groups = [_group(options, "opt_in_alerts", alerts)]
    else:
        groups = [
            _group(options, "recording", _recordings(options, INSTANCE)),
            _group(options, "alerts", alerts),
            _group(options, "dashboards", _recordings(options, GROUP)),
            _group(options, "fleet", _recordings(options, FLEET)),
            _group(options, "reasons", _recordings(options, REASONS), slower=2),
            *(
                _group(
                    options,
                    f"{one.key.removesuffix('_seconds_bucket_rate')}_histogram",
                    _recordings(options, [one]),
                    slower=2,
                )
                for one in HISTOGRAMS
            ),
            _group(options, "presence", _recordings(options, PRESENCE), slower=10),
        ]
    return {"groups": [group for group in groups if group["rules"]]}


def _group(options: RuleOptions, name: str, rules: list[dict[str, Any]], slower: int = 1) -> dict[str, Any]:
    assert isinstance(options.interval, float)  # noqa: S101 - made so by the options themselves
    prefix = "sqlalchemy_pool" if options.vocabulary == "prometheus" else "db_client_connection_pool"
    interval = options.words.duration(options.interval * slower)
    return {"name": f"{prefix}_{name}", "interval": interval, "rules": rules}


def _recordings(options: RuleOptions, recordings: Iterable[Recording]) -> list[dict[str, Any]]:
    made = _made(options, options.shared_values)
    return [{"record": one.name(options.words), "expr": one.expression(made)} for one in recordings]


def _alerting(options: RuleOptions, alert: Alert) -> dict[str, Any]:
    values = options.values(alert)
    made = _made(options, values)
    rule: dict[str, Any] = {"alert": alert.full_name, "expr": alert.expression(made)}
    for name in ("for", "keep_firing_for"):
        if values.get(name):
            rule[name] = options.words.duration(made.number(name))
    rule["labels"] = {"severity": values["severity"], **options.labels}
    rule["annotations"] = {
        "summary": alert.summary,
        "description": alert.description(made),
        "runbook_url": f"{options.runbooks.rstrip('/')}/{alert.full_name}.md",
        "dashboard_url": _dashboard_url(options, alert),
    }
    return rule


def _made(options: RuleOptions, values: Mapping[str, Value]) -> Made:
    assert isinstance(options.interval, float)  # noqa: S101 - made so by the options themselves
    return Made(options.words, values, _limit(options), options.interval)


def _limit(options: RuleOptions) -> str:
    """Return the database's limit as a number of PromQL: NaN, which nothing is above, where it is not known."""
    limit = options.database_limit
    return f"scalar(min({limit}))" if isinstance(limit, str) else written(limit)


def _dashboard_url(options: RuleOptions, alert: Alert) -> str:
    if alert.about == "server":
        return options.dashboard_of_vocabulary
    named = [name for name in options.group_by if name != "pool" or alert.about == "pool"]
    parameters = [f"var-{name}={{{{ $labels.{options.words.label(name)} | urlquery }}}}" for name in named]
    separator = "&" if "?" in options.dashboard_of_vocabulary else "?"
    return options.dashboard_of_vocabulary + (separator + "&".join(parameters) if parameters else "")
