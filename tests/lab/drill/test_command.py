"""The command `pool-exporter drill`: what it lists and what it refuses, before anything is started."""

from __future__ import annotations

import socket

import pytest

from pool_exporter.cli import main
from pool_exporter_lab.drill.scenarios.table import SCENARIOS
from tests.support import need_tool


def test_an_unknown_scenario_is_answered_with_all_of_them(capsys: pytest.CaptureFixture[str]) -> None:
    """The message names what was given, and lists every scenario with its sentence."""
    code = main(["drill", "burst", "fast-leek"])
    captured = capsys.readouterr()
    assert (code, captured.out) == (2, "")
    assert "argument SCENARIO: there is no 'fast-leek'; give all or some of" in captured.err
    lines = [line.split() for line in captured.err.splitlines()]
    for name, scenario in SCENARIOS.items():
        assert [name, *scenario.phrase.split()] in lines


def test_help_lists_the_scenarios_and_the_factor(capsys: pytest.CaptureFixture[str]) -> None:
    """--help is a success, with a line a scenario and the factor by which time is shortened."""
    assert main(["drill", "--help"]) == 0
    text = capsys.readouterr().out
    assert "Time is shortened 30" in " ".join(text.split())
    for name in SCENARIOS:
        assert f"\n  {name} " in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["all", "--jobs", "0"], "argument --jobs: '0': give a whole number from 1 to 64"),
        (["all", "--jobs", "many"], "argument --jobs: 'many'"),
        (["all", "--seed", "x"], "argument --seed: invalid int value: 'x'"),
        (["all", "--prometheus-port", "65536"], "argument --prometheus-port: '65536': give a port"),
        (["all", "--alertmanager-port", "-1"], "argument --alertmanager-port: '-1': give a port"),
        ([], "SCENARIO"),
    ],
)
def test_a_bad_argument_is_named_with_its_value(
    capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    """Each wrong argument is exit code 2 and a message with its name, its value and what is right."""
    code = main(["drill", *arguments])
    captured = capsys.readouterr()
    assert (code, captured.out) == (2, "")
    assert message in captured.err


@pytest.mark.parametrize("name", ["prometheus", "alertmanager"])
def test_a_port_that_is_taken_is_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """The argument, the port and the remedy are said, and nothing is started."""

    def never(work: object) -> int:
        raise AssertionError("something was started")

    monkeypatch.setattr("asyncio.run", never)
    need_tool("prometheus", "prometheus")
    need_tool("prometheus-alertmanager", "prometheus-alertmanager")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code = main(["drill", "fast-leak", f"--{name}-port", str(port)])
    captured = capsys.readouterr()
    assert (code, captured.out) == (2, "")
    assert (
        f"argument --{name}-port: {port} is in use on 127.0.0.1; name another port, or 0 for any free one"
        in captured.err
    )


def test_a_disabled_library_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the library switched off the drill says so instead of waiting for an alert that cannot come."""
    monkeypatch.setenv("POOL_EXPORTER_DISABLED", "1")
    assert main(["drill", "fast-leak"]) == 1
    assert "POOL_EXPORTER_DISABLED is set" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("module", "package"), [("psycopg", "psycopg"), ("uvicorn", "uvicorn"), ("yaml", "PyYAML")]
)
def test_a_missing_extra_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], module: str, package: str
) -> None:
    """Without a package of the extra the message names both."""
    monkeypatch.setitem(__import__("sys").modules, module, None)
    assert main(["drill", "fast-leak"]) == 1
    assert f'{package} not installed; pip install "pool_exporter[drill]"' in capsys.readouterr().err
