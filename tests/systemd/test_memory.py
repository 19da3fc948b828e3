"""The weights in the memory of a real service: on the unit's own mount, under its limits."""

from __future__ import annotations

import pytest

from tests.systemd import service
from tests.systemd.conftest import Boot
from tests.systemd.machine import Machine

pytestmark = pytest.mark.llama


def set_to(**settings: str) -> str:
    lines = (
        f"Environment=QWEND_MODEL_{name.upper()}={value}\n" for name, value in settings.items()
    )
    return "[Service]\n" + "".join(lines)


def copies(machine: Machine) -> list[str]:
    return machine.run("find", "/run/qwend/model", "-name", "*.gguf").stdout.split()


def test_the_weights_are_locked_without_a_privilege(boot: Boot) -> None:
    machine = boot(service=set_to(lock="on"))
    service.start(machine)
    status = service.status(machine)
    assert status["engine"]["memory"]["lock_refused"] == ""
    assert status["engine"]["memory"]["locked_bytes"] > 2 << 20
    assert status["degraded"] == []


def test_a_dropped_copy_is_not_missed_when_the_engine_dies(boot: Boot) -> None:
    machine = boot(service=set_to(memory="drop"))
    service.start(machine)
    model = service.status(machine)["model"]
    assert (model["memory"]["policy"], model["warm"]) == ("drop", False)
    assert copies(machine) == []
    with service.connect(machine) as client:
        before = service.ask(client)
        machine.run("kill", "-KILL", service.engine_pid(machine))
        assert service.ask_until_answered(client) == before
    assert service.restarts(machine) == 0


def test_a_copy_that_root_spoils_is_made_again(boot: Boot) -> None:
    """1. It answers. 2. The copy is cut short, and the engine dies of it. 3. The daemon makes the
    copy again, in the same place and for the same clients."""
    machine = boot(service=set_to(memory="no-repack"))
    service.start(machine)
    with service.connect(machine) as client:
        before = service.ask(client)
        (copy,) = copies(machine)
        machine.run("truncate", "-s", "4096", copy)
        assert service.ask_until_answered(client) == before
    assert copies(machine) == [copy]
    status = service.status(machine)
    assert (status["model"]["warm"], status["degraded"]) == (True, [])
    assert "the warm copy of the model was damaged" in machine.journal("-u", "qwend.service")
    assert service.restarts(machine) == 0


def test_a_stop_gives_the_memory_back_where_that_is_wanted(boot: Boot) -> None:
    machine = boot(service=set_to(free_on_stop="true"))
    service.start(machine)
    assert len(copies(machine)) == 1
    machine.systemctl("stop", "qwend")
    assert copies(machine) == []
