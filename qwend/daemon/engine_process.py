"""One engine process: its start, the front's end of the hop, its end.

Owns the child and the socket to it. Knows nothing of requests: messages go out as they are given,
events come back through a callback. A new engine is a new EngineProcess.
"""

from __future__ import annotations

import asyncio
import signal
import socket
import subprocess
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from qwend import failpoint
from qwend.daemon.child_exit import ended
from qwend.daemon.waiting_engine import WaitingEngine
from qwend.engine import hop
from qwend.engine.events import Event
from qwend.engine.settings import EngineStart

# How long an engine may take to end after it was asked to, before it is killed: it looks for
# messages once a step, and no step is longer than a few seconds.
STOP_TIMEOUT_S = 10.0


class EngineProcess:
    """on_events: called in the event loop with each batch of events.
    on_exit: called once, with how the process ended, after its last event."""

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        connection: socket.socket,
        on_events: Callable[[list[Event]], None],
        on_exit: Callable[[str], None],
    ) -> None:
        self._process = process
        self._socket = connection
        self._on_events = on_events
        self._on_exit = on_exit
        self._assembler = hop.Assembler()
        self._outgoing: deque[bytes] = deque()
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._socket, self._readable)
        self._watcher = self._loop.create_task(self._watch())

    @classmethod
    def begin(
        cls,
        waiting: WaitingEngine,
        settings: EngineStart,
        model_fd: int | None,
        *,
        on_events: Callable[[list[Event]], None],
        on_exit: Callable[[str], None],
    ) -> EngineProcess:
        """Take a process that waits, and give it its settings and the model's descriptor."""
        waiting.taken = True
        engine = cls(waiting.process, waiting.hop, on_events, on_exit)
        engine._send_start(settings, model_fd)
        return engine

    @property
    def pid(self) -> int:
        return self._process.pid

    def send(self, message: dict[str, Any]) -> None:
        """Queue a message to the engine. To one that is gone it does nothing."""
        if not self._outgoing:
            self._loop.call_soon(self._flush)
        self._outgoing.extend(hop.packets(message))

    def _send_start(self, settings: EngineStart, model_fd: int | None) -> None:
        first, *rest = hop.packets(hop.start(settings))
        with suppress(OSError):  # dead already: `_watch` tells
            socket.send_fds(self._socket, [first], [] if model_fd is None else [model_fd])
        self._outgoing.extend(rest)
        self._flush()

    async def stop(self) -> None:
        """Ask it to end, and kill it if it does not."""
        self.send(hop.stop())
        try:
            await asyncio.wait_for(asyncio.shield(self._watcher), STOP_TIMEOUT_S)
        except TimeoutError:
            self.kill()
            await self._watcher

    def kill(self) -> None:
        self._process.kill()

    def _readable(self) -> None:
        messages = []
        try:
            failpoint.reach("front.receive")
            while packet := self._socket.recv(hop.PACKET_BYTES + 1):
                message = self._assembler.feed(packet)
                if message is not None:
                    messages.append(message)
            self._loop.remove_reader(self._socket)  # the engine closed its end: it is dying
        except BlockingIOError:
            pass
        except ConnectionResetError:
            self._loop.remove_reader(self._socket)
        for message in messages:
            self._on_events(hop.read_events(message))

    def _flush(self) -> None:
        try:
            failpoint.reach("front.send")
            while self._outgoing:
                self._socket.send(self._outgoing[0])
                self._outgoing.popleft()
        except BlockingIOError:
            self._loop.add_writer(self._socket, self._flush)
            return
        except OSError:  # gone: `_watch` tells
            self._outgoing.clear()
        if self._socket.fileno() >= 0:
            self._loop.remove_writer(self._socket)

    async def _watch(self) -> None:
        code = await ended(self._process)
        self._readable_to_the_end()
        self._loop.remove_writer(self._socket)
        self._outgoing.clear()
        self._socket.close()
        self._on_exit(describe_exit(code))

    def _readable_to_the_end(self) -> None:
        """What it had sent before it died counts."""
        self._readable()
        self._loop.remove_reader(self._socket)


def describe_exit(code: int) -> str:
    """In words: how a process ended, from its return code."""
    if code >= 0:
        return f"exit status {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"
