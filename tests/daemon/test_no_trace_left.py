"""What a person has written is in no file that others may read, also after a crash.

A word that is nowhere else goes through a chat, into the prefixes on disk, and through an engine
that crashes. All that the daemon has made, and the directory of the crash, is searched for it.
"""

from __future__ import annotations

import os
import resource
import signal
import stat
from pathlib import Path

import psutil
import pytest

from tests.support.daemon import started_daemon, wait_until

pytestmark = [pytest.mark.llama, pytest.mark.row("G5")]
CANARY = "zq81-canary-5573"


def test_no_core_and_no_readable_file_has_what_was_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Where a core would go by the kernel's own pattern, `core`.
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", os.environ.get("PYTHONPATH") or str(root()))
    before, cores = os.umask(0), resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (cores[1], cores[1]))  # as many as are allowed here
    try:
        with started_daemon(QWEND_ENGINE_BACKEND="llama") as daemon:
            wait_until(daemon.is_up, "it listens")
            with daemon.client() as client:
                client.chat(f"{CANARY} " * 20, max_tokens=4).wait()
                engine = psutil.Process(daemon.engine_pid())
                assert engine.rlimit(psutil.RLIMIT_CORE) == (0, 0)
                os.kill(engine.pid, signal.SIGSEGV)
                wait_until(lambda: daemon.status()["engine"]["restarts"] == 1, "another engine")
                wait_until(lambda: daemon.status()["engine"]["state"] == "ready", "it is ready")
                client.chat(f"{CANARY} " * 20, max_tokens=4).wait()
            assert daemon.stop() == 0
            made = [path for path in daemon.home.rglob("*") if path.is_file()]
            assert any(path.suffix == ".snapshot" for path in made)
            for path in made:
                if path.name != "log" and path.lstat().st_mode & (stat.S_IRGRP | stat.S_IROTH):
                    raise AssertionError(f"others may read {path}")
            with_it = [path for path in made if CANARY.encode() in path.read_bytes()]
            assert with_it == []
    finally:
        os.umask(before)
        resource.setrlimit(resource.RLIMIT_CORE, cores)
    assert list(tmp_path.iterdir()) == [], "a core was left"


def root() -> Path:
    return Path(__file__).resolve().parents[2]
