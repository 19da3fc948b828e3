"""What the doctor says of memory, disk, clock and systemd."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from qwend.cli.doctor import memory, service, storage
from qwend.cli.doctor.finding import Finding, Level
from qwend.cli.doctor.scene import DiskRead
from tests.cli.doctor_scene import PID, READY, scene, status

SWAPS = "Filename\tType\tSize\tUsed\tPriority\n"
ROOT_ON_CARD = "25 1 179:2 / / rw - ext4 /dev/mmcblk0p2 rw\n"
MOUNTS = [("/run", "100m"), ("/run/qwend/model", "1g")]
NOW = 1_800_000_000.0  # 2027
IN_SLICE = {f"/proc/{PID}/cgroup": "0::/qwend.slice/qwend.service\n"}
WEIGHT = "/sys/fs/cgroup/qwend.slice/cpu.weight"


def only(findings: Iterable[Finding]) -> Finding:
    (finding,) = findings
    return finding


def meminfo(free_mib: int) -> dict[str, str]:
    return {"/proc/meminfo": f"MemTotal: 8000000 kB\nMemAvailable: {free_mib << 10} kB\n"}


def card(kind: str) -> dict[str, str]:
    return {"/sys/block/mmcblk0/device/type": f"{kind}\n", "/proc/self/mountinfo": ROOT_ON_CARD}


def tmpfs(place: str, size: str) -> dict[str, str]:
    return {"/proc/self/mountinfo": f"30 1 0:40 / {place} rw - tmpfs tmpfs rw,size={size}\n"}


@pytest.mark.parametrize(("free", "level"), [(5000, Level.OK), (100, Level.WARN)])
def test_memory_that_is_left(tmp_path: Path, free: int, level: Level) -> None:
    found = only(memory.check_memory(scene(tmp_path, meminfo(free), status=READY)))

    assert found.level is level
    assert "qwend uses 528 MiB" in found.what


def test_a_copy_in_memory_is_good(tmp_path: Path) -> None:
    found = only(memory.check_copy(scene(tmp_path, status=READY)))

    assert (found.level, found.what) == (
        Level.OK,
        "352 MiB, keep: a copy in memory makes the next start quick",
    )


@pytest.mark.parametrize(
    ("place", "mend"),
    [
        ("/run/qwend/model", "sudo mount -o remount,size=388m /run/qwend/model\n"),
        ("/run", "sudo systemctl start run-qwend-model.mount\n"),
    ],
)
def test_a_tmpfs_that_is_too_small_is_told_with_both_sizes(
    tmp_path: Path, place: str, mend: str
) -> None:
    told = status(model={"warm": False})
    found = only(memory.check_copy(scene(tmp_path, tmpfs(place, "204800k"), status=told)))

    assert found.level is Level.WARN
    assert found.what == f"352 MiB, keep: no copy in memory, for {place} holds 200 MiB"
    assert found.mend.startswith(mend)


def test_the_tmpfs_of_a_user_is_logins(tmp_path: Path) -> None:
    told = status(model={"warm": False})
    files = tmpfs("/run/user/1000", "100m")
    socket = Path("/run/user/1000/qwend/qwend.sock")

    found = only(memory.check_copy(scene(tmp_path, files, status=told, socket=socket)))

    assert found.what.endswith("for /run/user/1000 holds 100 MiB")
    assert "logind.conf" in found.mend


def test_of_two_mounts_the_deeper_one_counts(tmp_path: Path) -> None:
    lines = [tmpfs(place, size)["/proc/self/mountinfo"] for place, size in MOUNTS]
    told = status(model={"warm": False})

    for number, order in enumerate((lines, lines[::-1])):
        files = {"/proc/self/mountinfo": "".join(order)}
        found = only(memory.check_copy(scene(tmp_path / str(number), files, status=told)))
        assert found.level is Level.NOTE


def test_no_copy_by_choice_is_a_note_with_the_daemons_reason(tmp_path: Path) -> None:
    told = status(model={"warm": False, "memory": {"policy": "drop", "reason": "no room for two"}})

    found = only(memory.check_copy(scene(tmp_path, tmpfs("/run/qwend/model", "1g"), status=told)))

    assert (found.level, found.why) == (Level.NOTE, "No room for two")
    assert not list(memory.check_copy(scene(tmp_path)))


def test_swap_on_an_sd_card_is_warned_of(tmp_path: Path) -> None:
    partition = {"/proc/swaps": f"{SWAPS}/dev/mmcblk0p3 partition 102396 0 -2\n"}
    file = {"/proc/swaps": f"{SWAPS}/var/swap file 102396 0 -2\n", "/etc/dphys-swapfile": ""}

    first = only(memory.check_swap(scene(tmp_path / "1", {**card("SD"), **partition})))
    second = only(memory.check_swap(scene(tmp_path / "2", {**card("SD"), **file})))

    assert [first.level, second.level] == [Level.WARN, Level.WARN]
    assert "swapoff /dev/mmcblk0p3" in first.mend
    assert "dphys-swapfile" in second.mend


@pytest.mark.parametrize(
    ("swaps", "kind", "said"),
    [
        ("", "SD", "none"),
        ("/dev/zram0 partition 4194304 0 100\n", "SD", "/dev/zram0 (in memory), 4.0 GiB"),
        ("/dev/mmcblk0p3 partition 102396 0 -2\n", "MMC", "/dev/mmcblk0p3, 100 MiB"),
        ("/dev/nvme0n1p3 partition 102396 0 -2\n", "", "/dev/nvme0n1p3, 100 MiB"),
    ],
)
def test_other_swap_is_fine(tmp_path: Path, swaps: str, kind: str, said: str) -> None:
    files = {**card(kind), "/proc/swaps": SWAPS + swaps}

    found = only(memory.check_swap(scene(tmp_path, files)))

    assert (found.level, found.what) == (Level.OK, said)


def test_weights_that_could_not_be_locked(tmp_path: Path) -> None:
    told = status(engine={"memory": {"lock_refused": "8 MiB of 352"}})

    found = only(memory.check_locked(scene(tmp_path, status=told)))

    assert found.level is Level.WARN
    assert "LimitMEMLOCK" in found.mend
    assert not list(memory.check_locked(scene(tmp_path, status=READY)))


@pytest.mark.parametrize(
    ("megabytes_s", "level", "said"),
    [
        (400, Level.OK, "400 MB/s reading m.gguf"),
        (90, Level.OK, "90 MB/s: the model is read in 4 s"),
        (10, Level.WARN, "10 MB/s: the model is read in 37 s"),
    ],
)
def test_the_disk_is_judged_by_how_long_the_model_takes(
    tmp_path: Path, megabytes_s: int, level: Level, said: str
) -> None:
    read = DiskRead("/m.gguf", megabytes_s * 10**6, 1.0)

    found = only(storage.check_disk(scene(tmp_path, status=READY, disk=read)))

    assert (found.level, found.what) == (level, said)


def test_a_disk_that_was_not_read_is_not_judged(tmp_path: Path) -> None:
    assert not list(storage.check_disk(scene(tmp_path)))
    refused = DiskRead("/m.gguf", trouble="/m.gguf: Permission denied")
    assert only(storage.check_disk(scene(tmp_path, disk=refused))).level is Level.NOTE


@pytest.mark.parametrize(
    ("now", "synchronised", "level", "said"),
    [
        (0.0, False, Level.WRONG, "1970-01-01"),
        (NOW, False, Level.NOTE, "synchronised with nothing"),
        (NOW, True, Level.OK, ", synchronised"),
        (NOW, None, Level.OK, "2027-01-15 08:00 UTC"),
    ],
)
def test_the_clock(
    tmp_path: Path, now: float, synchronised: bool | None, level: Level, said: str
) -> None:
    found = only(storage.check_clock(scene(tmp_path, now_s=now, synchronised=synchronised)))

    assert found.level is level
    assert said in found.what


@pytest.mark.parametrize(
    ("library", "level", "said"),
    [
        ("/usr/lib/x86_64-linux-gnu/systemd/libsystemd-shared-252.so", Level.OK, "not a stop"),
        ("/usr/lib/systemd/libsystemd-shared-257.9-1~deb13u1.so", Level.OK, "257"),
        ("/lib/systemd/libsystemd-shared-249.so", Level.NOTE, "249, older"),
        ("/none", Level.NOTE, "nothing starts qwend"),
    ],
)
def test_what_this_systemd_can_do(tmp_path: Path, library: str, level: Level, said: str) -> None:
    found = only(service.check_systemd(scene(tmp_path, {library: ""})))

    assert found.level is level
    assert said in found.what


@pytest.mark.parametrize(
    ("files", "level"),
    [
        ({WEIGHT: "10000\n"}, Level.OK),
        ({WEIGHT: "100\n"}, Level.WARN),
        ({"/sys/fs/cgroup/cpu,cpuacct/qwend.slice/cpu.shares": "102400\n"}, Level.OK),
        ({"/sys/fs/cgroup/cpu/qwend.slice/cpu.shares": "1024\n"}, Level.WARN),
        ({}, Level.NOTE),
    ],
)
def test_the_weight_of_the_slice(tmp_path: Path, files: dict[str, str], level: Level) -> None:
    found = only(service.check_weight(scene(tmp_path, {**IN_SLICE, **files}, status=READY)))

    assert found.level is level


def test_the_weight_is_that_of_the_slice_at_the_top(tmp_path: Path) -> None:
    files = {
        f"/proc/{PID}/cgroup": "3:cpu:/\n1:name=systemd:/system.slice/qwend.service\n0::/x\n",
        "/sys/fs/cgroup/system.slice/cpu.weight": "100\n",
        "/sys/fs/cgroup/system.slice/qwend.service/cpu.weight": "10000\n",
    }

    found = only(service.check_weight(scene(tmp_path, files, status=READY)))

    assert found.level is Level.WARN
    assert found.what.startswith("system.slice weighs 100")


def test_a_daemon_started_by_hand_is_told_apart(tmp_path: Path) -> None:
    files = {f"/proc/{PID}/cgroup": "0::/user.slice/user-1000.slice/session-2.scope\n"}
    by_hand = scene(tmp_path, files, status=READY)

    assert only(service.check_boot(by_hand)).what == "this daemon was started by hand"
    assert not list(service.check_weight(by_hand))
    assert not list(service.check_boot(scene(tmp_path)))


def test_a_service_that_does_not_start_at_boot(tmp_path: Path) -> None:
    enabled = {"/etc/systemd/system/multi-user.target.wants/qwend.service": ""}

    found = only(service.check_boot(scene(tmp_path, IN_SLICE, status=READY)))

    assert (found.level, found.mend) == (Level.WARN, "sudo systemctl enable qwend")
    assert only(service.check_boot(scene(tmp_path, enabled, status=READY))).level is Level.OK


def test_a_users_daemon_wants_lingering(tmp_path: Path) -> None:
    group = "0::/user.slice/user-1000.slice/user@1000.service/app.slice/qwend.service\n"
    mine: dict[str, Any] = {
        "status": READY,
        "socket": Path("/run/user/1000/qwend/qwend.sock"),
    }
    files = {f"/proc/{PID}/cgroup": group}

    found = only(service.check_boot(scene(tmp_path, files, **mine)))

    assert (found.level, found.mend) == (Level.NOTE, "loginctl enable-linger ada")
    files["/var/lib/systemd/linger/ada"] = ""
    assert not list(service.check_boot(scene(tmp_path, files, **mine)))


def limits(files: str, locked: str) -> dict[str, str]:
    return {
        f"/proc/{PID}/limits": "Limit                     Soft Limit           Hard Limit\n"
        f"Max open files            {files:<20} 524288               files\n"
        f"Max locked memory         {locked:<20} 8388608              bytes\n"
    }


def test_limits_that_are_enough(tmp_path: Path) -> None:
    found = only(service.check_limits(scene(tmp_path, limits("4096", "unlimited"), status=READY)))

    assert (found.level, found.what) == (Level.OK, "4096 open files, any amount of locked memory")


def test_too_few_open_files(tmp_path: Path) -> None:
    by_hand = scene(tmp_path, limits("1024", "unlimited"), status=READY)

    found = next(service.check_limits(by_hand))

    assert found.level is Level.NOTE
    assert "ulimit -n" in found.mend


def test_locked_memory_matters_where_there_is_swap(tmp_path: Path) -> None:
    few = limits("4096", "8388608")
    swap = {"/proc/swaps": f"{SWAPS}/dev/sda2 partition 102396 0 -2\n"}

    without = only(service.check_limits(scene(tmp_path / "1", few, status=READY)))
    with_swap = only(service.check_limits(scene(tmp_path / "2", {**few, **swap}, status=READY)))

    assert without.level is Level.OK
    assert with_swap.what == "8 MiB may be locked, less than the model has"
