"""A word on standard error is written whole, or left out, and never waited for."""

from __future__ import annotations

import os
import select
from collections.abc import Iterator
from contextlib import suppress

import pytest

from qwend.engine import complaint
from qwend.engine.complaint import LINES_A_MINUTE, complain

pytestmark = pytest.mark.row("F2")


@pytest.fixture(autouse=True)
def of_this_minute() -> Iterator[None]:
    """A minute of the test's own, and none of its lines in another test's."""
    complaint._minute = complaint._Minute()
    yield
    complaint._minute = complaint._Minute()


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    yield reader, writer
    os.close(reader)
    os.close(writer)


def test_a_line_is_written_with_its_end(pipe: tuple[int, int]) -> None:
    complain("out of memory", pipe[1])
    assert os.read(pipe[0], 100) == b"out of memory\n"


def test_a_long_line_is_cut_to_what_a_pipe_takes_whole(pipe: tuple[int, int]) -> None:
    complain("é" * 5000, pipe[1])
    said = os.read(pipe[0], 65536)
    assert len(said) == select.PIPE_BUF
    assert said.endswith(b"\n")


def test_a_full_pipe_is_not_waited_for(pipe: tuple[int, int]) -> None:
    os.set_blocking(pipe[1], False)
    with suppress(BlockingIOError):
        while True:
            os.write(pipe[1], bytes(4096))
    os.set_blocking(pipe[1], True)
    complain("lost", pipe[1])
    os.set_blocking(pipe[0], False)
    assert os.read(pipe[0], 1 << 20).count(b"lost") == 0


def test_who_does_not_listen_is_no_error() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    complain("to nobody", writer)
    os.close(writer)
    complain("to nothing", writer)


@pytest.mark.row("D7")
def test_what_repeats_itself_is_left_out_and_counted(pipe: tuple[int, int]) -> None:
    for _ in range(LINES_A_MINUTE + 30):
        complain("no slot", pipe[1], clock=lambda: 1000.0)
    assert os.read(pipe[0], 1 << 16) == b"no slot\n" * LINES_A_MINUTE
    complain("again", pipe[1], clock=lambda: 1060.0)
    assert os.read(pipe[0], 1 << 16) == (b"qwend engine: 30 more lines in the last minute\nagain\n")


def test_the_journal_is_told_that_it_is_an_error(
    pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = os.fstat(pipe[1])
    monkeypatch.setenv("JOURNAL_STREAM", f"{stream.st_dev}:{stream.st_ino}")
    complain("no slot", pipe[1])
    monkeypatch.setenv("JOURNAL_STREAM", f"{stream.st_dev}:{stream.st_ino + 1}")
    complain("no slot", pipe[1])
    assert os.read(pipe[0], 100) == b"<3>no slot\nno slot\n"
