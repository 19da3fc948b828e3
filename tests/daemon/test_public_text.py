"""Errors to clients name no directory of the daemon's, but to those who administer it."""

from __future__ import annotations

import errno
from collections.abc import Iterator

import pytest

from qwend.daemon.public_text import OF_THE_MACHINE, for_client, without_directories
from qwend.wire.codes import ErrorCode
from qwend.wire.notices import Error
from tests.daemon.as_user import NOBODY, as_root, as_user
from tests.support.daemon import RunningDaemon, frame, running_daemon


@pytest.mark.row("D7")
@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("the disk of /var/lib/qwend/sessions.db is full: f", "the disk of sessions.db is full: f"),
        (
            "copying /home/jo/a.gguf to /run/qwend/model: 20 MiB/s",
            "copying a.gguf to model: 20 MiB/s",
        ),
        ("[Errno 2] No such file: '/home/jo doe/x y.gguf'", "[Errno 2] No such file: x y.gguf"),
        ('cannot read "/srv/secret/m.gguf"', "cannot read m.gguf"),
        ("open (/etc/qwend/qwend.toml); /proc/self/fd/9.", "open (qwend.toml); 9."),
        ("in /srv/models/, or /", "in , or "),
        ("3 tokens/s, and/or 1/2, </think>", "3 tokens/s, and/or 1/2, </think>"),
        ("killed by SIGKILL; send it again", "killed by SIGKILL; send it again"),
    ],
)
def test_of_a_path_the_last_part_is_left(text: str, shown: str) -> None:
    assert without_directories(text) == shown


@pytest.mark.parametrize("code", ErrorCode)
def test_only_errors_of_the_machine_are_changed_and_only_for_others(code: ErrorCode) -> None:
    error = Error(code, "see /etc/qwend/qwend.toml", id=3)
    assert for_client(error, administers=True) is error
    shown = for_client(error, administers=False)
    assert ("/etc" not in shown.message) == (code in OF_THE_MACHINE)
    assert (shown.code, shown.id) == (code, 3)


@pytest.fixture(scope="module")
def broken() -> Iterator[RunningDaemon]:
    """A daemon whose sessions lie on a disk that takes nothing."""
    with running_daemon(
        QWEND_FAIL="conversation.commit:error(EIO)", QWEND_SOCKET_MODE='"0666"'
    ) as daemon:
        daemon.home.chmod(0o755)
        (daemon.home / "run").chmod(0o755)
        yield daemon


def refusal(messages: list[dict[str, object]]) -> str:
    (error,) = (one for one in messages if one["op"] == "error")
    assert error["code"] == "storage_error"
    return str(error["message"])


HELLO = frame({"op": "hello", "protocol": "qwend/1"})
ASK = {
    "op": "chat",
    "id": 1,
    "session": "a",
    "messages": [{"role": "user", "content": "hello"}],
    "max_tokens": 3,
}


@as_root
@pytest.mark.row("D7")
def test_another_user_is_not_told_where_the_daemon_keeps_its_sessions(
    broken: RunningDaemon,
) -> None:
    with broken.raw() as own:
        own.send(ASK)
        assert str(broken.home) in refusal(own.read_until("error"))
    with as_user(NOBODY).connected(str(broken.socket)) as connection, broken.raw() as raw:
        raw.socket.close()
        raw.socket = connection.dup()
        raw.send_bytes(HELLO)
        raw.read_until("welcome")
        raw.send(ASK)
        told = refusal(raw.read_until("error"))
    assert str(broken.home) not in told
    assert " sessions.db:" in told
    assert f"[Errno {errno.EIO}]" in told
