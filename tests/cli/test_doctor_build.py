"""What the doctor says of llama.cpp's build and of the processor."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest

from qwend.cli.doctor.build import check_features, check_openmp
from qwend.cli.doctor.finding import Finding, Level
from qwend.cli.doctor.machine import machine
from qwend.cli.doctor.processor import (
    check_governor,
    check_heat,
    check_threads,
    check_throttling,
)
from tests.cli.doctor_scene import PID, READY, scene, status

CPUFREQ = "/sys/devices/system/cpu/cpufreq"
ZONE = "/sys/class/thermal/thermal_zone0"
FIRMWARE = "/sys/devices/platform/soc/soc:firmware/get_throttled"
X86 = "processor\t: 0\nmodel name\t: Intel(R) N100 @ 0.80GHz\nflags\t: avx avx2 fma f16c{}\n\n"
ARM = (
    "processor\t: 0\nFeatures\t: asimd asimddp asimdhp\n"
    "CPU implementer\t: 0x41\nCPU part\t: 0xd0b\n\n"
)
PI5 = "NEON = 1 | ARM_FMA = 1 | FP16_VA = 1 | DOTPROD = 1 | REPACK = 1"


def only(findings: Iterable[Finding]) -> Finding:
    (finding,) = findings
    return finding


def cpuinfo(text: str) -> dict[str, str]:
    return {"/proc/cpuinfo": text}


def policy(**values: str) -> dict[str, str]:
    return {f"{CPUFREQ}/policy0/{name}": f"{value}\n" for name, value in values.items()}


def test_a_build_for_this_cpu_is_good(tmp_path: Path) -> None:
    found = only(
        check_features(
            scene(tmp_path, cpuinfo(X86.format(" avx512f")), status=READY, llama="0.3.36")
        )
    )

    assert found.level is Level.OK
    assert found.what == "for this CPU: AVX2, AVX512; llama-cpp-python 0.3.36, Python 3.11.2"


def test_a_build_without_what_the_cpu_has_is_named(tmp_path: Path) -> None:
    flags = cpuinfo(X86.format(" avx512f avx512_vnni avx_vnni"))
    found = only(check_features(scene(tmp_path, flags, status=READY)))

    assert found.level is Level.WARN
    assert found.what == "without AVX_VNNI, AVX512_VNNI, which this CPU has"
    assert "scripts/install" in found.mend


def test_amx_is_not_missed(tmp_path: Path) -> None:
    flags = cpuinfo(X86.format(" amx_int8 amx_tile"))

    assert only(check_features(scene(tmp_path, flags, status=READY))).level is Level.OK


@pytest.mark.parametrize(
    ("build", "level"),
    [(PI5, Level.OK), (PI5.replace("DOTPROD = 1", "DOTPROD = 0"), Level.WARN), ("", Level.WARN)],
)
def test_arm_features_have_the_names_of_arm(tmp_path: Path, build: str, level: Level) -> None:
    told = status(engine={"build": build})

    assert only(check_features(scene(tmp_path, cpuinfo(ARM), status=told))).level is level


def test_an_old_cpu_is_slow_and_nothing_mends_it(tmp_path: Path) -> None:
    found = only(check_features(scene(tmp_path, cpuinfo("flags : sse3 avx\n"), status=READY)))

    assert found.level is Level.NOTE
    assert "no AVX2" in found.what


def test_without_a_daemon_the_build_is_not_guessed(tmp_path: Path) -> None:
    found = only(check_features(scene(tmp_path, cpuinfo(X86.format("")))))

    assert found.level is Level.NOTE
    assert "the daemon does not answer" in found.what


def test_openmp_is_warned_of(tmp_path: Path) -> None:
    told = status(engine={"openmp": True})

    assert only(check_openmp(scene(tmp_path, status=told))).level is Level.WARN
    assert not list(check_openmp(scene(tmp_path, status=READY)))


def test_the_clock_that_stays_up_is_good(tmp_path: Path) -> None:
    files = policy(scaling_governor="performance", scaling_available_governors="performance")

    found = only(check_governor(scene(tmp_path, files)))

    assert (found.level, found.what) == (Level.OK, "performance")
    told = {"host": {"governor": {"wanted": "performance"}}}
    assert "set by qwend" in only(check_governor(scene(tmp_path, status=told))).what


@pytest.mark.parametrize("governor", ["ondemand", "schedutil", "powersave", "conservative"])
def test_a_governor_that_saves_power_is_to_be_changed(tmp_path: Path, governor: str) -> None:
    offered = f"{governor} performance"
    files = policy(scaling_governor=governor, scaling_available_governors=offered)

    found = only(check_governor(scene(tmp_path, files)))

    assert found.level is Level.WARN
    assert found.what.startswith(f"{governor}: ")
    assert "/etc/qwend/qwend.toml" in found.mend
    asked = status(host={"governor": {"wanted": "performance"}})
    again = only(check_governor(scene(tmp_path, status=asked)))
    assert again.mend == "sudo systemctl restart qwend-host qwend"
    mine = only(check_governor(scene(tmp_path, socket=Path("/run/user/1000/qwend/qwend.sock"))))
    assert mine.mend == 'sudo "$(command -v qwend)" host apply --governor performance'


@pytest.mark.parametrize(
    ("preference", "level"),
    [
        ("performance", Level.OK),
        ("balance_performance", Level.OK),
        ("balance_power", Level.WARN),
        ("power", Level.WARN),
    ],
)
def test_intels_powersave_is_judged_by_its_preference(
    tmp_path: Path, preference: str, level: Level
) -> None:
    files = policy(scaling_governor="powersave", energy_performance_preference=preference)

    found = only(check_governor(scene(tmp_path, files)))

    assert found.level is level
    assert f"powersave ({preference})" in found.what


def test_a_machine_without_frequencies_is_fine(tmp_path: Path) -> None:
    assert only(check_governor(scene(tmp_path))).level is Level.OK


@pytest.mark.parametrize(
    ("bits", "level", "said"),
    [
        ("0", Level.OK, "neither"),
        ("50005", Level.WRONG, "now: too little voltage, throttled"),
        ("50000", Level.WARN, "lately: too little voltage, throttled"),
        ("80008", Level.WRONG, "now: at its soft temperature limit"),
    ],
)
def test_the_firmware_of_a_raspberry_pi(tmp_path: Path, bits: str, level: Level, said: str) -> None:
    found = only(check_throttling(scene(tmp_path, {FIRMWARE: f"{bits}\n"})))

    assert found.level is level
    assert said in found.what
    assert ("power supply" in found.mend) == ("voltage" in found.mend + said and level != Level.OK)


def test_a_machine_without_that_firmware_says_nothing(tmp_path: Path) -> None:
    assert not list(check_throttling(scene(tmp_path)))


@pytest.mark.parametrize(("millidegrees", "level"), [(61_000, Level.OK), (82_000, Level.WARN)])
def test_heat_is_judged_by_where_the_machine_slows_down(
    tmp_path: Path, millidegrees: int, level: Level
) -> None:
    files = {
        f"{ZONE}/type": "cpu-thermal\n",
        f"{ZONE}/temp": f"{millidegrees}\n",
        f"{ZONE}/trip_point_0_type": "passive\n",
        f"{ZONE}/trip_point_0_temp": "85000\n",
    }

    found = only(check_heat(scene(tmp_path, files)))

    assert found.level is level
    assert f"{millidegrees // 1000} °C" in found.what
    assert "85 °C" in found.what


def test_without_a_sensor_nothing_is_said_of_heat(tmp_path: Path) -> None:
    assert not list(check_heat(scene(tmp_path)))


def test_threads_and_their_cpus(tmp_path: Path) -> None:
    told = status(host={"cpu": {"threads": 2, "cpus": [2, 3]}})

    assert only(check_threads(scene(tmp_path, status=told))).what == "2 threads on CPUs 2, 3"
    fewer = status(host=told["host"], engine={"threads_now": 1})
    assert only(check_threads(scene(tmp_path, status=fewer))).what == "1 thread"
    assert not list(check_threads(scene(tmp_path)))


def test_company_and_a_quota_are_told(tmp_path: Path) -> None:
    company = status(engine={"company": True, "threads_now": 1, "threads_alone": 2})
    quota = {
        f"/proc/{PID}/cgroup": "0::/qwend.slice/qwend.service\n",
        "/sys/fs/cgroup/qwend.slice/qwend.service/cpu.max": "150000 100000\n",
    }

    busy = only(check_threads(scene(tmp_path, status=company)))
    working = status(engine={**company["engine"], "running": 1})
    now = only(check_threads(scene(tmp_path, status=working)))
    limited = only(check_threads(scene(tmp_path, quota, status=READY)))

    assert (busy.level, busy.what) == (Level.NOTE, "1 of 2: another program used the CPU of late")
    assert now.what == "1 of 2: another program uses the CPU"
    assert limited.what == "2 threads; its control group allows 1.5 CPUs"


def test_a_raspberry_pi_by_its_name_and_cores(tmp_path: Path) -> None:
    files = {
        "/proc/device-tree/model": "Raspberry Pi 5 Model B Rev 1.0\0",
        "/proc/cpuinfo": ARM * 4,
        "/proc/meminfo": "MemTotal:        8245136 kB\n",
        "/etc/os-release": 'ID=debian\nPRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\n',
    }

    assert machine(scene(tmp_path, files)) == (
        "Raspberry Pi 5 Model B Rev 1.0, 4 × Cortex-A76, 7.9 GiB, Debian GNU/Linux 12 (bookworm)"
    )


def test_a_pc_by_its_cpu(tmp_path: Path) -> None:
    files = {
        "/proc/cpuinfo": X86.format("") * 2,
        "/sys/class/dmi/id/product_name": "To Be Filled By O.E.M.\n",
    }

    assert machine(scene(tmp_path, files)) == "2 × Intel N100"
    assert machine(scene(tmp_path / "empty")) == ""
