"""The machine's part of the status, from trees of real machines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgpack
import pytest

from qwend.config import Config, HostConfig
from qwend.daemon.host_status import host_status
from qwend.daemon.plan_watch import PlanWatch
from qwend.daemon.tuning import Tuning
from qwend.host.root import HostRoot
from tests.host import machines


def status(path: Path, files: machines.Files, wanted: HostConfig | None = None) -> dict[str, Any]:
    host = HostRoot(path)
    for name, text in files.items():
        host.at(name).parent.mkdir(parents=True, exist_ok=True)
        host.at(name).write_text(text)
    watch = PlanWatch(Config(), host, lambda: frozenset(range(64)))
    return host_status(Tuning(watch, ()), host, wanted or HostConfig())


def test_an_rk3588_says_its_plan_and_its_clocks(tmp_path: Path) -> None:
    wanted = HostConfig(governor="performance")
    assert status(tmp_path, machines.rk3588(), wanted) == {
        "cpu": {
            "threads": 4,
            "cpus": [6, 7, 4, 5],
            "why": "one thread on each of the 4 bigger cores; the 4 smaller would hold them up",
        },
        "governor": {
            "wanted": "performance",
            "wanted_preference": "",
            "clocks": [{"cpus": list(range(8)), "governor": "schedutil", "preference": ""}],
        },
    }


def test_policies_that_differ_are_told_apart(tmp_path: Path) -> None:
    files = machines.rk3588()
    files[f"{machines.SYS}/cpufreq/policy4/scaling_governor"] = "performance\n"
    clocks = status(tmp_path, files)["governor"]["clocks"]
    assert [(each["cpus"], each["governor"]) for each in clocks] == [
        ([0, 1, 2, 3, 6, 7], "schedutil"),
        ([4, 5], "performance"),
    ]


def test_an_energy_preference_is_shown(tmp_path: Path) -> None:
    (clock,) = status(tmp_path, machines.n100())["governor"]["clocks"]
    assert (clock["governor"], clock["preference"]) == ("powersave", "balance_performance")


@pytest.mark.parametrize("files", [machines.virtual_machine(), {}], ids=["vm", "nothing"])
def test_a_machine_without_clocks_to_set_has_none(tmp_path: Path, files: machines.Files) -> None:
    shown = status(tmp_path, files)
    assert shown["governor"]["clocks"] == []
    assert msgpack.unpackb(msgpack.packb(shown)) == shown


def test_before_the_machine_was_looked_at_there_is_no_plan(tmp_path: Path) -> None:
    assert "cpu" not in host_status(None, HostRoot(tmp_path), HostConfig())
