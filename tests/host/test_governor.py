"""The governor is recorded before it is changed, put back after, and a refusal is words."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from qwend.errors import HostError
from qwend.host.cpufreq import Knob
from qwend.host.governor import Change, Outcome, Wish, apply, restore, wish_for
from qwend.host.governor_record import BOOT_ID, load_record
from qwend.host.root import HostRoot

from . import machines
from .conftest import FakeHost
from .machines import SYS

DIR = f"{SYS}/cpufreq"
PERFORMANCE = wish_for("performance", "")
G, E = Knob.GOVERNOR, Knob.PREFERENCE


def machine(fake: FakeHost, *governors: str, offered: str = "performance powersave") -> None:
    fake.put({BOOT_ID: "boot-1\n"})
    for number, governor in enumerate(governors):
        fake.put(machines.policy((number,), 1, governor=governor, governors=offered))


def read(fake: FakeHost, knob: Knob = G) -> list[str]:
    return [fake.text(path).strip() for path in fake.root.glob(f"{DIR}/policy*/{knob}")]


def set_by_somebody(fake: FakeHost, policy: int, governor: str) -> None:
    fake.put({f"{DIR}/policy{policy}/scaling_governor": f"{governor}\n"})


@pytest.fixture
def record(tmp_path: Path) -> Path:
    return tmp_path / "run" / "governor.json"


class Refusing(HostRoot):
    """Refuses writes to policies 1 and 2, as sysfs does with an errno."""

    def write_text(self, path: str, text: str) -> None:
        if "policy1" in path or "policy2" in path:
            raise HostError(path, f"writing {text!r} to", "Invalid argument")
        super().write_text(path, text)


class Killed(HostRoot):
    """We die at the write to policy 1."""

    def write_text(self, path: str, text: str) -> None:
        if "policy1" in path:
            raise SystemExit
        super().write_text(path, text)


class ReadOnly(HostRoot):
    """/sys as an ordinary user or a service with ProtectKernelTunables= sees it."""

    def may_write(self, path: str) -> bool:
        return not path.startswith("/sys")

    def write_text(self, path: str, text: str) -> None:
        raise AssertionError("it was asked first, and said no")


@dataclass(frozen=True)
class Pstate(HostRoot):
    """intel_pstate and amd-pstate in active mode, as their documentation says: `performance` makes
    the preference `performance` and takes no other; with `powersave` the last one set is back."""

    saved: dict[str, str] = field(default_factory=dict)

    def write_text(self, path: str, text: str) -> None:
        here = path.rsplit("/", 1)[0]
        governor, preference = f"{here}/{G}", f"{here}/{E}"
        fixed = self.read_text(governor).strip() == "performance"
        if path == preference and fixed and text != "performance":
            raise HostError(path, f"writing {text!r} to", "Device or resource busy")
        super().write_text(path, text)
        if path == governor and text == "performance" and not fixed:
            self.saved[here] = self.read_text(preference).strip()
            super().write_text(preference, "performance")
        elif path == governor and text != "performance" and fixed:
            super().write_text(preference, self.saved.get(here, "balance_performance"))


def test_set_and_restore_give_back_a_mixture(fake: FakeHost, record: Path) -> None:
    machine(fake, "powersave", "performance", "schedutil")
    outcome = apply(fake.root, PERFORMANCE, record)
    assert outcome.changes == [
        Change("policy0", G, "powersave", "performance"),
        Change("policy2", G, "schedutil", "performance"),
    ]
    assert read(fake) == ["performance"] * 3
    outcome = restore(fake.root, record)
    assert [change.policy for change in outcome.changes] == ["policy0", "policy2"]
    assert (outcome.refused, outcome.remarks) == ((), ())
    assert read(fake) == ["powersave", "performance", "schedutil"]
    assert not record.exists()


def test_the_record_is_complete_before_the_first_write(fake: FakeHost, record: Path) -> None:
    machine(fake, "powersave", "schedutil")

    class Watching(HostRoot):
        def write_text(self, path: str, text: str) -> None:
            seen.append(load_record(fake.root, record).previous)
            super().write_text(path, text)

    seen: list[dict[str, dict[Knob, str]]] = []
    apply(Watching(fake.root.path), PERFORMANCE, record)
    assert seen == [{"policy0": {G: "powersave"}, "policy1": {G: "schedutil"}}] * 2


def test_a_run_that_was_killed_half_way_is_undone_by_the_next(fake: FakeHost, record: Path) -> None:
    machine(fake, "powersave", "schedutil")
    with pytest.raises(SystemExit):
        apply(Killed(fake.root.path), PERFORMANCE, record)
    assert read(fake) == ["performance", "schedutil"]
    restore(fake.root, record)
    assert read(fake) == ["powersave", "schedutil"]
    assert not record.exists()


def test_a_second_run_keeps_the_values_from_before_the_killed_one(
    fake: FakeHost, record: Path
) -> None:
    machine(fake, "powersave", "powersave", offered="performance powersave schedutil")
    with pytest.raises(SystemExit):
        apply(Killed(fake.root.path), PERFORMANCE, record)
    apply(fake.root, wish_for("schedutil", ""), record)
    assert read(fake) == ["schedutil", "schedutil"]
    restore(fake.root, record)
    assert read(fake) == ["powersave", "powersave"]


def test_death_between_the_record_and_the_change_of_a_second_governor_is_undone(
    fake: FakeHost, record: Path
) -> None:
    machine(fake, "powersave", "powersave", offered="performance powersave schedutil")
    apply(fake.root, PERFORMANCE, record)
    with pytest.raises(SystemExit):
        apply(Killed(fake.root.path), wish_for("schedutil", ""), record)
    assert read(fake) == ["schedutil", "performance"]
    restore(fake.root, record)
    assert read(fake) == ["powersave", "powersave"]


def test_setting_and_restoring_twice_is_as_once(fake: FakeHost, record: Path) -> None:
    machine(fake, "powersave", "schedutil")
    apply(fake.root, PERFORMANCE, record)
    assert apply(fake.root, PERFORMANCE, record) == Outcome()
    restore(fake.root, record)
    assert restore(fake.root, record) == Outcome()
    assert read(fake) == ["powersave", "schedutil"]


def test_what_somebody_else_has_set_since_is_left_alone(fake: FakeHost, record: Path) -> None:
    machine(fake, "powersave", "powersave")
    apply(fake.root, PERFORMANCE, record)
    set_by_somebody(fake, 0, "conservative")
    outcome = restore(fake.root, record)
    assert read(fake) == ["conservative", "powersave"]
    assert outcome.remarks == (
        "policy 0: scaling_governor is left at 'conservative', which somebody else has set",
    )
    assert outcome.refused == ()
    assert not record.exists()


def test_after_a_power_cut_what_still_reads_as_ours_is_put_back(
    fake: FakeHost, record: Path
) -> None:
    machine(fake, "powersave", "powersave")
    apply(fake.root, PERFORMANCE, record)
    fake.put({BOOT_ID: "boot-2\n"})
    set_by_somebody(fake, 1, "schedutil")  # the kernel's own, this time
    outcome = restore(fake.root, record)
    assert read(fake) == ["powersave", "schedutil"]
    assert outcome.remarks == ()
    assert not record.exists()


def test_what_a_reboot_has_changed_is_not_in_the_next_record(fake: FakeHost, record: Path) -> None:
    machine(fake, "powersave", "powersave")
    apply(fake.root, PERFORMANCE, record)
    fake.put({BOOT_ID: "boot-2\n"})
    set_by_somebody(fake, 1, "schedutil")
    apply(fake.root, PERFORMANCE, record)
    restore(fake.root, record)
    assert read(fake) == ["powersave", "schedutil"]


def test_nothing_to_change_leaves_no_record(fake: FakeHost, record: Path) -> None:
    machine(fake, "performance")
    assert apply(fake.root, PERFORMANCE, record) == Outcome()
    assert not record.parent.exists()


def test_without_a_wish_nothing_is_done(fake: FakeHost, record: Path) -> None:
    machine(fake, "powersave")
    assert apply(fake.root, wish_for("", ""), record) == Outcome()


def test_a_machine_without_governors_says_so(fake: FakeHost, record: Path) -> None:
    fake.put(machines.virtual_machine())
    outcome = apply(fake.root, PERFORMANCE, record)
    assert outcome.refused == ("this machine has no frequency scaling (cpufreq)",)


@pytest.mark.row("H2")
def test_a_governor_that_is_not_offered_is_named_with_what_is(fake: FakeHost, record: Path) -> None:
    machine(fake, "powersave", "powersave")
    outcome = apply(fake.root, wish_for("turbo", ""), record)
    assert outcome.refused == (
        "policies 0-1: scaling_governor can be performance, powersave, not 'turbo'",
    )
    assert read(fake) == ["powersave", "powersave"]
    assert not record.exists()


@pytest.mark.row("H2")
def test_policies_that_refuse_do_not_stop_the_others_and_are_one_sentence(
    fake: FakeHost, record: Path
) -> None:
    machine(fake, *["powersave"] * 4)
    outcome = apply(Refusing(fake.root.path), PERFORMANCE, record)
    assert [change.policy for change in outcome.changes] == ["policy0", "policy3"]
    assert outcome.refused == (
        "policies 1-2: writing 'performance' to scaling_governor: Invalid argument",
    )


def test_a_restore_that_is_refused_keeps_the_record_for_the_next(
    fake: FakeHost, record: Path
) -> None:
    machine(fake, "powersave", "powersave")
    apply(fake.root, PERFORMANCE, record)
    assert restore(Refusing(fake.root.path), record).refused
    assert record.exists()
    assert [change.policy for change in restore(fake.root, record).changes] == ["policy1"]
    assert not record.exists()


@pytest.mark.row("H2")
def test_without_the_right_to_write_nothing_is_tried_or_recorded(
    fake: FakeHost, record: Path
) -> None:
    machine(fake, "powersave", "schedutil", "performance", "powersave")
    outcome = apply(ReadOnly(fake.root.path), PERFORMANCE, record)
    assert outcome.needs_root
    assert outcome.refused == (
        "policies 0,3: scaling_governor is 'powersave', not 'performance', and only root may "
        "change it",
        "policy 1: scaling_governor is 'schedutil', not 'performance', and only root may change it",
    )
    assert not record.parent.exists()


def test_what_root_has_set_already_needs_no_right(fake: FakeHost, record: Path) -> None:
    machine(fake, "performance")
    assert apply(ReadOnly(fake.root.path), PERFORMANCE, record) == Outcome()


def test_a_policy_that_went_away_does_not_hold_the_record(fake: FakeHost, record: Path) -> None:
    machine(fake, "powersave", "powersave")
    apply(fake.root, PERFORMANCE, record)
    fake.root.at(f"{DIR}/policy1/scaling_governor").unlink()
    outcome = restore(fake.root, record)
    assert outcome.remarks == ("policy 1: scaling_governor is gone",)
    assert not record.exists()


def test_without_a_record_nothing_is_changed(fake: FakeHost, tmp_path: Path) -> None:
    machine(fake, "powersave")
    (tmp_path / "file").touch()
    outcome = apply(fake.root, PERFORMANCE, tmp_path / "file" / "governor.json")
    assert "nothing was changed" in outcome.refused[0]
    assert read(fake) == ["powersave"]


def test_a_damaged_record_stops_both_ways(fake: FakeHost, record: Path) -> None:
    machine(fake, "powersave")
    record.parent.mkdir(mode=0o700)
    record.write_text('{"boot": "boot-1", "previous": {"../policy0": {}}, "ours": []}')
    for outcome in (restore(fake.root, record), apply(fake.root, PERFORMANCE, record)):
        assert outcome.changes == []
        assert "remove it" in outcome.refused[-1]
    assert read(fake) == ["powersave"]


@pytest.mark.parametrize(
    "files", [machines.n100(), machines.i5_14600k()], ids=["n100", "i5-14600k"]
)
def test_the_preference_that_performance_takes_over_is_back_after(
    fake: FakeHost, record: Path, files: machines.Files
) -> None:
    fake.put(files)
    kernel = Pstate(fake.root.path)
    assert apply(kernel, PERFORMANCE, record).refused == ()
    assert set(read(fake, E)) == {"performance"}
    assert restore(kernel, record).refused == ()
    assert set(read(fake)) == {"powersave"}
    assert set(read(fake, E)) == {"balance_performance"}
    assert not record.exists()


def test_a_driver_that_forgets_the_preference_is_reminded(fake: FakeHost, record: Path) -> None:
    fake.put(machines.n100())
    apply(Pstate(fake.root.path), PERFORMANCE, record)
    # Another one keeps `performance` when the governor goes: what was saved is lost.
    restore(Pstate(fake.root.path, dict.fromkeys(_policies(fake), "performance")), record)
    assert set(read(fake, E)) == {"balance_performance"}


def _policies(fake: FakeHost) -> list[str]:
    return [path.rsplit("/", 1)[0] for path in fake.root.glob(f"{DIR}/policy*/{G}")]


def test_a_preference_alone_is_set_and_the_governor_not_touched(
    fake: FakeHost, record: Path
) -> None:
    fake.put(machines.n100())
    kernel = Pstate(fake.root.path)
    outcome = apply(kernel, wish_for("", "performance"), record)
    assert {change.knob for change in outcome.changes} == {E}
    assert set(read(fake, E)) == {"performance"}
    set_by_somebody(fake, 0, "performance")
    restore(kernel, record)
    assert read(fake) == ["performance", "powersave", "powersave", "powersave"]
    assert read(fake, E)[1:] == ["balance_performance"] * 3
    assert record.exists()  # for policy 0, once the governor lets it


def test_governor_and_preference_together_go_governor_first(fake: FakeHost, record: Path) -> None:
    fake.put(machines.n100())
    kernel = Pstate(fake.root.path)
    for n in range(4):
        kernel.write_text(f"{DIR}/policy{n}/{G}", "performance")
    outcome = apply(kernel, wish_for("powersave", "performance"), record)
    assert outcome.refused == ()
    assert (set(read(fake)), set(read(fake, E))) == ({"powersave"}, {"performance"})
    restore(kernel, record)
    assert set(read(fake)) == {"performance"}


def test_a_preference_that_the_governor_forbids_is_named_and_not_tried(
    fake: FakeHost, record: Path
) -> None:
    fake.put(machines.n100())
    outcome = apply(Pstate(fake.root.path), wish_for("performance", "balance_power"), record)
    assert outcome.refused == (
        "policies 0-3: energy_performance_preference stays 'performance' as long as the governor "
        "is 'performance'",
    )
    assert set(read(fake)) == {"performance"}


def test_a_machine_without_the_preference_says_so(fake: FakeHost, record: Path) -> None:
    fake.put(machines.raspberry_pi_5())
    outcome = apply(fake.root, wish_for("", "performance"), record)
    assert outcome.refused == ("policy 0: there is no energy_performance_preference",)


@pytest.mark.parametrize(
    ("governor", "preference", "wish"),
    [("", "", {}), ("performance", "", {G: "performance"}), ("", "power", {E: "power"})],
)
def test_an_empty_setting_wishes_nothing(governor: str, preference: str, wish: Wish) -> None:
    assert wish_for(governor, preference) == wish
