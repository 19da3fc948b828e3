"""The log's lines: with a level for journald, and with a name for people."""

from __future__ import annotations

import asyncio
import io
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from qwend.daemon.log import LimitedHandler, set_up_logging
from qwend.daemon.log_limit import LINES_OF_A_UID, WINDOW_S, LogLimit
from tests.support.daemon import daemon_env

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


def journal(inode: int = 0) -> dict[str, str]:
    """What systemd says to a process whose standard error is this one, or another by so much."""
    stream = os.fstat(2)
    return {"JOURNAL_STREAM": f"{stream.st_dev}:{stream.st_ino + inode}"}


@pytest.mark.parametrize(
    ("level", "prefix"),
    [(logging.INFO, "<6>"), (logging.WARNING, "<4>"), (logging.ERROR, "<3>")],
)
def test_journald_gets_the_level_as_a_prefix(
    capsys: pytest.CaptureFixture[str], level: int, prefix: str
) -> None:
    set_up_logging("info", journal())
    log.log(level, "engine lost")
    assert capsys.readouterr().err == f"{prefix}engine lost\n"


def test_each_line_of_a_message_has_its_level(capsys: pytest.CaptureFixture[str]) -> None:
    set_up_logging("info", journal())
    log.error("engine lost:\nbad file")
    assert capsys.readouterr().err == "<3>engine lost:\n<3>bad file\n"


def test_who_has_inherited_the_name_of_the_stream_alone_gets_no_prefix(
    capsys: pytest.CaptureFixture[str],
) -> None:
    # A terminal that the user's systemd has started, for one.
    set_up_logging("info", journal(inode=1))
    log.warning("engine lost")
    assert capsys.readouterr().err == "qwend WARNING: engine lost\n"


def test_a_terminal_gets_name_and_level(capsys: pytest.CaptureFixture[str]) -> None:
    set_up_logging("info", {})
    log.warning("engine lost")
    assert capsys.readouterr().err == "qwend WARNING: engine lost\n"


def test_what_is_below_the_level_is_not_logged(capsys: pytest.CaptureFixture[str]) -> None:
    set_up_logging("warning", {})
    log.info("ready")
    assert capsys.readouterr().err == ""


def a_fault() -> None:
    wrote = " ".join(("what", "the client wrote"))
    try:
        dict[str, str]()[wrote]
    except KeyError:
        log.exception("a request could not be answered")


def test_a_fault_is_logged_with_its_place_and_without_what_it_quotes(
    capsys: pytest.CaptureFixture[str],
) -> None:
    set_up_logging("info", {})
    a_fault()
    said = capsys.readouterr().err
    assert "what the client wrote" not in said
    assert "in a_fault" in said
    assert "KeyError: (its text is left out" in said


def test_at_the_level_of_debug_a_fault_is_logged_with_all_it_says(
    capsys: pytest.CaptureFixture[str],
) -> None:
    set_up_logging("debug", {})
    a_fault()
    assert "KeyError: 'what the client wrote'" in capsys.readouterr().err


class Handled:
    """A handler with a clock of the test's, and the timer it asks for."""

    def __init__(self) -> None:
        self.now = 0.0
        self.stream = io.StringIO()
        self.asked: list[tuple[float, Callable[[], None]]] = []
        self.handler = LimitedHandler(self.stream, LogLimit(lambda: self.now), self.schedule)

    def schedule(self, delay_s: float, callback: Callable[[], None]) -> bool:
        self.asked.append((delay_s, callback))
        return True

    def log(self, count: int) -> None:
        for _ in range(count):
            self.handler.handle(logging.LogRecord("qwend", 20, "", 1, "uid %d left", (1000,), None))

    @property
    def lines(self) -> list[str]:
        return self.stream.getvalue().splitlines()


def test_the_count_is_told_when_the_minute_is_over_though_nothing_else_is_logged() -> None:
    handled = Handled()
    handled.log(100)
    assert handled.lines == ["uid 1000 left"] * LINES_OF_A_UID
    ((delay_s, minute_is_over),) = handled.asked
    assert WINDOW_S < delay_s < WINDOW_S + 1
    handled.now = WINDOW_S
    minute_is_over()
    assert handled.lines[LINES_OF_A_UID:] == [
        f"uid 1000: {100 - LINES_OF_A_UID} more messages like this in the last minute: "
        "uid 1000 left"
    ]
    handled.log(LINES_OF_A_UID + 1)
    assert len(handled.asked) == 2


def test_the_count_is_told_before_the_line_that_follows_it_and_at_the_end() -> None:
    handled = Handled()
    handled.log(LINES_OF_A_UID + 1)
    handled.now = WINDOW_S + 5
    handled.log(LINES_OF_A_UID + 2)
    assert "1 more" in handled.lines[LINES_OF_A_UID]
    assert handled.lines[LINES_OF_A_UID + 1] == "uid 1000 left"
    handled.handler.close()
    assert "2 more" in handled.lines[-1]


def test_where_an_event_loop_runs_it_is_the_timer(capsys: pytest.CaptureFixture[str]) -> None:
    async def test() -> list[asyncio.TimerHandle]:
        set_up_logging("info", {})
        for _ in range(100):
            log.info("uid %d left", 1000)
        return list(asyncio.get_running_loop()._scheduled)  # type: ignore[attr-defined]

    timers = asyncio.run(test())
    assert len(timers) == 1
    assert capsys.readouterr().err.count("\n") == LINES_OF_A_UID


def test_why_there_is_no_daemon_is_an_error_in_the_journal(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    stream = os.fstat(writer)
    env = daemon_env(
        tmp_path,
        {"QWEND_FAIL": "nowhere:off", "JOURNAL_STREAM": f"{stream.st_dev}:{stream.st_ino}"},
    )
    command = [sys.executable, "-m", "qwend.daemon.main", "serve"]
    done = subprocess.run(command, env=env, stderr=writer, timeout=60)
    os.close(writer)
    with open(reader, encoding="utf-8") as said:
        assert said.read().startswith("<3>qwend: QWEND_FAIL, character 1")
    assert done.returncode == 1
