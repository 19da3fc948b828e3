from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from qwend.cli.exits import Exit, exit_for
from qwend.client import ConnectionLost, DaemonUnreachable, PermissionDenied, RequestFailed
from qwend.errors import ConfigError, QwendError
from tests.cli.qwenctl import QWENCTL, qwenctl
from tests.support.daemon import RunningDaemon

NOBODY = 65534
OTHER_GROUP = 1  # "daemon" on Debian; never root's, which nobody should be told to join


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (RequestFailed("busy", "full", 1.0), 1),
        (ConnectionLost("gone"), 1),
        (ConfigError("wrong"), 2),
        (DaemonUnreachable(Path("/s"), "start it"), 3),
        (PermissionDenied(Path("/s"), "join the group"), 4),
        (RequestFailed("forbidden", "not yours"), 4),
    ],
)
def test_every_error_has_its_exit_code(error: QwendError, code: int) -> None:
    assert exit_for(error) == Exit(code)


@pytest.mark.parametrize("command", [("status",), ("ping",), ("ask", "x"), ("chat",)])
def test_an_absent_daemon_is_one_sentence_that_helps(
    command: tuple[str, ...], tmp_path: Path
) -> None:
    missing = tmp_path / "no.sock"

    done = qwenctl(*command, socket=missing)

    assert done.returncode == Exit.UNREACHABLE
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    for word in (str(missing), "systemctl start qwend", "qwend serve", "scripts/quickstart"):
        assert word in done.stderr


def test_version_says_its_own_even_without_a_daemon(tmp_path: Path) -> None:
    done = qwenctl("version", socket=tmp_path / "no.sock")

    assert done.stdout.startswith("qwenctl 0.")
    assert done.returncode == Exit.UNREACHABLE


@pytest.fixture
def closed_socket(daemon: RunningDaemon) -> Iterator[Path]:
    """The path of a daemon's socket as a user sees it who may not use it."""
    with tempfile.TemporaryDirectory(prefix="qw") as folder:
        os.chmod(folder, 0o755)
        path = Path(folder) / "s"
        os.link(daemon.socket, path)
        before = path.stat()
        path.chmod(0o660)
        os.chown(path, -1, OTHER_GROUP)
        yield path
        os.chown(path, -1, before.st_gid)
        path.chmod(before.st_mode)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")
def test_a_socket_without_permission_says_which_group_to_join(closed_socket: Path) -> None:
    # Everything is imported before the user changes: root's Python may be closed to others.
    code = (
        "import os, sys, qwend.cli.ping; from qwend.cli.main import run;"
        f"os.setgroups([]); os.setgid({NOBODY}); os.setuid({NOBODY}); sys.exit(run(sys.argv[1:]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "--socket", str(closed_socket), "ping"],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == Exit.REFUSED
    assert "sudo usermod -aG" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_socket_path_too_long_for_the_kernel_is_a_usage_error() -> None:
    done = qwenctl("ping", socket="/tmp/" + "x" * 200)

    assert done.returncode == Exit.USAGE
    assert "107" in done.stderr


def test_socket_is_accepted_behind_the_command_too(daemon: RunningDaemon, tmp_path: Path) -> None:
    done = qwenctl("ping", "--socket", str(daemon.socket), socket=tmp_path / "other")

    assert done.returncode == Exit.DONE


def test_the_environment_names_the_socket(daemon: RunningDaemon) -> None:
    done = subprocess.run(
        [*QWENCTL, "ping"],
        env={**daemon.env, "QWEND_SOCKET": str(daemon.socket)},
        check=False,
        capture_output=True,
    )

    assert done.returncode == Exit.DONE
