"""Other users at the other end of a socket, for tests that root can run."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

NOBODY = 65534
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be other users")

# Becomes the user, connects, and hands the connection over as SCM_RIGHTS on descriptor 3.
_CONNECT = """
import os, socket, sys
uid, gid, path = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
os.setgroups([int(one) for one in sys.argv[4:]])
os.setgid(gid)
os.setuid(uid)
with socket.socket(socket.AF_UNIX) as peer, socket.socket(fileno=3) as parent:
    peer.connect(path)
    socket.send_fds(parent, [b"x"], [peer.fileno()])
    parent.recv(1)
"""


@dataclass(frozen=True)
class User:
    uid: int
    gid: int
    groups: tuple[int, ...] = ()

    @contextmanager
    def connected(self, path: str) -> Iterator[socket.socket]:
        """A connection that this user has made; its process lives as long as the block."""
        ours, theirs = socket.socketpair()
        script = f"import os; os.dup2({theirs.fileno()}, 3)\n{_CONNECT}"
        arguments = [str(one) for one in (self.uid, self.gid, path, *self.groups)]
        with (
            ours,
            subprocess.Popen(
                # -S -E: the user may not be able to read what site would import.
                [sys.executable, "-S", "-E", "-c", script, *arguments],
                pass_fds=(theirs.fileno(),),
            ) as process,
        ):
            theirs.close()
            ours.settimeout(30)
            _, fds, _, _ = socket.recv_fds(ours, 1, 1)
            assert fds, f"uid {self.uid} could not connect"
            with socket.socket(fileno=fds[0]) as connection:
                yield connection
            ours.sendall(b"x")
            process.wait()


def as_user(uid: int, gid: int | None = None, groups: Sequence[int] = ()) -> User:
    return User(uid, uid if gid is None else gid, tuple(groups))
