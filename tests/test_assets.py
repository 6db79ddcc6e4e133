"""`assets`: what is shipped beside the code arrives with the wheel, is written out whole, and never over anything."""

import json
import os
import subprocess
import sys
import tomllib
import venv
from pathlib import Path

import pytest
import yaml
from shipped import REPOSITORY, RULES, alerts, output

from exporter.assets import SHIPPED, asset
from exporter.cli import main

PROGRAM = "qlik-license-exporter"


def written(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_wheel_is_told_to_hold_what_the_package_looks_for() -> None:
    wheel = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert wheel["only-include"] == ["exporter", *SHIPPED]
    assert wheel["sources"] == {top: f"exporter/assets/{top}" for top in ("deploy", "grafana")}
    assert [name for name in SHIPPED if not asset(name).exists()] == []


def test_everything_is_written_as_it_is_in_the_repository(tmp_path: Path) -> None:
    assert main(["assets", str(tmp_path / "new" / "folder")]) == 0
    files = written(tmp_path / "new" / "folder")
    assert files["prometheus/qlik-license.rules.yml"] == RULES.read_bytes()
    assert {f"runbooks/{alert.name}.md" for alert in alerts()} <= set(files)
    for name in ("qlik-license-exporter.yml", "web-config.example.yml", "alertmanager/alertmanager.yml"):
        assert files[name] == (REPOSITORY / "deploy" / name).read_bytes()
    assert sum(name.startswith("grafana/dashboards/") for name in files) == 4


@pytest.mark.slow
def test_what_was_written_is_accepted_by_the_programs_that_it_is_for(tmp_path: Path) -> None:
    assert main(["assets", str(tmp_path)]) == 0
    output("promtool", "check", "rules", tmp_path / "prometheus" / "qlik-license.rules.yml")
    output("promtool", "check", "config", tmp_path / "prometheus" / "prometheus.yml")
    output("promtool", "test", "rules", tmp_path / "prometheus" / "tests" / "connectivity.yml")
    output("amtool", "check-config", tmp_path / "alertmanager" / "alertmanager.yml")


def test_the_list_is_what_would_be_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["assets", "--list"]) == 0
    listed = capsys.readouterr().out.splitlines()
    assert main(["assets", str(tmp_path)]) == 0
    assert listed == sorted(written(tmp_path))


def test_a_changed_file_is_replaced_only_by_force_and_else_nothing_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = tmp_path / "prometheus" / "qlik-license.rules.yml"
    own.parent.mkdir()
    own.write_text("groups: []\n")
    assert main(["assets", str(tmp_path)]) == 1
    assert f"{own} exists with different content" in capsys.readouterr().err
    assert written(tmp_path) == {"prometheus/qlik-license.rules.yml": b"groups: []\n"}
    assert main(["assets", str(tmp_path), "--force"]) == 0
    assert own.read_bytes() == RULES.read_bytes()
    assert "1 of them replaced" in capsys.readouterr().out


def test_writing_again_changes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["assets", str(tmp_path)]) == 0
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    capsys.readouterr()
    assert main(["assets", str(tmp_path)]) == 0
    assert f"0 files written, 0 of them replaced; {len(before)} unchanged" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()} == before


@pytest.mark.skipif(sys.platform == "win32", reason="links need a right there")
def test_a_link_is_replaced_by_force_and_never_followed(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text("mine\n")
    link = tmp_path / "out" / "prometheus" / "qlik-license.rules.yml"
    link.parent.mkdir(parents=True)
    link.symlink_to(elsewhere)
    assert main(["assets", str(tmp_path / "out")]) == 1
    assert main(["assets", str(tmp_path / "out"), "--force"]) == 0
    assert elsewhere.read_text() == "mine\n"
    assert not link.is_symlink()


def test_runbook_links_of_alerts_and_boards_move_together(tmp_path: Path) -> None:
    assert main(["assets", str(tmp_path), "--runbook-url", "https://wiki.example/qlik/"]) == 0
    rules = [
        rule
        for group in yaml.safe_load((tmp_path / "prometheus" / "qlik-license.rules.yml").read_text())["groups"]
        for rule in group["rules"]
        if "alert" in rule
    ]
    assert len(rules) == len(alerts())
    for rule in rules:
        assert rule["annotations"]["runbook_url"] == f"https://wiki.example/qlik/{rule['alert']}"
    for board in (tmp_path / "grafana" / "dashboards").glob("*.json"):
        variables = json.loads(board.read_text())["templating"]["list"]
        assert [v["query"] for v in variables if v["name"] == "runbooks"] == ["https://wiki.example/qlik"]
        assert "http://$1/runbooks" not in board.read_text()


@pytest.mark.parametrize("flag", ["--runbook-url", "--dashboard-url"])
@pytest.mark.parametrize(
    "url", ["wiki", "javascript:alert(1)", "https://", "https://a'b", "https://a b", "http://[::1"]
)
def test_what_is_no_address_is_refused(flag: str, url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["assets", str(tmp_path / "out"), flag, url]) == 2
    assert f"assets: {flag}: found `{url}`, expected http" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_folder_or_the_list_must_be_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["assets"]) == 2
    assert "expected a FOLDER to write to, or --list" in capsys.readouterr().err


@pytest.mark.timeout(240)  # it builds a wheel
@pytest.mark.slow
def test_an_installed_wheel_holds_them_without_a_checkout(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", tmp_path, REPOSITORY]
    subprocess.run(build, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT)
    venv.create(tmp_path / "env", with_pip=False, system_site_packages=False)
    python = tmp_path / "env" / "bin" / "python"
    install = [sys.executable, "-m", "pip", "-q", "--python", python, "install", "--no-deps", "--no-index"]
    subprocess.run([*install, next(tmp_path.glob("*.whl"))], check=True)
    # The dependencies are this environment's; only the package itself is the installed one.
    env = {**os.environ, "PYTHONPATH": next(path for path in sys.path if path.endswith("site-packages"))}
    code = "import exporter.cli; exporter.cli.main(); print(exporter.__file__)"
    told = subprocess.run(
        [python, "-c", code, "assets", tmp_path / "out"],
        env=env,
        cwd=tmp_path,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert str(tmp_path / "env") in told
    demo = "from exporter.demo.play import RULES, ROUTES; print(RULES.is_file(), ROUTES.is_file(), RULES)"
    found = subprocess.run([python, "-c", demo], env=env, cwd=tmp_path, check=True, capture_output=True, text=True)
    assert found.stdout.startswith("True True "), "the installed demo has its rules and routes"
    assert str(tmp_path / "env") in found.stdout
    assert main(["assets", str(tmp_path / "own")]) == 0
    assert written(tmp_path / "out") == written(tmp_path / "own")
