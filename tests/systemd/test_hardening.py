"""Everything works with every line of the units' hardening in force."""

from __future__ import annotations

import json

import pytest

from tests.systemd import service
from tests.systemd.machine import Machine
from tests.systemd.qwend_disk import MEMBER, QWENCTL

pytestmark = pytest.mark.llama

# Longer than what is too short to be kept.
LONG = "Tell me about qwend. " * 20


def cached_tokens(machine: Machine) -> int:
    with service.connect(machine) as client:
        return client.chat(LONG, max_tokens=4, temperature=0).wait().usage.cached_tokens


def test_the_copy_in_memory_is_the_users_alone_and_survives_a_stop(qwend: Machine) -> None:
    service.start(qwend)
    model = service.status(qwend)["model"]
    assert model["warm"]
    found = qwend.run("find", "/run/qwend/model", "-printf", "%u %m %f\n").stdout
    assert "qwend 700 model" in found
    (copy,) = (line for line in found.splitlines() if line.endswith(".gguf"))
    assert copy.startswith("qwend 400 ")
    qwend.systemctl("stop", "qwend")
    service.start(qwend)
    assert copy in qwend.run("find", "/run/qwend/model", "-printf", "%u %m %f\n").stdout


@pytest.mark.row("G4")
def test_nothing_is_refused(qwend: Machine) -> None:
    service.start(qwend)
    service.status(qwend)
    said = qwend.journal("-u", "qwend.service")
    assert service.status(qwend)["degraded"] == []
    for word in ("not permitted", "denied", "Read-only", "degraded", "refused", "Traceback"):
        assert word not in said


def test_what_was_read_is_on_disk_over_a_restart(qwend: Machine) -> None:
    service.start(qwend)
    cached_tokens(qwend)
    qwend.systemctl("restart", "qwend")
    assert service.status(qwend)["engine"]["disk_bytes"] > 0
    assert cached_tokens(qwend) > 50


def test_the_doctor_finds_the_service_as_the_units_make_it(qwend: Machine) -> None:
    service.start(qwend)
    seen = qwend.run(QWENCTL, "doctor", "--json", user=MEMBER)
    levels = {found["name"]: found["level"] for found in json.loads(seen.stdout)["findings"]}
    expected = ("daemon", "access", "model", "systemd", "weight")
    assert {name: levels.get(name) for name in expected} == dict.fromkeys(expected, "ok")
