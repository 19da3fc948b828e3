"""Whose the socket is, what is done with one that is there already, and who may connect to it."""

from __future__ import annotations

import grp
import json
import os
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import pytest

from qwend.daemon.listener import SocketPath, systemd_listener
from qwend.errors import ConfigError, HostError, QwendError
from tests.support.daemon import wait_until

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")

CLAIM_AND_DIE = """
import os, sys
from pathlib import Path
from qwend.daemon.listener import SocketPath
claimed = SocketPath.claim(Path(sys.argv[1]))
listener = claimed.listen(mode=0o660, group="")
os.kill(os.getpid(), 9)
"""


@contextmanager
def claimed(path: Path) -> Iterator[SocketPath]:
    with closing(SocketPath.claim(path)) as one:
        yield one


@contextmanager
def umask(mask: int) -> Iterator[None]:
    old = os.umask(mask)
    try:
        yield
    finally:
        os.umask(old)


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def leave_behind(path: Path) -> None:
    """A socket file and a lock file of a process that was killed."""
    subprocess.run([sys.executable, "-c", CLAIM_AND_DIE, str(path)], check=False)
    assert path.is_socket()


def test_a_claimed_path_can_be_connected_to_and_leaves_nothing_behind(socket_path: Path) -> None:
    with claimed(socket_path) as one, one.listen(mode=0o660, group="") as listener:
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(socket_path))
        listener.accept()[0].close()
        assert not listener.getblocking()
    assert list(socket_path.parent.iterdir()) == []


@pytest.mark.row("C6")
def test_a_path_is_claimed_once(socket_path: Path) -> None:
    with claimed(socket_path), pytest.raises(ConfigError, match="already listening"):
        SocketPath.claim(socket_path)
    with claimed(socket_path):
        pass


def test_a_second_claim_leaves_the_first_one_listening(socket_path: Path) -> None:
    with claimed(socket_path) as one, one.listen(mode=0o660, group=""):
        with pytest.raises(ConfigError, match="already listening"):
            SocketPath.claim(socket_path)
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(socket_path))


@pytest.mark.row("C6")
def test_socket_and_lock_of_a_dead_process_are_cleared(socket_path: Path) -> None:
    leave_behind(socket_path)
    with (
        claimed(socket_path) as one,
        one.listen(mode=0o660, group=""),
        socket.socket(socket.AF_UNIX) as client,
    ):
        client.connect(str(socket_path))


@pytest.mark.row("C6")
def test_a_live_socket_of_somebody_else_is_never_removed(socket_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as somebody:
        somebody.bind(str(socket_path))
        somebody.listen()
        with pytest.raises(ConfigError, match="already listening"):
            SocketPath.claim(socket_path)
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(socket_path))
    assert [path.name for path in socket_path.parent.iterdir()] == [socket_path.name]


@pytest.mark.row("C6")
def test_a_live_socket_with_a_full_backlog_is_never_removed(socket_path: Path) -> None:
    with ExitStack() as clients:
        somebody = clients.enter_context(socket.socket(socket.AF_UNIX))
        somebody.bind(str(socket_path))
        somebody.listen(0)
        for _ in range(3):
            client = clients.enter_context(socket.socket(socket.AF_UNIX))
            client.setblocking(False)
            client.connect_ex(str(socket_path))
        with pytest.raises(QwendError):
            SocketPath.claim(socket_path)
        assert socket_path.is_socket()


@pytest.mark.parametrize("kind", ["file", "directory", "symlink"])
@pytest.mark.row("G3")
def test_what_is_not_a_socket_stays_and_is_named(socket_path: Path, kind: str) -> None:
    if kind == "file":
        socket_path.write_text("precious")
    elif kind == "directory":
        socket_path.mkdir()
    else:
        socket_path.symlink_to("elsewhere")
    with pytest.raises(ConfigError, match="not a socket") as caught:
        SocketPath.claim(socket_path)
    assert str(socket_path) in str(caught.value)
    assert [path.name for path in socket_path.parent.iterdir()] == [socket_path.name]


@pytest.mark.row("G3")
def test_a_lock_that_is_a_symlink_is_not_followed(socket_path: Path) -> None:
    target = socket_path.with_name("target")
    socket_path.with_name("s.lock").symlink_to(target)
    with pytest.raises(HostError):
        SocketPath.claim(socket_path)
    assert not target.exists()


def test_close_leaves_a_socket_that_is_not_ours_any_more(socket_path: Path) -> None:
    one = SocketPath.claim(socket_path)
    with one.listen(mode=0o660, group=""):
        socket_path.unlink()
        with socket.socket(socket.AF_UNIX) as another:
            another.bind(str(socket_path))
            one.close()
            assert socket_path.is_socket()


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077])
@pytest.mark.parametrize("mode", [0o660, 0o600, 0o666])
def test_the_mode_is_the_configured_one_whatever_the_umask(
    socket_path: Path, mask: int, mode: int
) -> None:
    with umask(mask), claimed(socket_path) as one, one.listen(mode=mode, group=""):
        assert mode_of(socket_path) == mode
        assert os.umask(mask) == mask, "listen must put the umask back"


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077])
def test_no_moment_is_looser_than_the_configured_mode(socket_path: Path, mask: int) -> None:
    """Sampled while it is made over and over: mode 000 before, the right one after."""
    seen: set[int] = set()
    over = threading.Event()

    def watch() -> None:
        while not over.is_set():
            try:
                seen.add(mode_of(socket_path))
            except FileNotFoundError:
                continue

    watcher = threading.Thread(target=watch)
    watcher.start()
    made = 0

    def made_and_seen() -> bool:
        # The watcher sees it only between two of its lives: make it until it was seen.
        nonlocal made
        with claimed(socket_path) as one, one.listen(mode=0o660, group=""):
            made += 1
        return made >= 200 and bool(seen)

    try:
        with umask(mask):
            wait_until(made_and_seen, "a sample was taken")
    finally:
        over.set()
        watcher.join()
    assert seen <= {0o000, 0o660}


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077])
def test_directories_that_are_missing_are_made_passable_and_ours_alone(
    folder: Path, mask: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is made with its mode: one that everybody could write to, even for a moment, would let
    another user put a lock or a socket of his own there."""
    made: list[int] = []
    mkdir = os.mkdir

    def watched(path: str, mode: int = 0o777, **options: int) -> None:
        mkdir(path, mode, **options)
        made.append(mode_of(Path(path)))

    monkeypatch.setattr(os, "mkdir", watched)
    path = folder / "a" / "b" / "s"
    with umask(mask), claimed(path):
        assert mode_of(path.parent) == 0o755
        assert mode_of(path.parent.parent) == 0o755
    assert len(made) == 2
    assert not any(mode & 0o022 for mode in made)


def test_a_directory_that_is_there_keeps_its_mode(folder: Path) -> None:
    private = folder / "private"
    private.mkdir(mode=0o700)
    with claimed(private / "s"):
        assert mode_of(private) == 0o700


@as_root
def test_the_group_is_the_configured_one(socket_path: Path) -> None:
    group = next(one for one in grp.getgrall() if one.gr_gid != os.getegid())
    with claimed(socket_path) as one, one.listen(mode=0o660, group=group.gr_name):
        assert socket_path.stat().st_gid == group.gr_gid


def test_an_unknown_group_is_named_with_the_command_that_makes_it(socket_path: Path) -> None:
    with (
        claimed(socket_path) as one,
        pytest.raises(ConfigError, match="groupadd --system no-such-group"),
    ):
        one.listen(mode=0o660, group="no-such-group")
    assert list(socket_path.parent.iterdir()) == []


def test_a_path_that_is_too_long_is_told_before_anything_is_made(folder: Path) -> None:
    path = folder / ("d" * 60) / ("s" * 60)
    with pytest.raises(ConfigError, match="107"):
        SocketPath.claim(path)
    assert list(folder.iterdir()) == []


def test_a_directory_that_is_a_file_is_named(folder: Path) -> None:
    (folder / "file").write_text("")
    with pytest.raises(HostError, match="file"):
        SocketPath.claim(folder / "file" / "s")


@as_root
def test_a_directory_that_may_not_be_written_to_is_named(folder: Path) -> None:
    claim = (
        "import sys; from pathlib import Path\n"
        "from qwend.daemon.listener import SocketPath\n"
        "from qwend.errors import HostError\n"
        "import os; os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "try: SocketPath.claim(Path(sys.argv[1]))\n"
        "except HostError as error: print(error)\n"
    )
    told = subprocess.run(
        [sys.executable, "-c", claim, str(folder / "s")], capture_output=True, text=True, check=True
    )
    assert str(folder) in told.stdout
    assert "Permission denied" in told.stdout


@as_root
@pytest.mark.parametrize(("mode", "allowed"), [(0o660, False), (0o666, True)])
def test_the_mode_decides_who_may_connect(socket_path: Path, mode: int, allowed: bool) -> None:
    connect = (
        "import os, socket, sys\n"
        "os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "print(socket.socket(socket.AF_UNIX).connect_ex(sys.argv[1]))\n"
    )
    with claimed(socket_path) as one, one.listen(mode=mode, group=""):
        told = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", connect, str(socket_path)],
            capture_output=True,
            text=True,
            check=True,
        )
    assert (int(told.stdout) == 0) == allowed


# --- systemd ----------------------------------------------------------------------------------

TAKE = """
import json, os, sys
from qwend.daemon.listener import systemd_listener
from qwend.errors import ConfigError
environ = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": sys.argv[1]}
try:
    listener = systemd_listener(environ, os.getpid())
except ConfigError as error:
    print(json.dumps({"error": str(error)}))
else:
    print(json.dumps(None if listener is None else {
        "name": listener.getsockname(),
        "inheritable": os.get_inheritable(listener.fileno()),
        "blocking": listener.getblocking(),
    }))
"""


def handed_over(fd: int, count: str = "1") -> dict[str, object]:
    """What `systemd_listener` makes of this descriptor, as number 3 of a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", f"import os; os.dup2({fd}, 3)\n{TAKE}", count],
        pass_fds=(fd,),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    result: dict[str, object] = json.loads(done.stdout)
    return result


def test_the_socket_from_systemd_is_used(socket_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(socket_path))
        listener.listen()
        taken = handed_over(listener.fileno())
    assert taken == {"name": str(socket_path), "inheritable": False, "blocking": False}


@pytest.mark.parametrize("environ", [{}, {"LISTEN_PID": "1", "LISTEN_FDS": "1"}])
def test_descriptors_for_another_process_are_left_alone(environ: dict[str, str]) -> None:
    assert systemd_listener(environ, os.getpid()) is None


def test_no_descriptor_is_no_socket() -> None:
    pid = os.getpid()
    assert systemd_listener({"LISTEN_PID": str(pid), "LISTEN_FDS": "0"}, pid) is None


def test_two_sockets_are_too_many() -> None:
    pid = os.getpid()
    with pytest.raises(ConfigError, match="2 sockets"):
        systemd_listener({"LISTEN_PID": str(pid), "LISTEN_FDS": "2"}, pid)


@pytest.mark.parametrize("kind", ["datagram", "not listening", "internet", "pipe"])
def test_what_is_no_listening_stream_socket_is_refused_in_words(
    socket_path: Path, kind: str
) -> None:
    with ExitStack() as undo:
        if kind == "pipe":
            reading, writing = os.pipe()
            undo.callback(os.close, reading)
            undo.callback(os.close, writing)
            fd = reading
        else:
            family = socket.AF_INET if kind == "internet" else socket.AF_UNIX
            of_type = socket.SOCK_DGRAM if kind == "datagram" else socket.SOCK_STREAM
            fd = undo.enter_context(socket.socket(family, of_type)).fileno()
        told = handed_over(fd)
    assert "ListenStream" in str(told.get("error"))


def test_a_count_that_is_no_number_is_refused_in_words() -> None:
    pid = os.getpid()
    with pytest.raises(ConfigError, match="LISTEN_FDS"):
        systemd_listener({"LISTEN_PID": str(pid), "LISTEN_FDS": "one"}, pid)
