"""`qwenctl logs`: whose lines journalctl is asked for, and where a log is that is in no journal."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from qwend.cli import logs
from qwend.cli.logs import Journal, arguments, elsewhere, journal_of
from qwend.cli.main import run
from qwend.host.root import HostRoot
from tests.cli.qwenctl import qwenctl
from tests.support.daemon import RunningDaemon

PID = 123
SYSTEM = Journal(("-u", "qwend"))
OWN = Journal(("--user", "-u", "qwend"))


def machine(
    tmp_path: Path, *, group: str = "", stderr: str = "pipe:[7]", units: tuple[str, ...] = ()
) -> HostRoot:
    process = tmp_path / f"proc/{PID}"
    (process / "fd").mkdir(parents=True)
    (process / "cgroup").write_text(f"0::{group}\n")
    (process / "fd/2").symlink_to(stderr)
    for unit in units:
        place = tmp_path / unit.lstrip("/")
        place.mkdir(parents=True)
        (place / "qwend.service").touch()
    return HostRoot(tmp_path)


@pytest.mark.parametrize(
    ("group", "stderr", "journal"),
    [
        ("/qwend.slice/qwend.service", "socket:[1]", SYSTEM),
        (
            "/user.slice/user-1000.slice/user@1000.service/app.slice/qwend.service",
            "socket:[1]",
            OWN,
        ),
        ("/system.slice/run-u7.service", "socket:[1]", Journal((f"_PID={PID}",))),
        ("/user.slice/user-1000.slice/session-2.scope", "/dev/pts/3", None),
        ("/", "pipe:[7]", None),
        # A container's control group may have any name.
        ("/docker/123", "socket:[9]", None),
    ],
)
def test_a_daemon_that_systemd_runs_logs_to_the_journal_of_its_unit(
    tmp_path: Path, group: str, stderr: str, journal: Journal | None
) -> None:
    assert journal_of(machine(tmp_path, group=group, stderr=stderr), PID, Path("/home/u")) == (
        journal
    )


@pytest.mark.parametrize(
    ("units", "journal"),
    [
        (("/etc/systemd/system",), SYSTEM),
        (("/usr/lib/systemd/system",), SYSTEM),
        (("/home/u/.config/systemd/user",), OWN),
        (("/etc/systemd/system", "/home/u/.config/systemd/user"), SYSTEM),
        ((), None),
    ],
)
def test_without_a_daemon_it_is_the_journal_of_the_service_that_is_installed(
    tmp_path: Path, units: tuple[str, ...], journal: Journal | None
) -> None:
    assert journal_of(machine(tmp_path, units=units), 0, Path("/home/u")) == journal


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ({}, "journalctl -u qwend -n 50"),
        ({"follow": True}, "journalctl -u qwend -n 50 -f"),
        ({"lines": 7}, "journalctl -u qwend -n 7"),
        ({"options": ("--since", "-1h")}, "journalctl -u qwend --since -1h"),
        ({"lines": 9, "options": ("-p", "err")}, "journalctl -u qwend -n 9 -p err"),
    ],
)
def test_the_options_go_to_journalctl(given: dict[str, object], line: str) -> None:
    options: dict[str, object] = {"follow": False, "lines": None, "options": (), **given}
    assert " ".join(arguments(SYSTEM, **options)) == line  # type: ignore[arg-type]


def test_the_command_becomes_journalctl(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    daemon: RunningDaemon,
) -> None:
    ran: list[list[str]] = []

    def execvp(program: str, command_line: list[str]) -> None:
        ran.append(command_line)
        raise SystemExit(0)

    pid = daemon.status()["pid"]
    (tmp_path / f"proc/{pid}").mkdir(parents=True)
    (tmp_path / f"proc/{pid}/cgroup").write_text("0::/qwend.slice/qwend.service\n")
    monkeypatch.setattr(logs, "HostRoot", lambda: HostRoot(tmp_path))
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(os, "execvp", execvp)
    with pytest.raises(SystemExit):
        run(["--socket", str(daemon.socket), "logs", "-f", "-n", "7", "-p", "warning"])
    assert ran == [["journalctl", "-u", "qwend", "-n", "7", "-f", "-p", "warning"]]


def test_where_there_is_no_journalctl_it_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root = machine(tmp_path, units=("/etc/systemd/system",))
    monkeypatch.setattr(logs, "HostRoot", lambda: root)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setattr(logs, "SYSTEM_SOCKET", tmp_path / "s")
    assert run(["--socket", str(tmp_path / "s"), "logs"]) == 1
    assert "there is no journalctl" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("stderr", "said"),
    [
        ("/home/u/qwend.log", "tail -n 50 -f /home/u/qwend.log"),
        ("/dev/pts/3", "on the terminal /dev/pts/3"),
        ("/dev/null", "goes nowhere"),
        ("pipe:[7]", "whoever started it reads its log"),
    ],
)
def test_without_systemd_it_says_where_the_log_goes(tmp_path: Path, stderr: str, said: str) -> None:
    text = "\n".join(elsewhere(machine(tmp_path, stderr=stderr), PID, Path("/s")))
    assert said in text
    assert ("qwend serve 2>>" in text) == (stderr != "/home/u/qwend.log")


def test_of_another_users_daemon_it_says_who_can_see_it(tmp_path: Path) -> None:
    text = "\n".join(elsewhere(HostRoot(tmp_path), PID, Path("/s")))
    assert "sudo qwenctl logs" in text


def test_of_a_daemon_started_by_hand_it_names_the_file(daemon: RunningDaemon) -> None:
    done = qwenctl("logs", socket=daemon.socket, env=daemon.env)
    assert done.returncode == 0, done.stderr
    assert f"tail -n 50 -f {daemon.home / 'log'}" in done.stdout


def test_without_a_daemon_at_a_socket_of_its_own_it_says_how_to_start_one(tmp_path: Path) -> None:
    done = qwenctl("logs", socket=tmp_path / "nobody")
    assert done.returncode == 3
    assert "No daemon answers on" in done.stdout
    assert "qwend serve 2>>qwend.log" in done.stdout
