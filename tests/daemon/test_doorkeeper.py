"""Connections are taken a few at a time, and without descriptors none, quietly, for a while."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from pathlib import Path

import pytest

from qwend.daemon.doorkeeper import ACCEPT_AGAIN_S, ACCEPTS_A_TURN, Doorkeeper
from tests.daemon.fakes import run_jumping


class Listener:
    """A listening socket that is level-triggered as one, and accepts as it is told."""

    def __init__(self, *answers: int | None) -> None:
        """answers: an errno for each accept, None for a connection; then there is nobody."""
        self.answers = list(answers)
        self.accepts = 0
        self.closed = False
        self._reading, self._writing = os.pipe()
        os.write(self._writing, b"x")

    def fileno(self) -> int:
        return self._reading

    def accept(self) -> tuple[socket.socket, str]:
        self.accepts += 1
        answer = self.answers.pop(0) if self.answers else errno.EAGAIN
        if answer == errno.EAGAIN:
            os.read(self._reading, 1)  # nobody is there any more
        if answer is None:
            ours, theirs = socket.socketpair()
            theirs.close()
            return ours, ""
        raise OSError(answer, os.strerror(answer))

    def close(self) -> None:
        self.closed = True
        os.close(self._reading)
        os.close(self._writing)


def admitted(listener: Listener, turns: int, pause_s: float = 0.0) -> int:
    """How many come in so many turns of the loop, and in this time after them."""
    connections: list[socket.socket] = []

    async def main() -> None:
        door = Doorkeeper(listener, connections.append)  # type: ignore[arg-type]
        for _ in range(turns):
            await asyncio.sleep(0)
        if pause_s:
            await asyncio.sleep(pause_s)
        door.close()

    run_jumping(main())
    for connection in connections:
        assert not connection.getblocking()
        connection.close()
    assert listener.closed
    return len(connections)


def test_a_crowd_is_taken_in_turns() -> None:
    assert admitted(Listener(*[None] * 100), turns=2) == ACCEPTS_A_TURN


@pytest.mark.row("D3")
@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOMEM])
def test_without_descriptors_it_is_tried_again_later_and_told_once(
    number: int, caplog: pytest.LogCaptureFixture
) -> None:
    listener = Listener(number, number, number, None)
    # The clock jumps to the next timer, so that what spins would be tried again and again.
    assert admitted(listener, turns=50) == 0
    assert listener.accepts == 1
    listener = Listener(number, number, number, None)
    assert admitted(listener, turns=2, pause_s=3.5 * ACCEPT_AGAIN_S) == 1
    assert len(caplog.records) == 2, "one of each doorkeeper"


def test_a_client_that_has_gone_again_keeps_nobody_out() -> None:
    assert admitted(Listener(errno.ECONNABORTED, errno.EINTR, None), turns=2) == 1


def test_nobody_is_admitted_any_more_once_it_is_closed(folder: Path) -> None:
    async def main() -> None:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(folder / "s"))
            listener.listen()
            door = Doorkeeper(listener, lambda connection: connection.close())
            door.close()
            with socket.socket(socket.AF_UNIX) as late, pytest.raises(ConnectionRefusedError):
                late.connect(str(folder / "s"))

    asyncio.run(main())
