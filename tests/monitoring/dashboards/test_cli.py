"""Check the command that writes the dashboards."""

from __future__ import annotations

import errno
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pool_exporter.cli import main
from pool_exporter.monitoring.dashboards import FROM_RECORDED, NAMES
from tests.monitoring.dashboards.linter import panels_of
from tests.support import ROOT

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command and return its exit code and what it printed."""

    def running_it(*arguments: str) -> tuple[int, str, str]:
        code = main(["dashboards", *arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return running_it


@pytest.mark.parametrize("vocabulary", ["prometheus", "opentelemetry"])
def test_it_writes_the_committed_dashboards(run: Run, tmp_path: Path, vocabulary: str) -> None:
    """Without further options the files are those of the repository, in a directory made for them."""
    out = tmp_path / "new" / "dashboards"
    code, printed, errors = run("--out", str(out), "--vocabulary", vocabulary)
    assert (code, errors) == (0, "")
    assert printed.splitlines() == [str(out / f"{name}.json") for name in NAMES]
    for name in NAMES:
        committed = ROOT / "dashboards" / vocabulary / f"{name}.json"
        assert (out / f"{name}.json").read_text("utf-8") == committed.read_text("utf-8")


@pytest.mark.parametrize("vocabulary", ["prometheus", "opentelemetry"])
def test_it_writes_the_fleet_of_recorded_series(run: Run, tmp_path: Path, vocabulary: str) -> None:
    """With --recorded the dashboard of all pools is the one that reads what rules recorded; the others stay."""
    code, printed, errors = run("--out", str(tmp_path), "--vocabulary", vocabulary, "--recorded")
    assert (code, errors) == (0, "")
    assert printed.splitlines() == [str(tmp_path / f"{name}.json") for name in NAMES]
    for name in NAMES:
        file = f"recorded-{name}.json" if name in FROM_RECORDED else f"{name}.json"
        committed = ROOT / "dashboards" / vocabulary / file
        assert (tmp_path / f"{name}.json").read_text("utf-8") == committed.read_text("utf-8")


def test_selector_and_grouping_go_into_the_queries_of_recorded_series(run: Run, tmp_path: Path) -> None:
    """Recorded series are narrowed as scraped ones are, by the labels that the rules leave; the link drops the rest."""
    code, _, errors = run(
        *("--out", str(tmp_path), "--recorded", "--selector", 'cluster="prod"'),
        *("--group-by", "cluster,job,pool"),
    )
    assert (code, errors) == (0, "")
    made = json.loads((tmp_path / "fleet.json").read_text("utf-8"))
    variables = {one["name"]: one for one in made["templating"]["list"]}
    assert list(variables) == ["datasource", "cluster", "job", "pool", "traces", "limit"]
    series = "job_pool:sqlalchemy_pool_acquires:rate5m"
    assert variables["cluster"]["query"] == f'label_values({series}{{cluster="prod"}}, cluster)'
    assert variables["job"]["query"] == f'label_values({series}{{cluster="prod", cluster=~"$cluster"}}, job)'
    (used,) = (one for one in panels_of(made) if one["title"] == "Pools")
    assert used["targets"][0]["expr"] == (
        "sum by (cluster, job, pool) (job_pool:sqlalchemy_pool_connections:sum{"
        'cluster="prod", cluster=~"$cluster", job=~"$job", pool=~"$pool", state="used"})'
    )
    (states,) = (one for one in panels_of(made) if one["title"] == "State of each pool")
    assert states["fieldConfig"]["defaults"]["links"][0]["url"] == (
        "/d/sqlalchemy-pool?${datasource:queryparam}&${traces:queryparam}"
        "&var-cluster=${__field.labels.cluster:percentencode}&var-job=${__field.labels.job:percentencode}"
        "&var-pool=${__field.labels.pool:percentencode}&${__url_time_range}"
    )


def test_selector_grouping_and_labels_go_into_the_queries(run: Run, tmp_path: Path) -> None:
    """Each series is narrowed, each label that makes a pool gets a chained variable, alerts are found by label."""
    code, _, errors = run(
        *("--out", str(tmp_path), "--vocabulary", "opentelemetry"),
        *("--selector", 'job!~"test.*", cluster="prod"', "--group-by", "cluster,namespace,job,pool"),
        *("--label", 'team=pay"ments', "--label", "page=no=yes"),
    )
    assert (code, errors) == (0, "")
    made = json.loads((tmp_path / "fleet.json").read_text("utf-8"))
    variables = {one["name"]: one for one in made["templating"]["list"]}
    assert list(variables) == [
        *("datasource", "cluster", "namespace", "job", "instance", "pool", "traces", "limit"),
    ]
    selector = 'job!~"test.*", cluster="prod"'
    assert (
        variables["cluster"]["query"]
        == f"label_values(sqlalchemy_pool_acquires_total{{{selector}}}, cluster)"
    )
    assert variables["namespace"]["query"] == (
        f'label_values(sqlalchemy_pool_acquires_total{{{selector}, cluster=~"$cluster"}}, namespace)'
    )
    (used,) = (one for one in panels_of(made) if one["title"] == "Pools")
    assert used["targets"][0]["expr"] == (
        "sum by (cluster, namespace, job, db_client_connection_pool_name) (db_client_connection_count{"
        f'{selector}, cluster=~"$cluster", namespace=~"$namespace", job=~"$job", instance=~"$instance", '
        'db_client_connection_pool_name=~"$pool", db_client_connection_state="used"})'
    )
    (states,) = (one for one in panels_of(made) if one["title"] == "State of each pool")
    assert states["fieldConfig"]["defaults"]["links"][0]["url"] == (
        "/d/sqlalchemy-pool-otel?${datasource:queryparam}&${traces:queryparam}&${instance:queryparam}"
        "&var-cluster=${__field.labels.cluster:percentencode}&var-namespace=${__field.labels.namespace:percentencode}"
        "&var-job=${__field.labels.job:percentencode}"
        "&var-pool=${__field.labels.db_client_connection_pool_name:percentencode}&${__url_time_range}"
    )
    alerts = made["annotations"]["list"][0]["target"]["expr"]
    assert 'team="pay\\"ments"' in alerts
    assert 'page="no=yes"' in alerts
    assert selector in alerts
    assert 'cluster=~"$cluster|"' in alerts


def test_existing_files_stay_without_force(run: Run, tmp_path: Path) -> None:
    """One file that is there keeps all from being written; --force writes over it."""
    mine = tmp_path / "pool.json"
    mine.write_text("mine")
    code, printed, errors = run("--out", str(tmp_path))
    assert (code, printed) == (2, "")
    assert errors == (
        f"pool-exporter dashboards: error: {mine} is there already, and nothing was written; "
        "give --force to write over it, or another --out\n"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["pool.json"]
    assert mine.read_text() == "mine"
    assert run("--out", str(tmp_path), "--force")[0] == 0
    assert json.loads(mine.read_text("utf-8"))["uid"] == "sqlalchemy-pool"


def test_a_directory_in_the_place_of_a_file_keeps_all_from_being_written(run: Run, tmp_path: Path) -> None:
    """Even with --force it is all files or none."""
    (tmp_path / "leak-hunt.json").mkdir()
    code, printed, errors = run("--out", str(tmp_path), "--force")
    assert (code, printed) == (2, "")
    assert f"error: {tmp_path / 'leak-hunt.json'} is a directory, and nothing was written; take it" in errors
    assert [path.name for path in tmp_path.iterdir()] == ["leak-hunt.json"]


def test_a_directory_that_cannot_be_written_is_named(run: Run, tmp_path: Path) -> None:
    """A file in the place of the directory, or of one above, is an error with the reason and the remedy."""
    (tmp_path / "file").write_text("")
    for out in (tmp_path / "file", tmp_path / "file" / "below"):
        code, printed, errors = run("--out", str(out))
        assert (code, printed) == (2, "")
        assert errors.startswith(f"pool-exporter dashboards: error: --out {out}: cannot write fleet.json (")
        assert "name a directory that you may write to" in errors


@pytest.mark.skipif(os.geteuid() == 0 and not Path("/proc/self").exists(), reason="root may write anywhere")
def test_a_read_only_file_system_is_named(run: Run) -> None:
    """Where nobody may write, not even root, the reason is said."""
    code, _, errors = run("--out", "/proc/dashboards")
    assert code == 2
    assert "--out /proc/dashboards: cannot write fleet.json (" in errors
    assert errors.count("\n") == 1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--vocabulary", "latin"], "--vocabulary 'latin': expected prometheus or opentelemetry"),
        (
            ["--selector", "job=orders"],
            "--selector 'job=orders': cannot read 'job=orders'; write matchers as PromQL does",
        ),
        (["--selector", '__name__="up"'], "a metric's name is not for choosing"),
        (["--selector", 'state="used"'], "'state' is told apart by the rules themselves; choose by labels"),
        (["--selector", 'pool="main"'], "'pool' is told apart by the rules themselves; choose by labels"),
        (["--selector", 'env="prod"'], "no label 'env'; add it to --group-by, as in env,job,pool"),
        (["--selector", r'job=~"a\d"'], r"""--selector 'job=~"a\d"': "a\d" has an escape that PromQL"""),
        (
            ["--selector", 'job="a$pool"'],
            """'job="a$pool"': $pool would be a variable to Grafana; put . for""",
        ),
        (["--selector", 'job="a${pool:raw}"'], "${pool:raw} would be a variable to Grafana"),
        (["--selector", 'job="[[pool]]"'], "[[pool]] would be a variable to Grafana"),
        (["--label", "team=$pool"], "--label team='$pool': $pool would be a variable to Grafana; give"),
        (["--label", "team={{ $labels.job }}"], "--label team='{{ $labels.job }}': what the template gives"),
        (["--group-by", "job"], "--group-by 'job': 'pool' is missing"),
        (["--group-by", "cluster,pool"], "--group-by 'cluster,pool': 'job' is missing"),
        (["--group-by", "job,pool,instance"], "'instance' is chosen on the dashboards already"),
        (["--group-by", "datasource,job,pool"], "--group-by 'datasource': the dashboards have a variable"),
        (["--group-by", "Value,job,pool"], "--group-by 'Value': the dashboards have a variable"),
        (["--group-by", "Job,job,pool"], "--group-by 'Job': the dashboards have a variable"),
        (["--group-by", "job,pool,owner"], "--group-by 'owner': not a label of a target"),
        (["--group-by", "job,pool,a-b"], "--group-by 'a-b': no valid label name"),
        (["--label", "team"], "--label team: expected a name and a value, as in --label team=payments"),
        (["--label", "team="], "--label team='': expected text"),
        (["--label", "severity=high"], "--label severity: the alerts have this label already"),
        (
            ["--label", "a=1", "--label", "b=2", "--label", "a=3"],
            "--label a=1 and --label a=3: a can have one value; leave one of them out",
        ),
    ],
)
def test_options_that_make_no_sense_are_named_before_anything_is_written(
    run: Run, tmp_path: Path, options: list[str], said: str
) -> None:
    """One line names the option, the value and the remedy, and there is no file."""
    code, printed, errors = run("--out", str(tmp_path / "out"), *options)
    assert (code, printed) == (2, "")
    assert said in errors
    assert errors.startswith("pool-exporter dashboards: error: --")
    assert errors.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_without_a_directory_it_says_what_is_missing(run: Run) -> None:
    """The directory is no guess."""
    code, _, errors = run()
    assert code == 2
    assert "the following arguments are required: --out" in errors


def texts(directory: Path) -> dict[str, str]:
    """Return the text of each JSON file below a directory, by its path in there."""
    return {str(path.relative_to(directory)): path.read_text("utf-8") for path in directory.rglob("*.json")}


def test_an_installed_wheel_writes_them_without_the_sdk(tmp_path: Path) -> None:
    """The committed dashboards are in the wheel, and nothing of the development tools is needed to fit them."""
    build = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "-q",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        str(tmp_path),
        str(ROOT),
    ]
    subprocess.run(build, check=True)
    (wheel,) = tmp_path.glob("*.whl")
    program = (
        "import sys; sys.path.insert(0, sys.argv[1]); sys.modules['grafana_foundation_sdk'] = sys.modules['yaml'] = None;"
        "import pool_exporter; assert '.whl' in pool_exporter.__file__ or sys.argv[1] in pool_exporter.__file__;"
        "from pool_exporter.cli import main; sys.exit(main(['dashboards', '--out', sys.argv[2]]))"
    )
    unpacked = tmp_path / "site"
    subprocess.run([sys.executable, "-m", "zipfile", "-e", str(wheel), str(unpacked)], check=True)
    installed = unpacked / "pool_exporter" / "monitoring" / "dashboards" / "json"
    assert texts(installed) == texts(ROOT / "dashboards")
    done = subprocess.run(
        [sys.executable, "-c", program, str(unpacked), str(tmp_path / "out")],
        check=False,
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(
        f"{name}.json" for name in NAMES
    )


def test_an_empty_directory_name_is_refused(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An unset variable of a script does not fill the directory that it happens to be in."""
    monkeypatch.chdir(tmp_path)
    code, _, errors = run("--out", "")
    assert (code, list(tmp_path.iterdir())) == (2, [])
    assert "--out is empty; name a directory" in errors


def test_what_cannot_be_written_whole_leaves_what_is_there(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the disk is full, with --force too, the old files are whole and nothing else is left."""
    (tmp_path / "fleet.json").write_text("old")
    written: list[Path] = []
    original = Path.write_text

    def full_after_one(path: Path, text: str, *arguments: str) -> int:
        if written:
            raise OSError(errno.ENOSPC, "full")
        written.append(path)
        return original(path, text, *arguments)

    monkeypatch.setattr(Path, "write_text", full_after_one)
    code, printed, errors = run("--out", str(tmp_path), "--force")
    assert (code, printed) == (2, "")
    assert "No space left on device" in errors
    assert [path.name for path in tmp_path.iterdir()] == ["fleet.json"]
    assert (tmp_path / "fleet.json").read_text() == "old"


@pytest.mark.parametrize(
    "options",
    [
        ["--selector", 'state="used"'],
        ["--selector", 'env="prod"'],
        ["--selector", "job"],
        ["--group-by", "a-b,job,pool"],
        ["--group-by", "job,pool,le"],
        ["--vocabulary", "latin"],
        ["--label", "a=1", "--label", "a=3"],
        ["--label", "severity=x"],
        ["--label", "1a=x"],
    ],
    ids=" ".join,
)
def test_what_the_rules_refuse_the_dashboards_refuse_in_the_same_words(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str]
) -> None:
    """Options that both have mean the same, so that the alerts and the dashboards are about the same pools."""
    code, _, errors = run("--out", str(tmp_path), *options)
    assert code == main(["alerts", *options]) == 2
    assert errors.replace("exporter dashboards:", "exporter alerts:") == capsys.readouterr().err


@pytest.mark.parametrize(
    "selector", ['job=~"shop$"', 'job=~"(shop|till$)"', 'job=~"[[:alpha:]]+"', 'job="5$"']
)
def test_a_dollar_that_is_no_variable_is_left_alone(run: Run, tmp_path: Path, selector: str) -> None:
    """The end of a text in a regular expression, and a class of characters, mean nothing to Grafana."""
    code, _, errors = run("--out", str(tmp_path), "--selector", selector)
    assert (code, errors) == (0, "")
    assert json.dumps(selector)[1:-1] in (tmp_path / "fleet.json").read_text("utf-8")


def test_alerts_are_narrowed_by_the_selector(run: Run, tmp_path: Path) -> None:
    """The alerts shown are those of the pools that are chosen among."""
    run("--out", str(tmp_path), "--selector", 'env="prod"', "--group-by", "env,job,pool")
    alerts = re.findall(r"ALERTS\{[^}]*\}", (tmp_path / "fleet.json").read_text("utf-8"))
    assert alerts
    assert all(r"env=\"prod\"" in one for one in alerts)
