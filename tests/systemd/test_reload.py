"""`systemctl reload qwend`: what can be changed without a restart is, and nobody is sent away."""

from __future__ import annotations

import pytest

from tests.systemd import service
from tests.systemd.machine import Machine
from tests.systemd.qwend_disk import QUESTION

pytestmark = pytest.mark.llama

CONFIG = "/etc/qwend/qwend.toml"


def test_a_reload_reaches_connected_clients_and_a_broken_file_changes_nothing(
    qwend: Machine,
) -> None:
    service.start(qwend)
    front = service.main_pid(qwend)
    with service.connect(qwend) as client:

        def answer_tokens() -> int:
            return client.chat(QUESTION, temperature=0).wait().usage.completion_tokens

        assert answer_tokens() > 3
        qwend.write(CONFIG, "[sampling]\nmax_tokens = 3\n")
        qwend.systemctl("reload", "qwend")
        qwend.wait_until(lambda: answer_tokens() == 3, "the new setting")
        qwend.write(CONFIG, "[sampling]\nmax_tokens = 'many'\n")
        qwend.systemctl("reload", "qwend")
        qwend.wait_until(
            lambda: "max_tokens" in qwend.journal("-u", "qwend.service", "-n", "5"), "the complaint"
        )
        assert answer_tokens() == 3
    assert service.main_pid(qwend) == front
