"""A connected socket that http.client may have, and that never waits for ever.

Rule 1: the headers have one deadline; a body must bring `least_bytes` in every `silence_s`, or it
has stalled, so that a peer that says nothing, or next to nothing, is noticed within two of them.
Rule 2: a pause at the end of such a window is no stall if enough came before it.
"""

from __future__ import annotations

import io
import socket
from collections.abc import Callable
from typing import Any

_BUFFER_BYTES = 64 * 1024


class Line:
    """Owns the socket; http.client's `close` leaves it open, `shut` does not."""

    def __init__(self, sock: socket.socket, clock: Callable[[], float]) -> None:
        self._sock, self._clock = sock, clock
        self._deadline = clock()
        self._window_s = 0.0
        self._least_bytes = self._came_bytes = 0

    def expect_head(self, within_s: float) -> None:
        self._deadline, self._window_s = self._clock() + within_s, 0.0

    def expect_body(self, silence_s: float, least_bytes: int) -> None:
        self._window_s, self._least_bytes = silence_s, least_bytes
        self._begin_window()

    def sendall(self, data: bytes) -> None:
        """Raises: OSError, TimeoutError."""
        self._sock.settimeout(self._left_s())
        self._sock.sendall(data)

    def makefile(self, mode: str, *_: Any, **__: Any) -> io.BufferedReader:
        assert mode == "rb"
        return io.BufferedReader(_Reader(self), _BUFFER_BYTES)

    def receive_into(self, buffer: Any) -> int:
        """Raises: TimeoutError if it is too late or too little; OSError."""
        while True:
            self._sock.settimeout(self._left_s())
            try:
                count = self._sock.recv_into(buffer)
            except TimeoutError:
                continue  # what that means, `_left_s` says
            self._came_bytes += count
            return count

    def close(self) -> None:
        """http.client closes what it has answered from, while the body is still to be read."""

    def shut(self) -> None:
        self._sock.close()

    def _left_s(self) -> float:
        left_s = self._deadline - self._clock()
        if left_s <= 0:
            if not self._window_s or self._came_bytes < self._least_bytes:
                raise TimeoutError
            self._begin_window()
            return self._window_s
        return left_s

    def _begin_window(self) -> None:
        self._deadline, self._came_bytes = self._clock() + self._window_s, 0


class _Reader(io.RawIOBase):
    def __init__(self, line: Line) -> None:
        self._line = line

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return self._line.receive_into(buffer)
