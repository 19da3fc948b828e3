"""Access: who may connect, and who may tell the daemon what to do.

Owns the lists of [socket], as numbers. The socket's mode and group come first: they are the
kernel's, and who does not pass them never gets here.
"""

from __future__ import annotations

import grp
import pwd
from collections.abc import Callable
from dataclasses import dataclass

from qwend.config import SocketConfig
from qwend.daemon.identity import Identity
from qwend.errors import ConfigError

ROOT = 0


@dataclass(frozen=True, slots=True)
class Access:
    """users, groups: who may connect; both empty: everyone. own_uid: the daemon's.

    An administrator is root, the daemon's own user, or in the admin group, and may always connect.
    """

    own_uid: int
    users: frozenset[int] = frozenset()
    groups: frozenset[int] = frozenset()
    admin_group: int | None = None

    @classmethod
    def of(cls, settings: SocketConfig, own_uid: int) -> Access:
        """Raises: ConfigError naming a user or a group that does not exist."""
        return cls(
            own_uid,
            _numbers(settings.allow_users, "allow_users", "user", _uid_of),
            _numbers(settings.allow_groups, "allow_groups", "group", _gid_of),
            next(iter(_numbers(settings.admin_group, "admin_group", "group", _gid_of)), None),
        )

    def admits(self, peer: Identity) -> bool:
        if not self.users and not self.groups:
            return True
        listed = peer.uid in self.users or not self.groups.isdisjoint(peer.groups)
        return listed or self.administers(peer)

    def administers(self, peer: Identity) -> bool:
        return peer.uid in (ROOT, self.own_uid) or self.admin_group in peer.groups


def _numbers(text: str, setting: str, kind: str, find: Callable[[str], int]) -> frozenset[int]:
    numbers = set()
    for name in text.split():
        try:
            numbers.add(int(name) if name.isdecimal() else find(name))
        except KeyError as error:
            raise ConfigError(
                f"there is no {kind} {name!r} ({setting} under [socket]): create it, or correct "
                "the name"
            ) from error
    return frozenset(numbers)


def _uid_of(name: str) -> int:
    return pwd.getpwnam(name).pw_uid


def _gid_of(name: str) -> int:
    return grp.getgrnam(name).gr_gid
