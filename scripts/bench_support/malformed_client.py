"""The other process of `bench malformed`: KIND SOCKET SEED. Goes on until its input is closed.

Prints a line when it has begun, and at the end how many malformed frames it has sent.
"""

from __future__ import annotations

import random
import select
import socket
import sys

from tests.wire.malformed import attack


def main(kind: str, path: str, seed: str) -> None:
    chance, frames = random.Random(int(seed)), 0
    print(flush=True)
    while not select.select([sys.stdin], [], [], 0)[0]:
        given = attack(chance)
        if kind == "attacked":
            send(path, given.sent)
            frames += len(given.kinds)
    print(frames)


def send(path: str, data: bytes) -> None:
    """All of it, and then read until the daemon closes."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(30)
        connection.connect(path)
        try:
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(1 << 18):
                pass
        except (BrokenPipeError, ConnectionResetError):
            pass  # it had closed before all was sent


if __name__ == "__main__":
    main(*sys.argv[1:])
