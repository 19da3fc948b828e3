"""The tests' hub on the loopback of a booted machine: its threads are here, its sockets there."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from tests.models.pull.stub_hub import StubHub, stub_hub
from tests.systemd.machine import Machine

CLONE_NEWNET = 0x40000000  # linux/sched.h


@contextmanager
def hub_in(machine: Machine, **files: bytes) -> Iterator[StubHub]:
    """files: as of `stub_hub`."""
    hub = stub_hub(**files)
    # A socket is of the network in which its thread was when it was made; no other thread moves.
    with ThreadPoolExecutor(1, initializer=_enter, initargs=(machine.leader,)) as there:
        entered = there.submit(hub.__enter__).result()
    try:
        yield entered
    finally:
        hub.__exit__(None, None, None)


def _enter(leader: int) -> None:
    descriptor = os.open(f"/proc/{leader}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        if ctypes.CDLL(None, use_errno=True).setns(descriptor, CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "setns")
    finally:
        os.close(descriptor)
