"""The governor is recorded before it is changed, put back after, and a refusal is a reason."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

from qwend.errors import HostError
from qwend.host.governor import BOOT_ID, GovernorResult, restore, set_governor
from qwend.host.root import HostRoot

from .conftest import FakeHost

DIR = "/sys/devices/system/cpu/cpufreq"
NOTHING = GovernorResult((), ())


def policy(number: int, name: str = "scaling_governor") -> str:
    return f"{DIR}/policy{number}/{name}"


def machine(fake: FakeHost, *governors: str, offered: str = "performance powersave") -> None:
    fake.put({BOOT_ID: "boot-1\n"})
    for number, governor in enumerate(governors):
        fake.put({policy(number): governor + "\n"})
        fake.put({policy(number, "scaling_available_governors"): offered + "\n"})


def governors(fake: FakeHost) -> list[str]:
    paths = fake.root.glob(f"{DIR}/policy*/scaling_governor")
    return [fake.text(path).strip() for path in paths]


@pytest.fixture
def record(tmp_path: Path) -> Path:
    return tmp_path / "run" / "governor.json"


class Refusing(HostRoot):
    """A host that refuses writes to one policy, as sysfs does with an errno."""

    def write_text(self, path: str, text: str) -> None:
        if "policy1" in path:
            raise HostError(path, f"writing {text!r} to", "Read-only file system")
        super().write_text(path, text)


class Killed(HostRoot):
    """A host on which we die at the write to policy 1."""

    def write_text(self, path: str, text: str) -> None:
        if "policy1" in path:
            raise SystemExit
        super().write_text(path, text)


def test_set_and_restore_give_back_a_mixture(fake: FakeHost, record: Path) -> None:
    machine(fake, "powersave", "performance", "schedutil")
    result = set_governor(fake.root, "performance", record)
    assert result == GovernorResult(("policy0", "policy2"), ())
    assert governors(fake) == ["performance"] * 3
    assert restore(fake.root, record) == GovernorResult(("policy0", "policy2"), ())
    assert governors(fake) == ["powersave", "performance", "schedutil"]
    assert not record.exists()


def test_the_record_is_complete_before_the_first_write(fake: FakeHost, record: Path) -> None:
    machine(fake, "powersave", "schedutil")

    class Watching(HostRoot):
        def write_text(self, path: str, text: str) -> None:
            seen.append(json.loads(record.read_text())["previous"])
            super().write_text(path, text)

    seen: list[dict[str, str]] = []
    set_governor(Watching(fake.root.path), "performance", record)
    assert seen == [{"policy0": "powersave", "policy1": "schedutil"}] * 2


def test_a_run_that_was_killed_half_way_is_undone_by_the_next(fake: FakeHost, record: Path) -> None:
    machine(fake, "powersave", "schedutil")
    with pytest.raises(SystemExit):
        set_governor(Killed(fake.root.path), "performance", record)
    assert governors(fake) == ["performance", "schedutil"]
    restore(fake.root, record)
    assert governors(fake) == ["powersave", "schedutil"]
    assert not record.exists()


def test_a_second_run_keeps_the_values_from_before_the_killed_one(
    fake: FakeHost, record: Path
) -> None:
    machine(fake, "powersave", "powersave", offered="performance powersave schedutil")
    with pytest.raises(SystemExit):
        set_governor(Killed(fake.root.path), "performance", record)
    set_governor(fake.root, "schedutil", record)
    assert governors(fake) == ["schedutil", "schedutil"]
    restore(fake.root, record)
    assert governors(fake) == ["powersave", "powersave"]


def test_death_between_the_record_and_the_change_of_a_second_governor_is_undone(
    fake: FakeHost, record: Path
) -> None:
    machine(fake, "powersave", "powersave", offered="performance powersave schedutil")
    set_governor(fake.root, "performance", record)
    with pytest.raises(SystemExit):
        set_governor(Killed(fake.root.path), "schedutil", record)
    assert governors(fake) == ["schedutil", "performance"]
    restore(fake.root, record)
    assert governors(fake) == ["powersave", "powersave"]


def test_what_somebody_else_has_set_since_is_left_alone(fake: FakeHost, record: Path) -> None:
    machine(fake, "powersave", "powersave")
    set_governor(fake.root, "performance", record)
    fake.put({policy(0): "conservative\n"})
    result = restore(fake.root, record)
    assert governors(fake) == ["conservative", "powersave"]
    assert "policy0: left at 'conservative', which somebody else has set" in result.reasons[0]
    assert not record.exists()


def test_a_record_of_an_earlier_boot_is_void(fake: FakeHost, record: Path) -> None:
    machine(fake, "powersave")
    set_governor(fake.root, "performance", record)
    fake.put({BOOT_ID: "boot-2\n"})
    assert restore(fake.root, record) == NOTHING
    assert governors(fake) == ["performance"]
    assert not record.exists()


def test_a_record_of_an_earlier_boot_is_not_added_to(fake: FakeHost, record: Path) -> None:
    machine(fake, "powersave")
    set_governor(fake.root, "performance", record)
    fake.put({BOOT_ID: "boot-2\n", policy(0): "schedutil\n"})
    set_governor(fake.root, "performance", record)
    restore(fake.root, record)
    assert governors(fake) == ["schedutil"]


def test_nothing_to_change_leaves_no_record(fake: FakeHost, record: Path) -> None:
    machine(fake, "performance")
    assert set_governor(fake.root, "performance", record) == NOTHING
    assert not record.parent.exists()


def test_without_a_record_there_is_nothing_to_restore(fake: FakeHost, record: Path) -> None:
    machine(fake, "performance")
    assert restore(fake.root, record) == NOTHING
    assert not record.parent.exists()


def test_a_machine_without_governors_is_a_reason(fake: FakeHost, record: Path) -> None:
    result = set_governor(fake.root, "performance", record)
    assert result.changed == ()
    assert "this machine has none" in result.reasons[0]


def test_an_unknown_governor_is_a_reason_naming_what_there_is(fake: FakeHost, record: Path) -> None:
    machine(fake, "powersave")
    result = set_governor(fake.root, "turbo", record)
    assert result == GovernorResult(
        (), ("governor: policy0 offers performance, powersave, not 'turbo'",)
    )
    assert governors(fake) == ["powersave"]


def test_one_policy_that_refuses_does_not_stop_the_others(fake: FakeHost, record: Path) -> None:
    machine(fake, "powersave", "powersave", "powersave")
    result = set_governor(Refusing(fake.root.path), "performance", record)
    assert result.changed == ("policy0", "policy2")
    assert len(result.reasons) == 1
    assert "policy1" in result.reasons[0]
    assert "Read-only file system" in result.reasons[0]


def test_a_restore_that_is_refused_keeps_the_record_for_the_next(
    fake: FakeHost, record: Path
) -> None:
    machine(fake, "powersave", "powersave")
    set_governor(fake.root, "performance", record)
    assert restore(Refusing(fake.root.path), record).changed == ("policy0",)
    assert record.exists()
    assert restore(fake.root, record) == GovernorResult(("policy1",), ())
    assert not record.exists()


def test_a_driver_that_keeps_its_own_mind_is_noticed(fake: FakeHost, record: Path) -> None:
    machine(fake, "powersave")

    class Stubborn(HostRoot):
        def write_text(self, path: str, text: str) -> None:
            return

    result = set_governor(Stubborn(fake.root.path), "performance", record)
    assert result.changed == ()
    assert "took 'performance' but reads back 'powersave'" in result.reasons[0]


def test_a_file_of_the_policy_that_is_missing_is_a_reason(fake: FakeHost, record: Path) -> None:
    machine(fake, "powersave", "powersave")
    fake.root.at(policy(0, "scaling_available_governors")).unlink()
    result = set_governor(fake.root, "performance", record)
    assert result.changed == ("policy1",)
    assert "No such file" in result.reasons[0]


def test_a_policy_that_went_away_does_not_hold_the_record(fake: FakeHost, record: Path) -> None:
    machine(fake, "powersave", "powersave")
    set_governor(fake.root, "performance", record)
    fake.root.at(policy(1)).unlink()
    assert restore(fake.root, record) == GovernorResult(
        ("policy0",), ("governor: policy1 is gone",)
    )
    assert not record.exists()


def test_without_a_record_nothing_is_changed(fake: FakeHost, tmp_path: Path) -> None:
    machine(fake, "powersave")
    (tmp_path / "file").touch()
    result = set_governor(fake.root, "performance", tmp_path / "file" / "governor.json")
    assert result.changed == ()
    assert "nothing changed" in result.reasons[0]
    assert governors(fake) == ["powersave"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "null",
        '{"boot": "boot-1", "previous": {}}',
        '{"boot": "boot-1"}',
        '{"boot": "boot-1", "previous": {"../policy0": "powersave"}, "ours": []}',
        '{"boot": "boot-1", "previous": {"policy0": "../../x"}, "ours": []}',
        '{"boot": "boot-1", "previous": {"policy0": 3}, "ours": []}',
        '{"boot": "boot-1", "previous": {"policy0": "powersave"}, "ours": [3]}',
        "[" * 60_000,
    ],
)
def test_a_damaged_record_is_never_written_to_sys(fake: FakeHost, record: Path, text: str) -> None:
    machine(fake, "performance")
    record.parent.mkdir(mode=0o700)
    record.write_text(text)
    for result in (restore(fake.root, record), set_governor(fake.root, "powersave", record)):
        assert result.changed == ()
        assert "remove it" in result.reasons[-1]
    assert governors(fake) == ["performance"]


def test_a_planted_link_is_neither_read_nor_written(
    fake: FakeHost, record: Path, tmp_path: Path
) -> None:
    machine(fake, "powersave")
    bait = tmp_path / "bait"
    text = '{"previous": {"policy0": "performance"}, "ours": ["powersave"]}'
    bait.write_text(text)
    record.parent.mkdir(mode=0o700)
    record.symlink_to(bait)
    assert restore(fake.root, record).changed == ()
    assert governors(fake) == ["powersave"]
    assert set_governor(fake.root, "performance", record).changed == ()
    assert bait.read_text() == text


def test_the_record_is_private_and_its_directory_left_as_it_was(
    fake: FakeHost, record: Path, umask: int
) -> None:
    machine(fake, "powersave")
    record.parent.mkdir()
    record.parent.chmod(0o755)
    set_governor(fake.root, "performance", record)
    assert stat.S_IMODE(record.stat().st_mode) == 0o600
    assert stat.S_IMODE(record.parent.stat().st_mode) == 0o755
    assert os.listdir(record.parent) == [record.name]
