"""The command line: one word for each command, one sentence for each mistake, one code for each end."""

import subprocess
import sys
from pathlib import Path

import pytest

from exporter import __version__
from exporter.cli import COMMANDS, main
from exporter.commands.diagnose import EXIT_CODES
from exporter.commands.terminal import NO_JUDGEMENT


def outcome(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = main(list(words))
    out, err = capsys.readouterr()
    return code, out, err


@pytest.mark.parametrize("words", [["--version"], ["run", "--version"], ["check", "--version"]])
def test_the_version_is_told_by_every_command(capsys: pytest.CaptureFixture[str], words: list[str]) -> None:
    assert outcome(capsys, *words) == (0, f"qlik-license-exporter {__version__}\n", "")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_of_its_own_with_no_option_that_it_does_not_use(
    capsys: pytest.CaptureFixture[str], name: str
) -> None:
    code, out, _ = outcome(capsys, name, "--help")
    assert code == 0
    assert " ".join(out.split()).startswith(f"usage: qlik-license-exporter {name} [-h]")
    sentence = COMMANDS[name].sentence
    assert f"{sentence[0].upper()}{sentence[1:]}." in " ".join(out.split())
    flags = {"config": "--config.file", "log": "--log.level", "state": "--state.file", "people": "--show-people"}
    for kind, flag in flags.items():
        assert (flag in out) == (kind in COMMANDS[name].flags)
    assert outcome(capsys, "help", name)[1] == out


def test_help_shows_the_place_of_a_command_and_lists_every_one(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["--help"], ["-h"], ["help"]):
        code, out, _ = outcome(capsys, *words)
        assert code == 0
        assert out.startswith("usage: qlik-license-exporter [COMMAND] [OPTIONS]\n")
        assert all(f"\n  {name:<10}{command.sentence}\n" in out for name, command in COMMANDS.items())
        assert "--web.listen-address" in out


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["chek"], 2, "unknown command `chek`; did you mean `check`? See `qlik-license-exporter --help`\n"),
        (["Diagnose"], 2, "unknown command `Diagnose`; did you mean `diagnose`?"),
        (["diagnos", "/logs"], 2, "unknown command `diagnos`; did you mean `diagnose`?"),
        (["zzz"], 2, "unknown command `zzz`; expected one of run, check, explain"),
        (["--confg.file", "x"], 2, "unknown option `--confg.file`; did you mean `--config.file`?"),
        (["--config-file=x"], 2, "unknown option `--config-file`; did you mean `--config.file`?"),
        (["run", "--onec"], 2, "unknown option `--onec`; did you mean `--once`?"),
        (["explain", "x", "--unknwon"], 2, "unknown option `--unknwon`; did you mean `--unknown`?"),
        (["check", "--nonsense"], 2, "unknown option `--nonsense`. See `qlik-license-exporter check --help`"),
        (["check", "--once"], 2, "`check` has no option `--once`; it is an option of `run`"),
        (["--state.file", "x", "explain", "y"], 2, "`explain` has no option `--state.file`; it is an option of `run`"),
        (["bundle", "--show-people"], 2, "it is an option of `explain` and `diagnose`"),
        (["check", "more"], 2, "`check` takes no `more`"),
        (["--log.level", "inf"], 2, "invalid choice: 'inf' (choose from"),
        (["--log.level", "inf"], 2, "; did you mean `info`?"),
        (["service", "strat"], 2, "; did you mean `start`?"),
        (["--config.file"], 2, "argument --config.file: expected one argument"),
        (["check", "--bad\x1b[2J"], 2, "unknown option `--bad"),
        (["diagnose", "--jsn"], 64, "unknown option `--jsn`; did you mean `--json`?"),
        (["diagnose", "--now", "soon"], 64, "--now: found `soon`"),
        (["diagnose", "/nowhere/x"], 64, "/nowhere/x: No such file"),
        (["diagnose", "--config.file", "/nowhere/c.yml"], 64, "/nowhere/c.yml"),
        (["diagnose", "--web.config.file", "x"], 64, "it is an option of `run` and `check`"),
    ],
)
def test_a_mistake_on_the_command_line_is_one_line_with_a_suggestion(
    capsys: pytest.CaptureFixture[str], words: list[str], code: int, said: str
) -> None:
    found, out, err = outcome(capsys, *words)
    assert (found, out) == (code, "")
    assert said in err
    assert err.startswith("qlik-license-exporter: ")
    assert err.count("\n") == 1
    assert "\x1b" not in err


def test_no_severity_of_diagnose_is_its_code_for_a_mistake() -> None:
    assert NO_JUDGEMENT not in EXIT_CODES.values()


@pytest.mark.parametrize("order", [["check", "--config.file"], ["--config.file"]])
def test_an_unusable_configuration_ends_with_2_and_names_file_and_key(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, order: list[str]
) -> None:
    file = tmp_path / "c.yml"
    file.write_text("poll_intervall: 1s")
    words = [*order, str(file)] if order[0] == "check" else [*order, str(file), "check"]
    code, _, err = outcome(capsys, *words)
    assert code == 2
    assert err == f"qlik-license-exporter: {file}: poll_intervall: unknown key; did you mean `poll_interval`?\n"


def test_a_bad_listen_address_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = outcome(capsys, "--web.listen-address", "nowhere")
    assert (code, "nowhere" in err, "expected host:port" in err) == (2, True, True)


def test_a_file_that_is_not_there_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = outcome(capsys, "check", "--config.file", "/nowhere/c.yml")
    assert (code, "/nowhere/c.yml" in err) == (2, True)


def test_people_are_shown_at_a_terminal_only(capsys: pytest.CaptureFixture[str]) -> None:
    _, _, err = outcome(capsys, "explain", "--show-people", "/nowhere")
    assert "on a terminal only" in err


def test_a_reader_that_goes_away_is_no_error() -> None:
    done = subprocess.run(
        f"{sys.executable} -m exporter --help | head -n 1", shell=True, capture_output=True, text=True, check=False
    )
    assert done.stderr == ""
    assert done.stdout.startswith("usage: qlik-license-exporter")


@pytest.mark.parametrize(
    "flag", ["--config.file", "--web.config.file", "--textfile.directory", "--state.file", "--web.listen-address"]
)
@pytest.mark.parametrize("value", ["", "  "])
def test_a_flag_whose_variable_was_empty_is_an_error_that_names_it(
    flag: str, value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", f"{flag}={value}"]) == 2
    assert f"{flag}: found " in capsys.readouterr().err
