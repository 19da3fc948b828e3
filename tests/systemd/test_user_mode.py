"""The unit for one user, under that user's own systemd."""

from __future__ import annotations

import shutil

import pytest

from qwend.client import Client
from tests.systemd import service
from tests.systemd.machine import Machine
from tests.systemd.qwend_disk import OWNER, OWNER_HOME, QUESTION, QWENCTL

pytestmark = [
    pytest.mark.llama,
    pytest.mark.skipif(shutil.which("dbus-daemon") is None, reason="logind needs a dbus-daemon"),
]


class Session:
    """The owner's: commands run in it find the owner's systemd and the owner's daemon."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        uid = machine.run("id", "-u", OWNER).stdout.strip()
        self.runtime = f"/run/user/{uid}"
        machine.run("install", "-d", f"--owner={OWNER}", f"--group={OWNER}", OWNER_HOME)
        machine.systemctl("start", f"user@{uid}.service")

    def run(self, *words: str) -> str:
        environ = ("env", f"XDG_RUNTIME_DIR={self.runtime}", f"HOME={OWNER_HOME}")
        return self.machine.run(*environ, *words, user=OWNER).stdout

    def systemctl(self, *words: str) -> str:
        return self.run("systemctl", "--user", *words).strip()


def test_the_users_own_daemon_answers_and_its_clients_survive_it(qwend: Machine) -> None:
    session = Session(qwend)
    session.systemctl("start", "qwend")
    assert "qwend" in session.run(QWENCTL, "ask", QUESTION)
    with Client(qwend.path(f"{session.runtime}/qwend/qwend.sock")) as idle:
        before = service.ask(idle)
        session.systemctl("kill", "--signal=KILL", "qwend")
        assert service.ask_until_answered(idle) == before
    assert session.systemctl("show", "--value", "--property=NRestarts", "qwend") == "1"
