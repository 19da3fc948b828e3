"""Main of the engine process: messages in from the front, steps, events out.

Owns the process: its limits, its death with the front, and its end of the hop. The loop never
blocks on the front: what the front does not take waits here, and is bounded because a sequence
without credit produces nothing.
"""

from __future__ import annotations

import ctypes
import os
import resource
import select
import signal
import socket
import sys
import time
from collections import deque
from contextlib import suppress
from typing import Any

from qwend.engine import hop
from qwend.engine.backend import Backend
from qwend.engine.calibration import calibrate, calibrate_script
from qwend.engine.engine import Engine, EngineSettings
from qwend.engine.events import CannotStart, Loading, Ready
from qwend.engine.request import EngineRequest
from qwend.engine.scripted import open_scripted
from qwend.engine.settings import EngineStart
from qwend.errors import QwendError

PR_SET_PDEATHSIG = 1  # prctl(2)
# Well above the front's 0: when memory runs out the kernel takes the engine, which can be started
# again without losing a client.
OOM_SCORE_ADJ = 500


class FrontGone(Exception):
    """The front has closed its end: there is nobody left to work for."""


class HopSocket:
    """Our end of the hop: reads whole messages, sends without ever blocking."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._socket.setblocking(False)
        self._assembler = hop.Assembler()
        self._outgoing: deque[bytes] = deque()

    def receive(self, *, wait: bool) -> list[dict[str, Any]]:
        """All messages that are there; wait: block until there is one, or room to send.

        Raises: FrontGone.
        """
        if wait:
            interest = select.POLLIN | (select.POLLOUT if self._outgoing else 0)
            poll = select.poll()
            poll.register(self._socket, interest)
            poll.poll()
        messages = []
        with suppress(BlockingIOError):
            while True:
                packet = self._receive_packet()
                message = self._assembler.feed(packet)
                if message is not None:
                    messages.append(message)
        self.flush()
        return messages

    def send(self, message: dict[str, Any]) -> None:
        self._outgoing.extend(hop.packets(message))
        self.flush()

    def flush(self) -> None:
        """Send what the front takes now. Raises: FrontGone."""
        with suppress(BlockingIOError):
            while self._outgoing:
                try:
                    self._socket.send(self._outgoing[0])
                except (BrokenPipeError, ConnectionResetError) as error:
                    raise FrontGone from error
                self._outgoing.popleft()

    def drain(self) -> None:
        """Send everything, blocking: for the last words before the process ends."""
        self._socket.setblocking(True)
        self.flush()

    def _receive_packet(self) -> bytes:
        try:
            packet = self._socket.recv(hop.PACKET_BYTES + 1)
        except ConnectionResetError as error:
            raise FrontGone from error
        if not packet:
            raise FrontGone
        return packet


class Worker:
    """Dispatches messages to one engine until the front says stop or is gone."""

    def __init__(self, connection: HopSocket) -> None:
        self._hop = connection
        self._early: list[dict[str, Any]] = []  # what arrived together with the settings
        self._stopping = False

    def run(self) -> None:
        settings = self._first_message()
        backend = self._open_backend(settings)
        try:
            self._serve(backend, settings)
        finally:
            backend.close()

    def _first_message(self) -> EngineStart:
        messages = self._hop.receive(wait=True)
        while not messages:
            messages = self._hop.receive(wait=True)
        first, *self._early = messages
        return EngineStart.from_map(first["settings"])

    def _open_backend(self, settings: EngineStart) -> Backend:
        self._say_loading("loading", 0.0)
        if settings.backend == "scripted":
            return open_scripted(
                settings.script,
                cells=settings.cells,
                rows=settings.ubatch,
                sequences=settings.max_sequences,
            )
        # Imported here: the scripted backend must run where llama_cpp is not installed.
        from qwend.engine.llama.backend import open_llama

        return open_llama(settings, lambda fraction: self._say_loading("loading", fraction))

    def _serve(self, backend: Backend, settings: EngineStart) -> None:
        self._say_loading("calibrating", 0.0)
        if settings.backend == "scripted":
            cost = calibrate_script(backend, time.monotonic).cost
        else:
            cost = calibrate(backend, time.monotonic, threads=settings.threads).cost
        engine = Engine(
            backend,
            cost,
            EngineSettings(settings.itl_budget_s, settings.prefix_bytes),
            time.monotonic,
        )
        facts = backend.facts
        self._hop.send(
            hop.events(
                [
                    Ready(
                        {
                            **facts.description,
                            "context_cells": facts.cells,
                            "train_context": facts.train_context,
                            "step_ms": {
                                rows: round(cost.seconds(rows) * 1e3, 3) for rows in (1, 4, 16, 64)
                            },
                        }
                    )
                ]
            )
        )
        for message in self._early:
            self._dispatch(engine, message)
        while not self._stopping:
            for message in self._hop.receive(wait=engine.idle):
                self._dispatch(engine, message)
            events = engine.step()
            if events:
                self._hop.send(hop.events(events))

    def _dispatch(self, engine: Engine, message: dict[str, Any]) -> None:
        match message["do"]:
            case "submit":
                engine.submit(EngineRequest.from_map(message["request"]))
            case "cancel":
                engine.cancel(message["id"])
            case "grant":
                engine.grant(message["id"], message["tokens"])
            case "stop":
                self._stopping = True

    def _say_loading(self, stage: str, fraction: float) -> None:
        self._hop.send(hop.events([Loading(stage, fraction)]))


def _prepare_process(parent: int) -> None:
    """Die with the front, leave no core, be the kernel's first choice when memory runs out."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        raise FrontGone  # it died before the line above took effect
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # Ctrl-C in a terminal reaches the whole group; the front decides when the engine ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write(str(OOM_SCORE_ADJ))


def main(argv: list[str]) -> int:
    """argv: the hop's file descriptor and the front's pid."""
    descriptor, parent = int(argv[0]), int(argv[1])
    connection = HopSocket(socket.socket(fileno=descriptor))
    try:
        _prepare_process(parent)
        Worker(connection).run()
    except FrontGone:
        return 0
    except QwendError as error:
        with suppress(FrontGone, OSError):
            connection.send(hop.events([CannotStart(error.code, str(error))]))
            connection.drain()
        print(f"qwend engine: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
