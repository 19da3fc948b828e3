"""What systemd is told, over a real notification socket."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from qwend.daemon.notify import EXTEND_USEC, REPEAT_S, Notifier


@pytest.fixture
def systemd(folder: Path) -> Iterator[socket.socket]:
    path = str(folder / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(path)
        listener.settimeout(5)
        yield listener


def told(systemd: socket.socket) -> list[str]:
    return systemd.recv(4096).decode().splitlines()


def test_each_message_says_what_systemd_acts_on(systemd: socket.socket) -> None:
    with closing(Notifier({"NOTIFY_SOCKET": str(systemd.getsockname())})) as notifier:
        notifier.starting("loading 50%")
        assert told(systemd) == ["STATUS=loading 50%", f"EXTEND_TIMEOUT_USEC={EXTEND_USEC}"]
        notifier.ready("guide, ready")
        assert told(systemd) == ["READY=1", "STATUS=guide, ready"]
        notifier.status("engine lost")
        assert told(systemd) == ["STATUS=engine lost"]
        notifier.stopping("draining 2 requests")
        assert told(systemd) == ["STOPPING=1", "STATUS=draining 2 requests"]
        notifier.alive()
        assert told(systemd) == ["WATCHDOG=1"]
        notifier.drop("qwend-x")
        assert told(systemd) == ["FDSTOREREMOVE=1", "FDNAME=qwend-x"]
        notifier.failed("failed: no model", 2)
        assert told(systemd) == ["STATUS=failed: no model", "ERRNO=2"]


def test_a_reload_has_the_time_before_its_end(systemd: socket.socket) -> None:
    with closing(Notifier({"NOTIFY_SOCKET": str(systemd.getsockname())})) as notifier:
        before = time.monotonic_ns() // 1000
        notifier.reloading("reading")
        reloading, usec = told(systemd)
        assert reloading == "RELOADING=1"
        assert before <= int(usec.removeprefix("MONOTONIC_USEC=")) <= time.monotonic_ns() // 1000
        assert told(systemd) == ["STATUS=reading"]


def test_a_descriptor_goes_along_with_its_name(systemd: socket.socket, folder: Path) -> None:
    (folder / "kept").write_text("what is kept")
    with closing(Notifier({"NOTIFY_SOCKET": str(systemd.getsockname())})) as notifier:
        with (folder / "kept").open() as file:
            notifier.keep("qwend-x", file.fileno())
        data, fds, _, _ = socket.recv_fds(systemd, 4096, 2)
    assert data.decode().splitlines() == ["FDSTORE=1", "FDNAME=qwend-x"]
    (fd,) = fds
    with open(fd) as file:
        assert file.read() == "what is kept"


def test_an_abstract_address_is_one(folder: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(f"\0{folder}")
        listener.settimeout(5)
        with closing(Notifier({"NOTIFY_SOCKET": f"@{folder}"})) as notifier:
            notifier.alive()
            assert told(listener) == ["WATCHDOG=1"]


def test_the_same_is_not_told_again_and_again(systemd: socket.socket) -> None:
    """A status never; a stage, for it asks for more time, once a second."""
    now = 100.0
    address = {"NOTIFY_SOCKET": str(systemd.getsockname())}
    with closing(Notifier(address, lambda: now)) as notifier:
        for _ in range(6):
            notifier.starting("loading")
            now += REPEAT_S * 0.4
        for _ in range(3):
            notifier.status("ready")
            now += REPEAT_S
        notifier.alive()
        heard = []
        while "WATCHDOG=1" not in (one := told(systemd)):
            heard.append(one[0])
    assert heard == ["STATUS=loading", "STATUS=loading", "STATUS=ready"]


def test_a_line_break_in_a_status_is_no_message_of_its_own(systemd: socket.socket) -> None:
    with closing(Notifier({"NOTIFY_SOCKET": str(systemd.getsockname())})) as notifier:
        notifier.status("engine lost: bad file\nREADY=1")
        assert told(systemd) == ["STATUS=engine lost: bad file READY=1"]


def test_without_systemd_nothing_is_said() -> None:
    with closing(Notifier({})) as notifier:
        notifier.ready("ready")
        notifier.stopping("draining")


def test_a_notification_socket_that_is_gone_is_no_reason_to_end(folder: Path) -> None:
    with closing(Notifier({"NOTIFY_SOCKET": str(folder / "gone")})) as notifier:
        notifier.ready("ready")
