"""The other process of `bench malformed`: KIND SOCKET SEED. Goes on until its input is closed.

Prints a line when it has begun, and at the end how many malformed frames it has sent, and how many
seconds the longest of its connections took from the first byte to the daemon's close.
"""

from __future__ import annotations

import random
import select
import socket
import sys
import time

from tests.wire.malformed import attack


def main(kind: str, path: str, seed: str) -> None:
    chance, frames, longest_s = random.Random(int(seed)), 0, 0.0
    print(flush=True)
    while not select.select([sys.stdin], [], [], 0)[0]:
        given = attack(chance)
        if kind == "attacked":
            begin = time.monotonic()
            send(path, given.sent)
            longest_s = max(longest_s, time.monotonic() - begin)
            frames += len(given.kinds)
    print(frames, longest_s)


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
