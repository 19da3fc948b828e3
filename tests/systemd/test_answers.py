"""`systemctl start qwend`, and what the people of the machine then get. Every unit as shipped."""

from __future__ import annotations

import time

import pytest

from qwend.client import Client
from tests.systemd.machine import Machine
from tests.systemd.qwend_disk import MEMBER, OUTSIDER, QUESTION, QWENCTL, SOCKET

pytestmark = pytest.mark.llama


def test_a_prompt_is_answered_as_soon_as_start_returns(qwend: Machine) -> None:
    begin = time.monotonic()
    qwend.systemctl("start", "qwend")
    started = time.monotonic()
    with Client(qwend.path(SOCKET)) as client:
        answer = client.chat(QUESTION)
        answer.wait()
    print(f"start {started - begin:.2f} s, first answer {time.monotonic() - started:.2f} s later")
    assert "qwend" in answer.text


def test_a_member_of_the_group_is_answered(qwend: Machine) -> None:
    qwend.systemctl("start", "qwend")
    asked = qwend.run(QWENCTL, "ask", QUESTION, user=MEMBER)
    assert "qwend" in asked.stdout


def test_who_is_not_in_the_group_is_told_how_to_get_in(qwend: Machine) -> None:
    qwend.systemctl("start", "qwend")
    asked = qwend.run(QWENCTL, "ask", QUESTION, user=OUTSIDER, check=False)
    assert asked.returncode == 4
    assert "sudo usermod -aG qwend" in asked.stderr
    connect = f"import socket; socket.socket(socket.AF_UNIX).connect({SOCKET!r})"
    plain = qwend.run("/usr/bin/python3", "-c", connect, user=OUTSIDER, check=False)
    assert "PermissionError: [Errno 13]" in plain.stderr


def test_who_comes_first_starts_the_service(qwend: Machine) -> None:
    assert qwend.property("qwend", "ActiveState") == "inactive"
    asked = qwend.run(QWENCTL, "ask", QUESTION, user=MEMBER)
    assert "qwend" in asked.stdout
    assert qwend.property("qwend", "ActiveState") == "active"


def test_qwenctl_logs_shows_the_journal_and_its_levels(qwend: Machine) -> None:
    """1. Start, and kill the engine once. 2. `qwenctl logs` has both, with `-p warning` the death
    alone. 3. So has it when the daemon is down."""
    qwend.systemctl("start", "qwend")
    with Client(qwend.path(SOCKET)) as client:
        engine = client.status()["engine"]
    assert isinstance(engine, dict)
    qwend.run("/bin/kill", "-KILL", str(engine["pid"]))
    qwend.wait_until(lambda: "engine lost" in qwend.run(QWENCTL, "logs").stdout, "it is logged")
    assert "ready: guide" in qwend.run(QWENCTL, "logs", "-n", "100").stdout
    warnings = qwend.run(QWENCTL, "logs", "-p", "warning").stdout
    assert "engine lost" in warnings
    assert "ready: guide" not in warnings
    qwend.systemctl("stop", "qwend.socket", "qwend")
    assert "engine lost" in qwend.run(QWENCTL, "logs").stdout
