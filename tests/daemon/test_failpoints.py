"""A daemon that fails on purpose: its streams go on, and it says that it was asked to."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest

from qwend.errors import QwendError
from tests.support.daemon import RunningDaemon, running_daemon, started_daemon, wait_until

QUESTION = "What is qwend?"
# Every file that the engine and the front write beside the stream.
FULL_DISK = ";".join(
    f"{point}:error(ENOSPC)"
    for point in (
        "snapshot.write",
        "calibration.write",
        "warm_copy.write",
        "warm_index.write",
    )
)


def answer(daemon: RunningDaemon) -> str:
    with daemon.client() as client:
        return "".join(token.text for token in client.chat(QUESTION, max_tokens=24, temperature=0))


def written(home: Path) -> list[str]:
    """What lies in the state directory after an orderly stop, but for locks and lists of names."""
    found = (path for path in (home / "state").rglob("*") if path.is_file())
    return sorted(path.name for path in found if path.suffix in (".snapshot", ".json", ".gguf"))


@pytest.mark.llama
@pytest.mark.row("C4")
def test_streams_do_not_notice_that_the_disk_is_full() -> None:
    with running_daemon(QWEND_ENGINE_BACKEND="llama") as daemon:
        undisturbed = answer(daemon)
        assert daemon.stop() == 0
        assert any(name.endswith(".snapshot") for name in written(daemon.home))
    with running_daemon(QWEND_ENGINE_BACKEND="llama", QWEND_FAIL=FULL_DISK) as daemon:
        assert answer(daemon) == undisturbed
        assert answer(daemon) == undisturbed
        (told,) = (why for why in daemon.status()["degraded"] if "QWEND_FAIL" in why)
        assert "snapshot.write" in told
        assert daemon.stop() == 0
        assert daemon.log.count("No space left on device (failpoint snapshot.write)") == 1
        assert written(daemon.home) == []
        assert not list((daemon.home / "state").rglob(".tmp-*"))


def test_a_daemon_that_fails_on_purpose_says_so_in_its_log_and_its_status() -> None:
    with running_daemon(QWEND_FAIL="snapshot.write:off") as daemon:
        assert daemon.status()["state"] == "degraded"
        assert "QWEND_FAIL is set, for a test" in daemon.log
    with running_daemon() as daemon:
        assert daemon.status()["state"] == "ready"
        assert "QWEND_FAIL" not in daemon.log


def test_a_wrong_expression_ends_the_start_and_says_where() -> None:
    with started_daemon(script={}, QWEND_FAIL="snapshot.write:3*of") as daemon:
        assert daemon.process.wait(30) == 1
        assert "QWEND_FAIL, character 18 ('of')" in daemon.log


def test_a_file_of_settings_cannot_set_a_point(tmp_path: Path) -> None:
    file = tmp_path / "qwend.toml"
    file.write_text('fail = "snapshot.write:error"\n')
    with started_daemon("--config", str(file), script={}) as daemon:
        assert daemon.process.wait(30) == 1
        assert "fail" in daemon.log


def test_an_engine_that_cannot_be_started_is_started_again() -> None:
    # The first is the one that waits while the front imports; what failed then is tried again.
    with running_daemon(QWEND_FAIL="engine.start:1*error(EAGAIN)") as daemon:
        with daemon.client() as client:
            assert client.ping() >= 0
        assert daemon.status()["engine"]["restarts"] == 0


def test_an_engine_dies_in_the_middle_of_an_answer_where_a_test_wants_it() -> None:
    with running_daemon(QWEND_FAIL="engine.receive:20*off->1*kill(SIGKILL)") as daemon:
        with daemon.client() as client, suppress(QwendError):
            list(client.complete("x" * 200, max_tokens=200))
        wait_until(lambda: daemon.status()["engine"]["restarts"], "there is another engine")
        assert "killed by SIGKILL" in daemon.log


@pytest.mark.row("D7")
@pytest.mark.parametrize("point", ["engine.load", "engine.receive", "front.receive"])
def test_a_fault_of_ours_is_logged_without_the_text_that_it_quotes(point: str) -> None:
    count = "" if point == "engine.load" else "5*off->1*"
    with started_daemon(script={}, QWEND_FAIL=f"{point}:{count}panic(canary words)") as daemon:
        wait_until(lambda: "Panic: (its text is left out" in daemon.log, "the fault is logged")
        assert "failpoint.py" in daemon.log
        assert "canary" not in daemon.log
