"""When a connection counts as stalled, on a clock of the test's own."""

from __future__ import annotations

import socket
from typing import Any, cast

import pytest

from qwend.models.pull.line import Line
from qwend.models.pull.web import Patience

PATIENCE = Patience()


class Peer:
    """Sends `size` bytes each `every_s`, until `ends_s`; time passes by waiting for them."""

    def __init__(self, size: int, every_s: float, ends_s: float = 1e9) -> None:
        self.now = 0.0
        self._size, self._every_s, self._ends_s = size, every_s, ends_s
        self._next_s, self._timeout_s = every_s, 0.0

    def settimeout(self, seconds: float) -> None:
        assert seconds > 0
        self._timeout_s = seconds

    def recv_into(self, buffer: Any) -> int:
        due = self._next_s if self._next_s <= self._ends_s else 1e9
        if due > self.now + self._timeout_s:
            self.now += self._timeout_s
            raise TimeoutError
        self.now = max(self.now, due)
        self._next_s += self._every_s
        return self._size

    def line(self) -> Line:
        line = Line(cast(socket.socket, self), lambda: self.now)
        line.expect_body(PATIENCE.silence_s, PATIENCE.least_bytes)
        return line


def read_for(line: Line, peer: Peer, seconds: float) -> float:
    """Read until so much time has passed, or it is a stall: when that was."""
    while peer.now < seconds:
        line.receive_into(bytearray(1))
    return peer.now


@pytest.mark.row("I1")
@pytest.mark.parametrize(("size", "every_s"), [(64 * 1024, 5.0), (1500, 0.7), (32 * 1024, 11.9)])
def test_a_slow_line_with_pauses_is_no_stall(size: int, every_s: float) -> None:
    peer = Peer(size, every_s)

    assert read_for(peer.line(), peer, 3600) >= 3600


@pytest.mark.row("I1")
@pytest.mark.parametrize(("size", "every_s"), [(1, 1.0), (1, 0.01), (100, 0.5)])
def test_next_to_nothing_is_a_stall(size: int, every_s: float) -> None:
    peer = Peer(size, every_s)

    with pytest.raises(TimeoutError):
        read_for(peer.line(), peer, 3600)
    assert peer.now <= PATIENCE.silence_s + every_s


@pytest.mark.row("I1")
@pytest.mark.parametrize("ends_s", [0.1, 3.0, 11.9, 12.1, 100.0])
def test_silence_is_noticed_within_half_a_minute(ends_s: float) -> None:
    peer = Peer(64 * 1024, 0.05, ends_s)

    with pytest.raises(TimeoutError):
        read_for(peer.line(), peer, 3600)
    assert peer.now - ends_s <= 30


def test_headers_have_one_deadline_however_much_comes() -> None:
    peer = Peer(64 * 1024, 0.05)
    line = peer.line()
    line.expect_head(PATIENCE.head_s)

    with pytest.raises(TimeoutError):
        read_for(line, peer, 3600)
    assert peer.now == pytest.approx(PATIENCE.head_s, abs=0.1)
