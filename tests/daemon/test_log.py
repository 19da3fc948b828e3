"""The log's lines: with a level for journald, and with a name for people."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from qwend.daemon.log import set_up_logging

log = logging.getLogger("qwend.test")


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    # Taken out first: `force` closes the handlers that it finds, and these are the tests' own.
    root.handlers.clear()
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.mark.parametrize(
    ("level", "prefix"),
    [(logging.INFO, "<6>"), (logging.WARNING, "<4>"), (logging.ERROR, "<3>")],
)
def test_journald_gets_the_level_as_a_prefix(
    capsys: pytest.CaptureFixture[str], level: int, prefix: str
) -> None:
    set_up_logging("info", {"JOURNAL_STREAM": "9:1234"})
    log.log(level, "engine lost")
    assert capsys.readouterr().err == f"{prefix}engine lost\n"


def test_each_line_of_a_message_has_its_level(capsys: pytest.CaptureFixture[str]) -> None:
    set_up_logging("info", {"JOURNAL_STREAM": "9:1234"})
    log.error("engine lost:\nbad file")
    assert capsys.readouterr().err == "<3>engine lost:\n<3>bad file\n"


def test_a_terminal_gets_name_and_level(capsys: pytest.CaptureFixture[str]) -> None:
    set_up_logging("info", {})
    log.warning("engine lost")
    assert capsys.readouterr().err == "qwend WARNING: engine lost\n"


def test_what_is_below_the_level_is_not_logged(capsys: pytest.CaptureFixture[str]) -> None:
    set_up_logging("warning", {})
    log.info("ready")
    assert capsys.readouterr().err == ""
