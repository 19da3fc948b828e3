"""Another model, and none, in the service as it is installed, under its hardening."""

from __future__ import annotations

import pytest

from tests.systemd import service
from tests.systemd.conftest import Boot

pytestmark = pytest.mark.llama

OTHER = "/var/lib/qwend/models/other.gguf"


def test_another_model_answers_over_the_same_connection(boot: Boot) -> None:
    """1. A copy of the guide under another name. 2. It is loaded, by its name, and answers. 3. It
    is let go of, and comes back for the next question. 4. A restart has the configured one."""
    machine = boot()
    service.start(machine)
    guide = service.status(machine)["model"]["path"]
    machine.run("install", "-D", "-o", "qwend", "-m", "0644", guide, OTHER)
    with service.connect(machine) as client:
        before = service.ask(client)
        client.load("other")
        status = service.status(machine)
        assert status["model"]["path"] == OTHER
        assert status["model"]["warm"]
        assert status["degraded"] == []
        assert service.ask(client) == before
        client.unload()
        assert service.status(machine)["engine"]["state"] == "unloaded"
        assert service.ask(client) == before
        machine.systemctl("restart", "qwend.service")
        assert service.ask_until_answered(client) == before
    assert service.status(machine)["model"]["name"] == "guide"
