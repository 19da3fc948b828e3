"""What systemd is told, over a real notification socket."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from qwend.daemon.notify import EXTEND_USEC, Notifier


@pytest.fixture
def systemd(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    path = str(folder / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(path)
        listener.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", path)
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


def test_a_line_break_in_a_status_is_no_message_of_its_own(systemd: socket.socket) -> None:
    with closing(Notifier({"NOTIFY_SOCKET": str(systemd.getsockname())})) as notifier:
        notifier.status("engine lost: bad file\nREADY=1")
        assert told(systemd) == ["STATUS=engine lost: bad file READY=1"]


def test_without_systemd_nothing_is_said() -> None:
    with closing(Notifier({})) as notifier:
        notifier.ready("ready")
        notifier.stopping("draining")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # sdnotify's own
def test_a_notification_socket_that_is_gone_is_no_reason_to_end(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = str(folder / "gone")
    monkeypatch.setenv("NOTIFY_SOCKET", path)
    with closing(Notifier({"NOTIFY_SOCKET": path})) as notifier:
        notifier.ready("ready")
