"""A reload: what can be applied at once is, the rest is named, and a bad file changes nothing."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from qwend.config import ChatConfig, Config, EngineConfig, LimitsConfig, ModelConfig
from qwend.daemon.reload import reload
from tests.daemon.fake_systemd import FakeSystemd, fake_systemd
from tests.support.daemon import RawClient, running_daemon, wait_until

pytestmark = pytest.mark.row("C5")


def test_what_is_live_is_in_force_and_the_rest_waits() -> None:
    running = Config()
    read = Config(
        model=ModelConfig(name="other", context=4096),
        engine=EngineConfig(hung_after_s=3.0, threads=2),
        limits=LimitsConfig(drain_s=1.0),
        chat=ChatConfig(system_prompt="Be brief."),
    )
    found = reload(running, read)
    assert found.applied == ("engine.hung_after_s", "chat.system_prompt", "limits.drain_s")
    assert found.pending == ("model.name", "model.context", "engine.threads")
    assert found.in_force == Config(
        engine=EngineConfig(hung_after_s=3.0),
        limits=LimitsConfig(drain_s=1.0),
        chat=ChatConfig(system_prompt="Be brief."),
    )


def test_what_is_put_back_waits_no_longer() -> None:
    waiting = reload(Config(), Config(model=ModelConfig(name="other")))
    assert waiting.pending == ("model.name",)
    assert reload(waiting.in_force, Config()).pending == ()


@pytest.fixture
def systemd() -> Iterator[FakeSystemd]:
    with fake_systemd() as one:
        one.start_and_wait({})
        yield one


def reread(systemd: FakeSystemd, text: str) -> None:
    """Write the file, ask for a reload, wait for the end of it."""
    assert systemd.process is not None
    config = systemd.home / "config" / "qwend.toml"
    config.write_text(text)
    ready = systemd.says("READY=1")
    systemd.process.send_signal(signal.SIGHUP)
    systemd.until(lambda: systemd.says("READY=1") > ready, "the reload is over")


def status_of(client: RawClient) -> dict[str, Any]:
    client.send({"op": "status"})
    status: dict[str, Any] = client.read_until("status")[-1]["status"]
    return status


def test_a_reload_is_told_to_systemd_with_the_time_and_ends_with_ready(
    systemd: FakeSystemd,
) -> None:
    reread(systemd, "")
    (reloading,) = [one for one in systemd.said if "RELOADING=1" in one]
    (time,) = [line for line in reloading if line.startswith("MONOTONIC_USEC=")]
    assert int(time.partition("=")[2]) > 0
    assert "READY=1" in systemd.said[-1]


def test_limits_and_defaults_hold_from_the_next_request_on(systemd: FakeSystemd) -> None:
    with systemd.client() as client:
        reread(
            systemd,
            "[limits]\nconnections_per_uid = 2\n[sampling]\nmax_tokens = 3\n"
            '[chat]\nsystem_prompt = "Be brief."\n[log]\nlevel = "debug"',
        )
        client.send({"op": "complete", "id": 1, "prompt": "hello"})
        done = client.read_until("done")[-1]
        assert done["usage"]["completion_tokens"] == 3
        with systemd.client(), systemd.client(hello=False) as third:
            told = third.read()
            assert told is not None
            assert told["code"] == "busy"
        assert status_of(client)["needs_restart"] == []


def test_what_needs_a_restart_is_named_until_it_is_put_back(systemd: FakeSystemd) -> None:
    with systemd.client() as client:
        reread(systemd, "[model]\ncontext = 4096\n[limits]\ndrain_s = 1.0")
        assert status_of(client)["needs_restart"] == ["model.context"]
        assert systemd.statuses()[-1].endswith("restart to apply model.context")
        assert "need a restart: model.context" in systemd.log
        reread(systemd, "")
        assert status_of(client)["needs_restart"] == []


def test_a_bad_file_changes_nothing_and_is_named_with_its_code(systemd: FakeSystemd) -> None:
    with systemd.client() as client:
        reread(systemd, "[sampling]\nmax_tokens = 3")
        reread(systemd, "[sampling]\nmax_tokens = 5\n[limits]\nconnections = 0")
        (line,) = [line for line in systemd.log.splitlines() if "stays as it was" in line]
        assert "qwend.toml" in line
        assert "connections" in line
        assert line.endswith("(config)")
        client.send({"op": "complete", "id": 1, "prompt": "hello"})
        assert client.read_until("done")[-1]["usage"]["completion_tokens"] == 3


def test_a_stream_does_not_notice_a_reload() -> None:
    script = {"answer": "x", "endless": True, "step_s": 0.005}
    with running_daemon(script=script) as daemon, daemon.client() as client:
        stream = client.complete("hello", max_tokens=100)
        next(iter(stream))
        daemon.process.send_signal(signal.SIGHUP)
        assert stream.wait().usage.completion_tokens == 100
        wait_until(lambda: "nothing new" in daemon.log, "it was read")


def test_a_reload_during_the_start_is_done_after_it(tmp_path: Path) -> None:
    with fake_systemd() as systemd:
        systemd.start({"step_s": 0.02})
        systemd.until(lambda: "calibrating" in systemd.statuses(), "it calibrates")
        assert systemd.process is not None
        systemd.process.send_signal(signal.SIGHUP)
        systemd.until(lambda: systemd.says("READY=1") == 2, "it was read after the start")
