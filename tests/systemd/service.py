"""The service under test: asked over its socket, and looked at from outside."""

from __future__ import annotations

import time
from typing import Any

from qwend.client import Client, RequestFailed
from tests.systemd.machine import DEADLINE_S, Machine
from tests.systemd.qwend_disk import QUESTION, SOCKET


def start(machine: Machine) -> None:
    machine.systemctl("start", "qwend")


def connect(machine: Machine) -> Client:
    """As root of this machine; the kernel finds the socket through the other's root."""
    return Client(machine.path(SOCKET), timeout_s=DEADLINE_S)


def ask(client: Client) -> str:
    """The guide's answer. Raises: RequestFailed, ConnectionLost."""
    answer = client.chat(QUESTION, temperature=0)
    answer.wait()
    return answer.text


def ask_until_answered(client: Client) -> str:
    """As a program does that was told to send its request again. Raises: ConnectionLost."""
    end = time.monotonic() + DEADLINE_S
    while True:
        try:
            return ask(client)
        except RequestFailed:
            if time.monotonic() > end:
                raise
            time.sleep(0.01)


def status(machine: Machine) -> dict[str, Any]:
    with connect(machine) as client:
        return dict(client.status())


def main_pid(machine: Machine) -> str:
    """The front's, as its own machine counts."""
    return machine.property("qwend", "MainPID")


def engine_pid(machine: Machine) -> str:
    return str(status(machine)["engine"]["pid"])


def restarts(machine: Machine) -> int:
    """How often systemd has started it again by itself."""
    return int(machine.property("qwend", "NRestarts"))
