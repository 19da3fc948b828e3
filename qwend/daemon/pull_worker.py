"""The process that pulls one model: what `qwend pull-worker` does with its standard input.

Standard input is a stream socket, from systemd (qwend-pull@.service) or from the daemon whose child
this is. One line comes in, the order; then lines go out, each a map in JSON:

    {"progress": [stage, done_bytes, total_bytes]}    {"notice": sentence}
    {"done": name, "fetched_bytes": n}    or    {"error": sentence, "code": code}

Rule 1: whoever is at the other end may have a model fetched into the one store that the command
line names, and nothing else. Rule 2: when that end is closed, it stops as at a Ctrl-C: what came is
kept. Rule 3: it runs where there is a network, and without what the daemon has.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from qwend import __version__
from qwend.errors import ConfigError, QwendError
from qwend.models.blob_store import BlobStore
from qwend.models.pull.order import Order
from qwend.models.pull.progress import Listener, Progress
from qwend.models.pull.web import Web

# A model may be an address of 4,096 characters, each of up to six bytes in JSON.
ORDER_BYTES = 64 * 1024
# Often enough for a bar that moves, seldom enough to be nothing beside the pull.
TELL_EVERY_S = 0.25
# Reading a part again takes all of a CPU, which is the engine's.
NICER = 10


def work(models_dir: Path, environ: Mapping[str, str]) -> None:
    """Pull what standard input asks for, to the end or until nobody waits for it.

    Raises: ConfigError if standard input is no socket.
    """
    with suppress(OSError):
        os.nice(NICER)
    try:
        connection = socket.socket(fileno=os.dup(0))
    except OSError as error:
        raise ConfigError(
            "standard input is no socket: this is started by the daemon, or by systemd for it"
        ) from error
    with connection, suppress(KeyboardInterrupt):
        _pull(connection, models_dir, environ)
        # Whoever has heard the end closes the connection, and that is no reason to stop any more.
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def _pull(connection: socket.socket, models_dir: Path, environ: Mapping[str, str]) -> None:
    told = _Told(connection)
    try:
        order = _read_order(connection)
        _stop_when_closed(connection)
        web = Web(agent=f"qwend/{__version__}")
        pulled = order.carry_out(BlobStore(models_dir), web, environ, told.listener())
        told.tell({"done": pulled.manifest.name, "fetched_bytes": pulled.fetched_bytes})
    except QwendError as error:
        told.tell({"error": str(error), "code": error.code})


def _read_order(connection: socket.socket) -> Order:
    """Raises: ConfigError; KeyboardInterrupt if it is closed before all has come."""
    line = bytearray()
    while not line.endswith(b"\n"):
        data = connection.recv(ORDER_BYTES)
        if not data:
            raise KeyboardInterrupt
        line += data
        if len(line) > ORDER_BYTES:
            raise ConfigError(f"an order to pull has at most {ORDER_BYTES} bytes")
    try:
        order = Order(**json.loads(line))
    except (ValueError, TypeError, RecursionError) as error:
        raise ConfigError(f"this is no order to pull: {error}") from error
    for name, kind in Order.__annotations__.items():
        if type(getattr(order, name)).__name__ != kind:
            raise ConfigError(f"{name} of an order to pull is no {kind}")
    return order


def _stop_when_closed(connection: socket.socket) -> None:
    """From now on the end of the connection is a Ctrl-C to the main thread, which may be waiting
    for a hub."""
    main = threading.main_thread().ident
    assert main is not None

    def watch() -> None:
        with suppress(OSError):
            connection.recv(1)  # nothing more is to come: it returns at the end
        signal.pthread_kill(main, signal.SIGINT)

    threading.Thread(target=watch, daemon=True).start()


class _Told:
    """What is told of the pull, and how often."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._at, self._stage = 0.0, ""

    def listener(self) -> Listener:
        return Listener(self._progress, lambda sentence: self.tell({"notice": sentence}))

    def tell(self, fields: Mapping[str, Any]) -> None:
        try:
            self._connection.sendall(json.dumps(fields).encode() + b"\n")
        except OSError:
            raise KeyboardInterrupt from None

    def _progress(self, progress: Progress) -> None:
        now = time.monotonic()
        over = 0 < progress.total_bytes == progress.done_bytes
        if progress.stage == self._stage and now - self._at < TELL_EVERY_S and not over:
            return
        self._stage, self._at = progress.stage, now
        self.tell({"progress": [progress.stage, progress.done_bytes, progress.total_bytes]})
