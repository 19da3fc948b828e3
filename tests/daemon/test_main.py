"""The daemon's process: how it ends when there is no thread left to end it with."""

from __future__ import annotations

import asyncio
import json
import resource
from pathlib import Path

import pytest

from qwend.daemon.daemon import Daemon
from qwend.daemon.main import _serve
from qwend.errors import HostError
from tests.support.daemon import daemon_env

pytestmark = pytest.mark.row("D6")


@pytest.fixture
def environ(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Of a machine on which asyncio can start no thread to end the others with."""

    async def no_thread(loop: asyncio.BaseEventLoop, timeout: float | None = None) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(asyncio.BaseEventLoop, "shutdown_default_executor", no_thread)
    # What a process sets for itself is not to be the tests'.
    monkeypatch.setattr(resource, "setrlimit", lambda *limit: None)
    monkeypatch.setattr("qwend.daemon.log.set_up_logging", lambda *how: None)
    settings = {"QWEND_ENGINE_BACKEND": "scripted", "QWEND_SCRIPT": json.dumps({})}
    return daemon_env(tmp_path, settings)


def test_a_daemon_that_has_served_ends_well_all_the_same(
    environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def serve(daemon: Daemon) -> None:
        pass

    monkeypatch.setattr(Daemon, "run", serve)
    _serve(environ, None, {})


def test_one_that_could_not_start_says_what_to_raise(
    environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def serve(daemon: Daemon) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(Daemon, "run", serve)
    with pytest.raises(HostError, match="TasksMax="):
        _serve(environ, None, {})
