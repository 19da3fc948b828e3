"""Other users at the other end of a socket, for tests that root can run."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import pytest

NOBODY = 65534
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be other users")

# Becomes the user, connects, and hands each connection over on descriptor 3. `before` and `after`
# are run as the user, before the first connection is made and after the last.
_CONNECT = """
import ctypes, os, socket, sys
uid, gid, count, path = int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
os.setgroups([int(one) for one in sys.argv[5:]])
os.setgid(gid)
os.setuid(uid)
{before}
peers = [socket.socket(socket.AF_UNIX) for _ in range(count)]
for peer in peers:
    peer.connect(path)
{after}
with socket.socket(fileno=3) as parent:
    for peer in peers:
        socket.send_fds(parent, [b"x"], [peer.fileno()])
    parent.recv(1)
"""

# Root in a user namespace of its own; PR_SET_DUMPABLE (4), or the map is not its own to write.
AS_ROOT_OF_A_NAMESPACE = """
libc = ctypes.CDLL(None, use_errno=True)
libc.prctl(4, 1)
if libc.unshare(0x10000000):
    sys.exit(77)
with open("/proc/self/uid_map", "w") as file:
    file.write(f"0 {uid} 1")
assert os.getuid() == 0
"""


@dataclass(frozen=True)
class User:
    uid: int
    gid: int
    groups: tuple[int, ...] = ()
    before: str = ""
    after: str = ""

    @contextmanager
    def connected(self, path: str) -> Iterator[socket.socket]:
        """A connection that this user has made; its process lives as long as the block."""
        with self.connections(path, 1) as (connection,):
            yield connection

    @contextmanager
    def connections(self, path: str, count: int) -> Iterator[list[socket.socket]]:
        ours, theirs = socket.socketpair()
        connect = _CONNECT.format(before=self.before, after=self.after)
        script = f"import os; os.dup2({theirs.fileno()}, 3)\n{connect}"
        arguments = [str(one) for one in (self.uid, self.gid, count, path, *self.groups)]
        with ExitStack() as undo:
            # -S -E: the user may not be able to read what site would import.
            process = subprocess.Popen(
                [sys.executable, "-S", "-E", "-W", "ignore", "-c", script, *arguments],
                pass_fds=(theirs.fileno(),),
            )
            undo.callback(process.wait)
            undo.enter_context(ours)  # closed first: then it has nothing to wait for
            theirs.close()
            ours.settimeout(60)
            found = []
            for _ in range(count):
                _, fds, _, _ = socket.recv_fds(ours, 1, 1)
                if not fds and process.wait() == 77:
                    pytest.skip("this machine allows no user namespaces")
                assert fds, f"uid {self.uid} could not connect"
                found.append(undo.enter_context(socket.socket(fileno=fds[0])))
            yield found
            ours.sendall(b"x")


def as_user(
    uid: int,
    gid: int | None = None,
    groups: Sequence[int] = (),
    *,
    before: str = "",
    after: str = "",
) -> User:
    return User(uid, uid if gid is None else gid, tuple(groups), before, after)
