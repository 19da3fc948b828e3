"""A whole daemon on a machine made of files: it gets hot, short of memory, and well again.

The files stand for what the kernel would say; the daemon, its engine and the hop between are real.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.daemon import RawClient, RunningDaemon, daemon_env, wait_until

# `qwend serve` with another "/" for what is read of the machine, and looks in quick succession.
LAUNCH = """
import sys
from pathlib import Path
from qwend.daemon import heat_control, host_watch, main, memory_control
from qwend.host.root import HostRoot
root = Path(sys.argv.pop(1))
main.HostRoot = lambda: HostRoot(root)
host_watch.LOOK_S = heat_control.CHANGE_S = memory_control.CALM_S = 0.02
main.main()
"""
ZONE = "sys/class/thermal/thermal_zone0"
PSI = "proc/pressure/memory"
RAPL = "sys/class/powercap/intel-rapl:0"
MEMORY = "MemTotal: 8000000 kB\nMemAvailable: {} kB\n"


def put(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        place = root / name
        place.parent.mkdir(parents=True, exist_ok=True)
        # In one step, as the kernel's files change: a reader never sees half of one.
        half = place.with_suffix(".half")
        half.write_text(text)
        half.rename(place)


@contextmanager
def daemon_on(root: Path, **settings: str) -> Iterator[RunningDaemon]:
    with tempfile.TemporaryDirectory(prefix="qwend-test-") as directory:
        home = Path(directory)
        env = daemon_env(home, {"QWEND_ENGINE_BACKEND": "scripted", **settings})
        log = home / "log"
        with log.open("w") as stderr:
            process = subprocess.Popen(
                [sys.executable, "-c", LAUNCH, str(root), "serve"],
                stdin=subprocess.DEVNULL,
                stdout=stderr,
                stderr=stderr,
                env=env,
                text=True,
            )
        daemon = RunningDaemon(process, home / "run" / "qwend.sock", home, env, log)
        try:
            wait_until(daemon.is_up, f"the daemon listens: {daemon.log}")
            yield daemon
            assert daemon.stop() == 0, daemon.log
        finally:
            daemon.stop()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    put(
        tmp_path,
        {
            "proc/meminfo": MEMORY.format(4_000_000),
            PSI: "some avg10=0.00 avg60=0.00 avg300=0.00 total=0\n",
            f"{ZONE}/type": "cpu-thermal\n",
            f"{ZONE}/temp": "50000\n",
        },
    )
    return tmp_path


def until_status(daemon: RunningDaemon, holds: Callable[[dict[str, Any]], bool], what: str) -> Any:
    return wait_until(lambda: (s := daemon.status()) and holds(s) and s, f"{what}: {daemon.log}")


def ask(daemon: RunningDaemon, text: str = "hello " * 40) -> int:
    with daemon.client() as client:
        done = client.complete(text, max_tokens=4).wait()
        return done.usage.cached_tokens


def test_short_memory_empties_the_prefixes_and_is_over_again(root: Path) -> None:
    with daemon_on(root) as daemon:
        ask(daemon)
        until_status(daemon, lambda s: s["engine"]["prefix_bytes"] > 0, "a prefix is kept")
        assert daemon.status()["state"] == "ready"
        put(root, {PSI: "some avg10=80.00 avg60=0.00 avg300=0.00 total=9\n"})
        put(root, {"proc/meminfo": MEMORY.format(200_000)})
        short = until_status(
            daemon, lambda s: s["engine"]["prefix_bytes"] == 0, "the prefixes are gone"
        )
        assert short["state"] == "degraded"
        assert "memory is short" in short["degraded"][0]
        assert short["host"]["memory"]["short"] is True
        assert ask(daemon) == 0
        put(root, {PSI: "some avg10=0.00 avg60=0.00 avg300=0.00 total=9\n"})
        put(root, {"proc/meminfo": MEMORY.format(4_000_000)})
        until_status(daemon, lambda s: s["state"] == "ready", "it is ready again")
        ask(daemon)
        assert ask(daemon) > 0


def test_heat_is_told_and_is_over_again(root: Path) -> None:
    with daemon_on(root, QWEND_ENGINE_THREADS="2") as daemon:
        put(root, {f"{ZONE}/temp": "85000\n"})
        hot = until_status(daemon, lambda s: s["state"] == "degraded", "it is too hot")
        assert hot["degraded"][0].startswith("heat: 1 of 2 threads")
        assert hot["host"]["heat"]["threads"] == 1
        put(root, {f"{ZONE}/temp": "40000\n"})
        until_status(daemon, lambda s: s["state"] == "ready", "it has cooled")


def test_a_client_that_asks_for_energy_is_told_what_its_answer_took(root: Path) -> None:
    put(root, {f"{RAPL}/name": "package-0\n", f"{RAPL}/max_energy_range_uj": "262143328850\n"})
    put(root, {f"{RAPL}/energy_uj": "1000000\n"})
    with daemon_on(root) as daemon, RawClient(daemon.socket, hello=False) as client:
        client.send({"op": "hello", "protocol": "qwend/1", "capabilities": ["energy"]})
        client.read_until("welcome")
        request = {"op": "complete", "id": 1, "prompt": "hello " * 9, "max_tokens": 8, "credit": 4}
        client.send(request)
        client.read_until("token")
        put(root, {f"{RAPL}/energy_uj": "5000000\n"})
        client.send({"op": "credit", "id": 1, "tokens": 9})
        *_, done = client.read_until("done")
        assert done["usage"]["energy_j"] == pytest.approx(4.0)
        energy = daemon.status()["host"]["energy"]
        assert energy["joules_per_token"] == pytest.approx(4.0 / done["usage"]["completion_tokens"])
        with daemon.raw() as other:
            other.send({"op": "complete", "id": 1, "prompt": "hi", "max_tokens": 2})
            assert "energy_j" not in other.read_until("done")[-1]["usage"]


def test_a_machine_that_shows_nothing_is_ready_and_says_nothing(tmp_path: Path) -> None:
    with daemon_on(tmp_path) as daemon:
        ask(daemon)
        status = until_status(daemon, lambda s: "memory" in s["host"], "it has looked")
        assert (status["state"], status["degraded"]) == ("ready", [])
        assert not {"heat", "throttling", "power", "energy"} & set(status["host"])
        assert "Traceback" not in daemon.log
