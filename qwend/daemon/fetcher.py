"""The way to a process that fetches: a service of systemd's with a network, or a child of ours.

Owns how one is started, spoken to and ended. The daemon itself has no network where systemd has
taken that from it (qwend.service), so there a socket of another service is what it asks. Knows
nothing of what is fetched, nor for whom: lines go out and come in (pull_worker.py).
"""

from __future__ import annotations

import asyncio
import errno
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path

from qwend.daemon.child_exit import ended
from qwend.daemon.waiting_engine import SYSTEMDS
from qwend.errors import HostError
from qwend.models.disk import make_directory

# What a child may take to end once its connection is closed: it flushes what came to the disk.
STOP_TIMEOUT_S = 10.0
# Of one line that it says: an error may name an address of 4,096 characters.
LINE_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True)
class Fetcher:
    """service: the socket of qwend-pull.socket. models: where a child puts what it fetches.

    environ: of the daemon.
    """

    service: Path
    models: Path
    environ: Mapping[str, str]

    @property
    def is_there(self) -> bool:
        """Something can be fetched: by the service, or else by a child that has our network."""
        return self.service.exists() or _has_network()

    @asynccontextmanager
    async def asked(self, order: bytes) -> AsyncIterator[asyncio.StreamReader]:
        """What is answered to the line `order`; leaving it ends the fetching.

        Raises: HostError if there is none.
        """
        make_directory(self.models)  # the service could not: it sees nothing around it
        async with AsyncExitStack() as undo:
            try:
                connection = await self._connected(undo)
            except OSError as error:
                raise HostError(str(self.service), "reaching what pulls, at", error) from error
            reader, writer = await asyncio.open_unix_connection(sock=connection, limit=LINE_BYTES)
            undo.callback(writer.close)
            writer.write(order)
            yield reader

    async def _connected(self, undo: AsyncExitStack) -> socket.socket:
        """A stream to it, which does not block. Raises: OSError."""
        try:
            return await _connection_to(self.service)
        except OSError as error:
            if error.errno != errno.ENOENT or not _has_network():
                raise
        ours, theirs = socket.socketpair()
        with closing(theirs):
            try:
                child = self._start(theirs)
            except OSError:
                ours.close()
                raise
        undo.push_async_callback(_see_it_end, child)
        ours.setblocking(False)
        return ours

    def _start(self, theirs: socket.socket) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-P", "-m", "qwend.daemon.main", "pull-worker"]
        environ = {name: text for name, text in self.environ.items() if name not in SYSTEMDS}
        return subprocess.Popen(
            [*command, "--models", str(self.models)],
            stdin=theirs.fileno(),
            stdout=subprocess.DEVNULL,
            env=environ,
        )


async def _connection_to(path: Path) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.setblocking(False)
        await asyncio.get_running_loop().sock_connect(connection, str(path))
    except BaseException:
        connection.close()
        raise
    return connection


async def _see_it_end(child: subprocess.Popen[bytes]) -> None:
    """Once its connection is closed it ends by itself."""
    ending = asyncio.ensure_future(ended(child))
    try:
        await asyncio.wait_for(asyncio.shield(ending), STOP_TIMEOUT_S)
    except TimeoutError:
        child.kill()
        await ending


def _has_network() -> bool:
    """systemd.exec(5), RestrictAddressFamilies=: such a socket cannot even be made."""
    try:
        socket.socket(socket.AF_INET).close()
    except OSError:
        return False
    return True
