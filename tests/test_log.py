"""The exporter's own log."""

import json
import logging

import pytest

from exporter.config import parse, redaction_of
from exporter.log import redact_log, start_logging


@pytest.fixture(autouse=True)
def _quiet_again() -> object:
    root = logging.getLogger()
    before = (root.handlers[:], root.level)
    yield
    root.handlers[:] = before[0]
    root.setLevel(before[1])


def test_logfmt_quotes_what_needs_it(capfd: pytest.CaptureFixture[str]) -> None:
    start_logging("info", "logfmt")
    logging.getLogger("exporter.tail").info('path "a b"\nnext')
    line = capfd.readouterr().err
    assert line.count("\n") == 1
    assert ' level=info component=tail msg="path \\"a b\\"\\nnext"' in line


def test_json_is_one_object_a_line_with_its_error(capfd: pytest.CaptureFixture[str]) -> None:
    start_logging("debug", "json")
    try:
        raise ValueError("no")
    except ValueError:
        logging.getLogger("exporter.x").exception("failed")
    entry = json.loads(capfd.readouterr().err)
    assert (entry["level"], entry["component"], entry["msg"], entry["error"]) == (
        "error",
        "x",
        "failed",
        "ValueError: no",
    )


def test_levels_below_the_asked_one_are_silent(capfd: pytest.CaptureFixture[str]) -> None:
    start_logging("warning", "logfmt")
    logging.getLogger("x").info("no")
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("form", ["logfmt", "json"])
def test_what_the_configuration_took_from_a_variable_is_in_no_line(
    capfd: pytest.CaptureFixture[str], form: str
) -> None:
    start_logging("info", form)
    redact_log(redaction_of(parse("state: {file: '/x/${NAME}/s.db'}", "c.yml", {"NAME": "hunter4711"})))
    try:
        raise OSError(2, "not there", "/x/hunter4711/s.db")
    except OSError:
        logging.getLogger("exporter.store").exception("cannot open /x/hunter4711/s.db")
    said = capfd.readouterr().err
    assert "4711" not in said
    assert said.count("${NAME}") == 2
