"""What a model has read is there again when it comes back, though another answered meanwhile."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psutil
import pytest

from qwend.models.store import guide_path
from tests.support.daemon import RawClient, RunningDaemon, running_daemon, wait_until
from tests.support.tiny_model import write_tiny_model

pytestmark = pytest.mark.llama
QUESTION = [{"role": "user", "content": "What is qwend, and who may use it on this machine?"}]


def cached_tokens(client: RawClient, id_: int) -> int:
    """Ask, and say how much of the prompt was there already."""
    client.send({"op": "chat", "id": id_, "messages": QUESTION, "max_tokens": 4})
    accepted = client.read_until("accepted", id=id_)[-1]
    client.read_until("done", id=id_)
    return int(accepted["cached_tokens"])


def load(daemon: RunningDaemon, client: RawClient, id_: int, model: Path) -> None:
    client.send({"op": "load", "id": id_, "model": str(model)})
    client.read_until("done", id=id_)
    # It writes what it has in memory as it ends.
    front = psutil.Process(daemon.process.pid)
    wait_until(lambda: len(front.children()) == 1, "the engine before has ended")


def test_a_switch_and_back_loses_nothing_that_was_read(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"QWEND_ENGINE_BACKEND": "llama", "QWEND_MODEL_CONTEXT": "512"}
    settings["QWEND_ENGINE_FLASH_ATTENTION"] = "off"  # another choice is another layout of blobs
    tiny = write_tiny_model(tmp_path / "tiny.gguf")
    with running_daemon("--model", str(guide_path()), **settings) as daemon, daemon.raw() as client:
        first = cached_tokens(client, 1)
        # The first engine writes as it ends, when the second has begun already. The third one has
        # files from its beginning to its end, and the fourth begins among them.
        for id_, model in enumerate((tiny, guide_path(), tiny), start=2):
            load(daemon, client, id_, model)
        cached_tokens(client, 5)
        load(daemon, client, 6, guide_path())
        assert cached_tokens(client, 7) >= first + 10
