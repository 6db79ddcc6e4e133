"""The command line: one word for each command, one sentence for each mistake, one code for each end."""

import subprocess
import sys
from pathlib import Path

import pytest

from exporter import __version__
from exporter.cli import COMMANDS, main


def outcome(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = main(list(words))
    out, err = capsys.readouterr()
    return code, out, err


@pytest.mark.parametrize("words", [["--version"], ["run", "--version"], ["check", "--version"]])
def test_the_version_is_told_by_every_command(capsys: pytest.CaptureFixture[str], words: list[str]) -> None:
    assert outcome(capsys, *words) == (0, f"qlik-license-exporter {__version__}\n", "")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(capsys: pytest.CaptureFixture[str], name: str) -> None:
    code, out, _ = outcome(capsys, name, "--help")
    assert code == 0
    assert "--config.file" in out


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["--help"], ["-h"], ["help"]):
        code, out, _ = outcome(capsys, *words)
        assert code == 0
        assert all(name in out and command.sentence in out for name, command in COMMANDS.items())


@pytest.mark.parametrize("words", [["nonsense"], ["--nonsense"], ["check", "--nonsense"], ["--log.level", "loud"]])
def test_a_mistake_on_the_command_line_ends_with_2_and_a_sentence(
    capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    code, _, err = outcome(capsys, *words)
    assert code == 2
    assert words[-1] in err or "--log.level" in err
    assert "Traceback" not in err


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
