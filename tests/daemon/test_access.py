"""Who may connect, and who may tell the daemon what to do: a table of users and settings."""

from __future__ import annotations

import grp
import pwd

import pytest

from qwend.config import SocketConfig
from qwend.daemon.access import Access
from qwend.daemon.identity import Identity
from qwend.errors import ConfigError

OWN = 990


def peer(uid: int, *groups: int) -> Identity:
    return Identity(1, uid, groups[0] if groups else uid, frozenset(groups or (uid,)))


def access(**settings: str) -> Access:
    return Access.of(SocketConfig(**settings), OWN)


@pytest.mark.row("G1")
@pytest.mark.parametrize(
    ("settings", "who", "admitted"),
    [
        ({}, peer(1000), True),
        ({"allow_users": "1000 1001"}, peer(1001), True),
        ({"allow_users": "1000"}, peer(1001), False),
        ({"allow_users": "1000"}, peer(1001, 1000), False),
        ({"allow_groups": "50"}, peer(1000, 50), True),
        ({"allow_groups": "50"}, peer(1000, 1000, 50), True),
        ({"allow_groups": "50"}, peer(50, 1000), False),
        ({"allow_users": "1000", "allow_groups": "50"}, peer(1000), True),
        ({"allow_users": "1000", "allow_groups": "50"}, peer(1001, 7, 50), True),
        ({"allow_users": "1000", "allow_groups": "50"}, peer(1001), False),
        ({"allow_users": "1000"}, peer(0), True),
        ({"allow_users": "1000"}, peer(OWN), True),
        ({"allow_users": "1000", "admin_group": "60"}, peer(1001, 7, 60), True),
    ],
)
def test_who_may_connect(settings: dict[str, str], who: Identity, admitted: bool) -> None:
    assert access(**settings).admits(who) is admitted


@pytest.mark.parametrize(
    ("settings", "who", "administers"),
    [
        ({}, peer(0), True),
        ({}, peer(OWN), True),
        ({}, peer(1000), False),
        ({"allow_users": "1000"}, peer(1000), False),
        ({"admin_group": "60"}, peer(1000, 60), True),
        ({"admin_group": "60"}, peer(1000, 1000, 60), True),
        ({"admin_group": "60"}, peer(60, 1000), False),
    ],
)
def test_who_is_an_administrator(
    settings: dict[str, str], who: Identity, administers: bool
) -> None:
    assert access(**settings).administers(who) is administers


def test_names_are_looked_up() -> None:
    user, group = pwd.getpwall()[-1], grp.getgrall()[-1]
    found = access(allow_users=f" {user.pw_name}  7", allow_groups=group.gr_name)
    assert found.users == {user.pw_uid, 7}
    assert found.groups == {group.gr_gid}


@pytest.mark.parametrize("setting", ["allow_users", "allow_groups", "admin_group"])
def test_a_name_that_nobody_has_is_refused_with_its_setting(setting: str) -> None:
    with pytest.raises(ConfigError, match=f"'no-such-name' \\({setting} under"):
        access(**{setting: "no-such-name"})
