"""Whom the kernel names: the one who called connect, whoever has the descriptor now."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence

import pytest

from qwend.daemon.identity import Identity
from tests.daemon.as_user import NOBODY, as_root, as_user


def test_the_kernel_says_who_is_at_the_other_end() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        found = Identity.of(ours)
    assert (found.pid, found.uid, found.gid) == (os.getpid(), os.getuid(), os.getgid())
    assert found.groups == {os.getgid(), *os.getgroups()}


@as_root
@pytest.mark.row("G1")
@pytest.mark.parametrize("groups", [(), (5, 100_000), tuple(range(1000, 1256))])
def test_supplementary_groups_count_as_the_primary_one_does(
    socket_path: str, groups: Sequence[int]
) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(socket_path))
        os.chmod(socket_path, 0o666)
        listener.listen()
        with as_user(NOBODY, 77, groups).connected(str(socket_path)):
            connection, _ = listener.accept()
            with connection:
                found = Identity.of(connection)
    assert (found.uid, found.gid) == (NOBODY, 77)
    assert found.groups == {77, *groups}


@as_root
@pytest.mark.row("G1")
def test_who_is_in_more_groups_than_can_be_asked_for_is_in_its_own_alone(socket_path: str) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(socket_path))
        os.chmod(socket_path, 0o666)
        listener.listen()
        with as_user(NOBODY, 77, range(1000, 1257)).connected(str(socket_path)):
            connection, _ = listener.accept()
            with connection:
                assert Identity.of(connection).groups == {77}
