"""The PowerShell installer, read with a PowerShell grammar: no PowerShell runs here (deploy/windows/protocol.md)."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import tree_sitter
import tree_sitter_powershell

from exporter.commands import service

pytestmark = pytest.mark.slow

WINDOWS = Path(__file__).parents[1] / "deploy" / "windows"
SCRIPTS = sorted(WINDOWS.glob("*.ps1"))
PARSER = tree_sitter.Parser(tree_sitter.Language(tree_sitter_powershell.language()))

CMDLETS = {
    *("Get-Date", "Get-Item", "Get-ItemProperty", "Get-NetFirewallRule", "Get-Service", "Out-Null"),
    *("Join-Path", "New-NetFirewallRule", "Remove-Item", "Remove-NetFirewallRule"),
    *("Set-StrictMode", "Start-Sleep", "Stop-Service", "Test-Path", "Write-Output"),
}
"""What the scripts may call, all of Windows PowerShell 5.1: a misspelt or modern one is found here, not at a site."""
APPROVED_VERBS = {"Find", "Get", "Invoke", "New", "Remove", "Set", "Start", "Stop", "Test"}


def nodes(script: Path) -> "Iterator[tree_sitter.Node]":
    left = [PARSER.parse(script.read_bytes()).root_node]
    while left:
        node = left.pop()
        yield node
        left += node.children


def texts(script: Path, kind: str) -> list[str]:
    return [node.text.decode() for node in nodes(script) if node.type == kind and node.text]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_the_script_is_powershell(script: Path) -> None:
    wrong = [f"line {node.start_point.row + 1}" for node in nodes(script) if node.type == "ERROR" or node.is_missing]
    assert wrong == []


def test_the_grammar_tells_what_is_no_powershell(tmp_path: Path) -> None:
    (tmp_path / "wrong.ps1").write_text("if ($x { throw 'no' }\n")
    assert PARSER.parse((tmp_path / "wrong.ps1").read_bytes()).root_node.has_error


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_it_calls_only_known_commands_by_their_full_names(script: Path) -> None:
    own = set(texts(script, "function_name"))
    assert {name.partition("-")[0] for name in own} <= APPROVED_VERBS
    called = {name for name in texts(script, "command_name") if not name.startswith(("$", '"'))}
    assert called - own <= CMDLETS


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_it_stops_at_the_first_error_and_asks_for_an_administrator(script: Path) -> None:
    text = script.read_text()
    assert "#Requires -RunAsAdministrator" in text
    assert "Set-StrictMode -Version Latest" in text
    assert "$ErrorActionPreference = 'Stop'" in text
    assert "Invoke-Expression" not in text


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_its_help_names_every_parameter(script: Path) -> None:
    text = script.read_text()
    own = next(node for node in PARSER.parse(script.read_bytes()).root_node.children if node.type == "param_block")
    lists = [node for node in own.children if node.type == "parameter_list"]
    parameters = [node.text.decode() for node in lists[0].children if node.type == "script_parameter" and node.text]
    declared = {re.findall(r"\$(\w+)", parameter)[0] for parameter in parameters}
    assert declared == set(re.findall(r"^\.PARAMETER (\w+)$", text, re.MULTILINE))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_every_native_program_is_checked_for_its_code(script: Path) -> None:
    lines = script.read_text().splitlines()
    calls = [number for number, line in enumerate(lines) if line.lstrip().startswith("& ")]
    assert calls
    for number in calls:
        # icacls of a right that is gone already may fail; everything else may not.
        assert "/remove:g" in lines[number] or "$LASTEXITCODE" in lines[number + 1], lines[number]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_it_names_the_service_as_the_service_does(script: Path) -> None:
    assert f"$Name = '{service.SERVICE_NAME}'" in script.read_text()


def test_it_installs_from_the_folder_alone_by_digest_and_isolated() -> None:
    text = (WINDOWS / "install.ps1").read_text()
    (call,) = re.findall(r"Invoke-Program \$environmentPython @\(\n(.*?)\n\)", text, re.DOTALL)
    words = [word.strip().strip("'") for word in call.replace("\n", " ").split(",")]
    assert words[:5] == ["-I", "-m", "pip", "--isolated", "install"]
    assert {"--no-index", "--require-hashes", "--only-binary"} <= set(words)
    assert words[-2:] == ["--requirement", "$Requirements"]
    assert words[words.index("--find-links") + 1] == "$Wheels"


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_every_python_that_it_starts_is_isolated(script: Path) -> None:
    starts = re.findall(r"(?:Invoke-Program|&) \$\w*[pP]ython @?\(?\s*(\S+)", script.read_text())
    assert [first for first in starts if first.strip("',") != "-I"] == []


def test_no_programs_errors_are_redirected() -> None:
    """Windows PowerShell 5.1 ends a script for them, where `$ErrorActionPreference` is Stop."""
    for script in SCRIPTS:
        assert "2>" not in script.read_text()
