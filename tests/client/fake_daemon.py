"""A daemon whose every word a test decides, made from the wire's own daemon side.

Rule 1: it speaks the real protocol over a real socket; a test writes what it does as a script.
Rule 2: it answers nothing by itself but the hello.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from qwend.wire import (
    Connection,
    Done,
    EndOfStream,
    FinishReason,
    Hello,
    Message,
    Side,
    Token,
    Usage,
    Welcome,
)

DEADLINE_S = 10.0
WELCOME = Welcome(server="fake 0", model="fake", context=512)
Kind = TypeVar("Kind")


class Talk:
    """The daemon's end of one connection, for a script to use."""

    def __init__(self, client: socket.socket) -> None:
        client.settimeout(DEADLINE_S)
        self.socket = client
        self.wire = Connection(Side.DAEMON)

    def expect(self, kind: type[Kind]) -> Kind:
        """Return the client's next message, which must be a `kind`."""
        while (event := self.wire.next_event()) is None:
            data = self.socket.recv(65536)
            if data:
                self.wire.receive_data(data)
            else:
                self.wire.receive_eof()
        assert isinstance(event, kind), f"expected {kind.__name__}, the client sent {event}"
        return event

    def greet(self, *capabilities: str) -> None:
        self.expect(Hello)
        self.say(replace(WELCOME, capabilities=capabilities))

    def say(self, *messages: Message) -> None:
        self.socket.sendall(b"".join(self.wire.send(message) for message in messages))

    def answer(self, request_id: int, *texts: str, start: int = 0) -> None:
        """Send one token for each text."""
        for index, text in enumerate(texts, start):
            self.say(Token(request_id, index, (1000 + index,), text))

    def finish(self, request_id: int, reason: FinishReason = "stop") -> None:
        self.say(Done(request_id, reason, Usage(3, 0, 1)))

    def expect_end(self) -> None:
        self.expect(EndOfStream)


@contextmanager
def fake_daemon(path: Path, script: Callable[[Talk], None]) -> Iterator[Path]:
    """Listen at `path`; run `script` with the first connection; yield the path.

    What the script raised, a failed assert of it included, is raised at the end.
    """
    failures: list[BaseException] = []
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(path))
    listener.listen()
    listener.settimeout(DEADLINE_S)

    def serve() -> None:
        try:
            client, _ = listener.accept()
            with client:
                script(Talk(client))
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=serve, name="fake-daemon")
    thread.start()
    try:
        yield path
    finally:
        thread.join(DEADLINE_S)
        listener.close()
    assert not thread.is_alive(), "the script waits for something that the test never sends"
    if failures:
        raise failures[0]
