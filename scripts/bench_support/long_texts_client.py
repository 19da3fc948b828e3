"""The other process of `bench texts`: KIND OP BYTES SOCKET. Goes on until its input is closed.

Prints a line when it has begun, and at the end how many of its requests were answered. It reads
answers without looking into them: its own work is not what is measured.
"""

from __future__ import annotations

import random
import select
import socket
import sys
from collections.abc import Callable

import msgpack

COMPUTES = "beside"
OPEN = 4
"""Requests at any time: as many as `running_per_uid` lets in by default."""

WORDS = ("the", "a", "of", "and", "to", "machine", "keeps", "language", "between", "another")
_random = random.Random(1)


def _chosen(characters: str) -> Callable[[int], str]:
    return lambda size: "".join(_random.choices(characters, k=size))


TEXTS: dict[str, Callable[[int], str]] = {
    "words": lambda size: " ".join(_random.choices(WORDS, k=size // 3)),
    "lines": lambda size: "\n" * size,
    "letters": _chosen("abcdefghijklmnopqrstuvwxyz"),
    "chinese": lambda size: _chosen("的一是不了人我在有他这中大来上个国和也子时道")(size // 3),
    "blocks": lambda size: ("\n" * 32_000 + "x") * (size // 32_000),
}
"""By kind: a text of about so many bytes. Words and blocks have places to cut at, the others have
none; blocks have as few as a text that is not refused can have."""


def main(kind: str, op: str, size: str, path: str) -> None:
    print(flush=True)
    if kind == COMPUTES:
        while not _told_to_end():
            sum(range(10_000))
        print(0)
        return
    answered = 0
    text = TEXTS[kind](int(size)).encode()[: int(size)].decode(errors="ignore")
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(path)
        connection.sendall(_frame({"op": "hello", "protocol": "qwend/1"}))
        _read(connection)
        for number in range(OPEN):
            connection.sendall(_request(op, number, text))
        number = OPEN
        while not _told_to_end():
            if not select.select([connection], [], [], 0.1)[0]:
                continue
            if _read(connection) in ("done", "error"):
                answered += 1
                number += 1
                connection.sendall(_request(op, number, text))
    print(answered)


def _told_to_end() -> bool:
    return bool(select.select([sys.stdin], [], [], 0)[0])


def _request(op: str, number: int, text: str) -> bytes:
    field = "text" if op == "tokenize" else "prompt"
    more = {} if op == "tokenize" else {"max_tokens": 1}
    return _frame({"op": op, "id": number, field: text, **more})


def _frame(fields: dict[str, object]) -> bytes:
    payload: bytes = msgpack.packb(fields)
    return len(payload).to_bytes(4, "big") + payload


def _read(connection: socket.socket) -> str:
    """The `op` of the next message, which is its first field."""
    left = int.from_bytes(_take(connection, 4), "big")
    head = _take(connection, min(left, 64))
    _take(connection, left - len(head))
    return head[5 : 5 + (head[4] & 31)].decode()  # a short map, "op", a short string


def _take(connection: socket.socket, size: int) -> bytes:
    taken = bytearray()
    while len(taken) < size:
        data = connection.recv(min(size - len(taken), 1 << 18))
        if not data:
            raise EOFError("the daemon has closed the connection")
        taken += data
    return bytes(taken)


if __name__ == "__main__":
    main(*sys.argv[1:])
