"""`qwend host`: what it does, says and exits with; over a file tree that keeps what is written."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from qwend.daemon.host_command import (
    DONE,
    REFUSED,
    STATE,
    apply_settings,
    record_path,
    restore_settings,
    wish_of,
)
from qwend.errors import ConfigError, HostError
from qwend.host.governor import wish_for
from qwend.host.governor_record import BOOT_ID
from qwend.host.root import HostRoot
from tests.host import machines
from tests.host.machines import SYS

GOVERNOR = f"{SYS}/cpufreq/policy0/scaling_governor"
PERFORMANCE = wish_for("performance", "")


class Box:
    """A machine, a record, and what was said."""

    def __init__(self, path: Path, files: machines.Files) -> None:
        self.root = HostRoot(path / "root")
        self.record = path / "state" / "governor.json"
        self.said: list[str] = []
        self.warned: list[str] = []
        self.put(files)

    def put(self, files: machines.Files) -> None:
        for name, text in files.items():
            place = self.root.at(name)
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(text)

    def governors(self) -> list[str]:
        paths = self.root.glob(f"{SYS}/cpufreq/policy*/scaling_governor")
        return [self.root.read_text(path).strip() for path in paths]

    def apply(self, wish: dict[str, str] | None = None, root: HostRoot | None = None) -> int:
        self.said.clear()
        self.warned.clear()
        wished = PERFORMANCE if wish is None else wish_for(wish.get("g", ""), wish.get("e", ""))
        return apply_settings(
            root or self.root, wished, self.record, self.said.append, self.warned.append
        )

    def restore(self, root: HostRoot | None = None) -> int:
        self.said.clear()
        self.warned.clear()
        return restore_settings(
            root or self.root, self.record, self.said.append, self.warned.append
        )


@pytest.fixture
def box(tmp_path: Path) -> Box:
    return Box(tmp_path, machines.rk3588() | {BOOT_ID: "boot-1\n"})


class Refusing(HostRoot):
    """Policies 4 and 6 take nothing."""

    def write_text(self, path: str, text: str) -> None:
        if "policy0" not in path:
            raise HostError(path, f"writing {text!r} to", "Invalid argument")
        super().write_text(path, text)


class ReadOnly(HostRoot):
    def may_write(self, path: str) -> bool:
        return False


def test_it_says_what_it_did_and_undid(box: Box) -> None:
    assert box.apply() == DONE
    assert box.said == ["CPU clocks 0,4,6: scaling_governor schedutil -> performance"]
    assert box.restore() == DONE
    assert box.said == ["CPU clocks 0,4,6: scaling_governor performance -> schedutil"]
    assert box.governors() == ["schedutil"] * 3


def test_doing_it_again_changes_nothing_and_is_no_failure(box: Box) -> None:
    box.apply()
    assert box.apply() == DONE
    assert box.said == ["it is so already: scaling_governor performance"]
    assert box.restore() == box.restore() == DONE
    assert box.said == ["nothing to put back"]
    assert box.governors() == ["schedutil"] * 3


def test_what_a_killed_run_left_is_put_back_though_nothing_is_asked_for_any_more(box: Box) -> None:
    box.apply()
    assert box.apply({}) == DONE
    assert box.said == [
        "CPU clocks 0,4,6: scaling_governor performance -> schedutil",
        "no governor and no energy preference are asked for under [host]",
    ]
    assert not box.record.exists()


@pytest.mark.parametrize("boot", ["boot-1", "boot-2"])
def test_after_a_power_cut_the_governor_from_before_it_comes_back_at_the_next_stop(
    box: Box, boot: str
) -> None:
    box.apply()
    # The power goes; the tree, unlike a kernel, has kept what was written.
    box.put({BOOT_ID: f"{boot}\n"})
    assert box.apply() == DONE
    assert box.governors() == ["performance"] * 3
    assert box.restore() == DONE
    assert box.governors() == ["schedutil"] * 3


def test_another_governor_than_before_a_restart_is_set_over_the_old_one(box: Box) -> None:
    box.apply()
    assert box.apply({"g": "ondemand"}) == DONE
    assert box.said == ["CPU clocks 0,4,6: scaling_governor performance -> ondemand"]
    box.restore()
    assert box.governors() == ["schedutil"] * 3


def test_a_machine_that_refuses_in_part_is_done_for_it_has_to_be_undone(box: Box) -> None:
    assert box.apply(root=Refusing(box.root.path)) == DONE
    assert box.governors() == ["performance", "schedutil", "schedutil"]
    assert box.warned == [
        "policies 4,6: writing 'performance' to scaling_governor: Invalid argument"
    ]
    assert box.restore() == DONE
    assert box.governors() == ["schedutil"] * 3


def test_a_governor_that_is_not_there_is_refused(box: Box) -> None:
    assert box.apply({"g": "turbo"}) == REFUSED
    assert "not 'turbo'" in box.warned[0]


def test_without_the_right_it_is_refused_with_what_to_do(box: Box) -> None:
    assert box.apply(root=ReadOnly(box.root.path)) == REFUSED
    assert "only root may change it" in box.warned[0]
    assert box.warned[-1] == "run this as root, with sudo"
    assert not box.record.parent.exists()


def test_a_machine_without_governors_is_no_failure(tmp_path: Path) -> None:
    box = Box(tmp_path, machines.virtual_machine())
    assert box.apply() == DONE
    assert "no frequency scaling" in box.warned[0]


def test_what_cannot_be_put_back_is_a_failure_and_stays_recorded(box: Box) -> None:
    box.apply()
    assert box.restore(Refusing(box.root.path)) == REFUSED
    assert box.record.exists()
    assert box.restore() == DONE
    assert box.governors() == ["schedutil"] * 3


def test_a_damaged_record_is_a_failure_that_names_it(box: Box) -> None:
    box.record.parent.mkdir(mode=0o700)
    box.record.write_text("nonsense")
    assert box.apply() == REFUSED
    assert str(box.record) in box.warned[0]
    assert box.restore() == REFUSED
    assert box.governors() == ["schedutil"] * 3


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to be somebody else")
def test_a_record_that_one_may_not_read_is_not_taken_for_none() -> None:
    with tempfile.TemporaryDirectory() as folder:  # root's own, 0700
        script = (
            "import os, sys; from pathlib import Path; from qwend.host.root import HostRoot;"
            "from qwend.daemon.host_command import restore_settings;"
            "os.setgroups([]); os.setgid(65534); os.setuid(65534);"
            "sys.exit(restore_settings(HostRoot(), Path(sys.argv[1]), print, print))"
        )
        result = subprocess.run(
            [sys.executable, "-c", script, f"{folder}/governor.json"],
            capture_output=True,
            text=True,
        )
    assert result.returncode == REFUSED, result.stderr
    assert "run this with sudo" in result.stdout


def test_the_record_is_in_a_directory_of_roots_own() -> None:
    assert record_path({}) == STATE / "governor.json"
    assert record_path({"STATE_DIRECTORY": "/s/qwend-host"}) == Path("/s/qwend-host/governor.json")
    assert record_path({"STATE_DIRECTORY": "relative"}) == STATE / "governor.json"


def test_the_configuration_is_asked_unless_the_command_line_says(tmp_path: Path) -> None:
    config = tmp_path / "qwend.toml"
    config.write_text('[host]\ngovernor = "performance"\nenergy_preference = "power"\n')
    environ = {"HOME": str(tmp_path)}
    assert wish_of(environ, config, "", "") == wish_for("performance", "power")
    assert wish_of(environ, config, "schedutil", "") == wish_for("schedutil", "")
    with pytest.raises(ConfigError):
        wish_of(environ, tmp_path / "none.toml", "", "")


def test_it_needs_nothing_but_pythons_own_library() -> None:
    script = (
        "import sys; before = set(sys.modules); import qwend.daemon.host_command;"
        "print(*{name.split('.')[0] for name in set(sys.modules) - before})"
    )
    loaded = subprocess.run(
        [sys.executable, "-I", "-c", script], capture_output=True, text=True, check=True
    )
    assert set(loaded.stdout.split()) - sys.stdlib_module_names == {"qwend"}


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["host", "apply", "--config", "/nonexistent.toml"], 2),
        (["host", "restore"], 0),
        (["host", "--help"], 0),
    ],
)
def test_the_command_line_exits_as_said(tmp_path: Path, arguments: list[str], code: int) -> None:
    environ = {"STATE_DIRECTORY": str(tmp_path), "HOME": str(tmp_path)}
    result = subprocess.run(
        [sys.executable, "-m", "qwend.daemon.main", *arguments],
        capture_output=True,
        text=True,
        env=environ,
    )
    assert result.returncode == code, result.stderr
