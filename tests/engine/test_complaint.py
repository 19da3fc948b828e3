"""A word on standard error is written whole, or left out, and never waited for."""

from __future__ import annotations

import os
import select
from collections.abc import Iterator
from contextlib import suppress

import pytest

from qwend.engine.complaint import complain

pytestmark = pytest.mark.row("F2")


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
