"""Who is at the other end of a connection, by the kernel's word.

Owns what the kernel noted when the client called connect(2): a process that changes its uid later,
or hands the descriptor to somebody else, changes nothing of it. Knows nothing of what they may do.
"""

from __future__ import annotations

import errno
import logging
import socket
import struct
from dataclasses import dataclass

log = logging.getLogger(__name__)

# asm-generic/socket.h, since Linux 4.13; Python has no name for it.
SO_PEERGROUPS = 59
# The most that Python's getsockopt takes: 256 groups.
GROUPS_BYTES = 1024


@dataclass(frozen=True, slots=True)
class Identity:
    """pid, uid, gid as SO_PEERCRED has them (unix(7)); groups: gid and the supplementary ones."""

    pid: int
    uid: int
    gid: int
    groups: frozenset[int] = frozenset()

    @classmethod
    def of(cls, peer: socket.socket) -> Identity:
        data = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("iII"))
        pid, uid, gid = struct.unpack("iII", data)
        return cls(pid, uid, gid, frozenset((gid, *_supplementary(peer, uid))))


def _supplementary(peer: socket.socket, uid: int) -> tuple[int, ...]:
    """Empty where the kernel does not say: in doubt one is in no more than one's own group."""
    try:
        data = peer.getsockopt(socket.SOL_SOCKET, SO_PEERGROUPS, GROUPS_BYTES)
    except OSError as error:
        if error.errno == errno.ERANGE:
            log.warning("uid %d is in more than 256 groups: its primary one alone counts", uid)
        return ()
    return struct.unpack(f"{len(data) // 4}I", data)
