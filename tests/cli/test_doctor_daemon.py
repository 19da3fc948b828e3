"""What the doctor says of the daemon and of who may use it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from qwend.cli.doctor.daemon import check_access, check_daemon, check_version
from qwend.cli.doctor.finding import Finding, Level
from tests.cli.doctor_scene import READY, scene, status

UNIT = {"/etc/systemd/system/qwend.service": ""}
GONE: dict[str, Any] = {
    "trouble": "unreachable",
    "said": "no daemon at /run/qwend/qwend.sock: nobody listens there any more; start it with ...",
}
FORBIDDEN: dict[str, Any] = {"trouble": "forbidden", "said": "may not use it: ask the operator"}


def only(findings: Any) -> Finding:
    (finding,) = findings
    assert isinstance(finding, Finding)
    return finding


def test_a_ready_daemon_is_one_good_line(tmp_path: Path) -> None:
    found = only(check_daemon(scene(tmp_path, status=READY)))

    assert (found.level, found.what) == (Level.OK, "ready: qwen, 51.3 tokens/s")


def test_each_reason_to_be_degraded_is_a_warning(tmp_path: Path) -> None:
    told = status(state="degraded", degraded=["running from disk", "too hot"])
    daemon, *reasons = check_daemon(scene(tmp_path, status=told))

    assert daemon.level is Level.OK
    assert [(each.level, each.what) for each in reasons] == [
        (Level.WARN, "running from disk"),
        (Level.WARN, "too hot"),
    ]


def test_a_failed_daemon_is_wrong_and_its_log_is_named(tmp_path: Path) -> None:
    found = only(check_daemon(scene(tmp_path, status=status(state="failed", stage="no model"))))

    assert found.level is Level.WRONG
    assert found.what == "failed: no model"
    assert found.mend == "sudo journalctl -u qwend -n 30"


def test_a_daemon_that_comes_up_is_no_fault(tmp_path: Path) -> None:
    found = only(check_daemon(scene(tmp_path, status=status(state="warming", stage="30 %"))))

    assert (found.level, found.what) == (Level.NOTE, "warming: 30 %")


def test_a_machine_without_the_service_is_told_to_install_it(tmp_path: Path) -> None:
    found = only(check_daemon(scene(tmp_path, **GONE)))

    assert found.level is Level.WRONG
    assert "scripts/install" in found.mend


def test_a_service_that_is_down_is_to_be_started(tmp_path: Path) -> None:
    found = only(check_daemon(scene(tmp_path, UNIT, **GONE)))

    assert found.why == "Nobody listens there any more."
    assert found.mend.startswith("sudo systemctl start qwend\n")
    mine = scene(tmp_path, UNIT, socket=Path("/run/user/1000/qwend/qwend.sock"), **GONE)
    assert only(check_daemon(mine)).mend.startswith("systemctl --user start qwend\n")


def test_a_daemon_that_is_silent_may_be_starting(tmp_path: Path) -> None:
    found = only(check_daemon(scene(tmp_path, UNIT, trouble="silent", said="no answer")))

    assert found.level is Level.WRONG
    assert "being started" in found.why
    assert found.mend.startswith("sudo systemctl status qwend\n")


@pytest.mark.parametrize(
    ("by", "mend"), [("--socket", "leave out --socket"), ("QWEND_SOCKET", "unset QWEND_SOCKET")]
)
def test_a_wrong_socket_is_told_by_whom_it_was_named(tmp_path: Path, by: str, mend: str) -> None:
    files = {**UNIT, "/run/qwend/qwend.sock": ""}
    found = only(check_daemon(scene(tmp_path, files, socket=Path("/x.sock"), named_by=by, **GONE)))

    assert found.level is Level.WRONG
    assert by in found.why
    assert found.mend == mend


def test_who_is_not_in_the_group_gets_the_command(tmp_path: Path) -> None:
    groups = {"/etc/group": "root:x:0:\nqwend:x:990:bob\n"}
    stranger = scene(tmp_path, groups, socket_gid=990, **FORBIDDEN)

    found = only(check_access(stranger))

    assert found.level is Level.WRONG
    assert found.mend == "sudo usermod -aG qwend ada\nlog in again"
    # One thing is wrong, and it is told once.
    assert only(check_daemon(stranger)).level is Level.NOTE


def test_who_joined_the_group_after_the_login_is_told_so(tmp_path: Path) -> None:
    groups = {"/etc/group": "qwend:x:990:bob,ada\n"}

    found = only(check_access(scene(tmp_path, groups, socket_gid=990, **FORBIDDEN)))

    assert found.mend == "log in again, or in this terminal: newgrp qwend"


def test_nobody_is_sent_into_the_group_of_root(tmp_path: Path) -> None:
    groups = {"/etc/group": "root:x:0:\n"}

    found = only(check_access(scene(tmp_path, groups, socket_gid=0, **FORBIDDEN)))

    assert found.level is Level.WRONG
    assert found.mend == ""
    assert found.why == FORBIDDEN["said"]


def test_who_may_use_it_is_told_as_whom(tmp_path: Path) -> None:
    groups = {"/etc/group": "qwend:x:990:ada\n"}

    found = only(check_access(scene(tmp_path, groups, socket_gid=990, status=READY)))

    assert (found.level, found.what) == (Level.OK, "as ada, in the group qwend")
    assert not list(check_access(scene(tmp_path, groups, euid=0, user="root", status=READY)))


def test_a_daemon_that_was_not_restarted_after_an_upgrade(tmp_path: Path) -> None:
    found = only(check_version(scene(tmp_path, status=READY, qwend="0.2.0")))

    assert found.level is Level.WARN
    assert found.what == "the daemon is 0.1.0, qwenctl 0.2.0"
    assert found.mend == "sudo systemctl restart qwend"
    assert not list(check_version(scene(tmp_path, status=READY)))
    assert not list(check_version(scene(tmp_path)))
