"""Real machines as files below /sys: what their kernels show of CPUs, clocks and governors.

Facts, not copies, each from the public dump or documentation that stands above it. Files that
nobody here reads are left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

SYS = "/sys/devices/system/cpu"

ARM_GOVERNORS = "conservative ondemand userspace powersave performance schedutil"
# intel_pstate in active mode has two of its own (Documentation/admin-guide/pm/intel_pstate.rst);
# the preferences are those of github.com/NixOS/nixos-hardware pull 178.
PSTATE_GOVERNORS = "performance powersave"
PREFERENCES = "default performance balance_performance balance_power power"

Files = dict[str, str]


def cores(groups: Iterable[tuple[int, ...]], *, package: int = 0) -> Files:
    """topology/ of CPUs that come in groups of one physical core each."""
    files = {}
    for group in groups:
        listed = ",".join(map(str, group))
        for number in group:
            here = f"{SYS}/cpu{number}/topology"
            files[f"{here}/core_cpus_list"] = f"{listed}\n"
            files[f"{here}/thread_siblings_list"] = f"{listed}\n"
            files[f"{here}/physical_package_id"] = f"{package}\n"
    return files


def capacities(capacity: Mapping[int, int]) -> Files:
    return {f"{SYS}/cpu{n}/cpu_capacity": f"{value}\n" for n, value in capacity.items()}


def policy(
    cpus: Iterable[int],
    max_khz: int,
    *,
    governor: str,
    governors: str,
    preference: str = "",
) -> Files:
    """One policyN, and cpuN/cpufreq of its CPUs, which in sysfs are links to it."""
    numbers = list(cpus)
    here = f"{SYS}/cpufreq/policy{numbers[0]}"
    files = {
        f"{here}/affected_cpus": " ".join(map(str, numbers)) + "\n",
        f"{here}/related_cpus": " ".join(map(str, numbers)) + "\n",
        f"{here}/scaling_governor": f"{governor}\n",
        f"{here}/scaling_available_governors": f"{governors} \n",
    }
    if preference:
        files[f"{here}/energy_performance_preference"] = f"{preference}\n"
        files[f"{here}/energy_performance_available_preferences"] = f"{PREFERENCES} \n"
    for number in numbers:
        files[f"{SYS}/cpu{number}/cpufreq/cpuinfo_max_freq"] = f"{max_khz}\n"
    return files


def raspberry_pi_4() -> Files:
    """BCM2711, 4 Cortex-A72 of one policy: github.com/ThomasKaiser/sbc-bench issue 136 (policy,
    governors), github.com/geerlingguy/sbc-reviews issue 110 (600 to 1800 MHz). Its device tree has
    no capacity-dmips-mhz, and arch_topology.c then shows 1024 for all."""
    return {
        f"{SYS}/online": "0-3\n",
        **cores((n,) for n in range(4)),
        **capacities(dict.fromkeys(range(4), 1024)),
        **policy(range(4), 1_800_000, governor="ondemand", governors=ARM_GOVERNORS),
    }


def raspberry_pi_5() -> Files:
    """BCM2712, 4 Cortex-A76 of one policy: github.com/raspberrypi/linux issue 5876 (policy0, up to
    2400 MHz), github.com/hrw/arm-socs-table issue 96 (cores)."""
    return {
        f"{SYS}/online": "0-3\n",
        **cores((n,) for n in range(4)),
        **capacities(dict.fromkeys(range(4), 1024)),
        **policy(range(4), 2_400_000, governor="ondemand", governors=ARM_GOVERNORS),
    }


def rk3588() -> Files:
    """4 Cortex-A55, then 2 + 2 Cortex-A76, in policies 0, 4 and 6: rk3588s.dtsi
    (capacity-dmips-mhz 530 and 1024), github.com/armbian/linux-rockchip issue 360 (1800 MHz), and
    github.com/Googulator/linux-rk3588-midstream issue 3 (the two A76 clusters are binned apart:
    2256 here, 2304 in github.com/Joshua-Riek/ubuntu-rockchip issue 395). cpu_capacity is
    capacity-dmips-mhz times the clock, the highest being 1024 (topology_normalize_cpu_scale)."""
    capacity = dict.fromkeys(range(4), 530 * 1800 // 2304)
    capacity |= {4: 1024 * 2256 // 2304, 5: 1024 * 2256 // 2304, 6: 1024, 7: 1024}
    return {
        f"{SYS}/online": "0-7\n",
        **cores((n,) for n in range(8)),
        **capacities(capacity),
        **policy((0, 1, 2, 3), 1_800_000, governor="schedutil", governors=ARM_GOVERNORS),
        **policy((4, 5), 2_256_000, governor="schedutil", governors=ARM_GOVERNORS),
        **policy((6, 7), 2_304_000, governor="schedutil", governors=ARM_GOVERNORS),
    }


def n100() -> Files:
    """4 Gracemont cores without SMT at 3.4 GHz: github.com/ThomasKaiser/sbc-bench issue 63. Not
    hybrid, so its counters are /sys/devices/cpu. intel_pstate has a policy for each CPU."""
    files = {f"{SYS}/online": "0-3\n", **cores((n,) for n in range(4))}
    for n in range(4):
        files |= policy(
            (n,),
            3_400_000,
            governor="powersave",
            governors=PSTATE_GOVERNORS,
            preference="balance_performance",
        )
    return files


def i5_14600k() -> Files:
    """6 P cores with SMT (CPUs 0-11, siblings next to each other) at 5.4 GHz and 8 E cores without
    (12-19) at 4.1 GHz: github.com/ublue-os/bazzite issue 5122, Linux 6.19, where cpu_capacity is
    there and reads 1024 for both kinds."""
    files = {
        f"{SYS}/online": "0-19\n",
        "/sys/devices/cpu_core/cpus": "0-11\n",
        "/sys/devices/cpu_atom/cpus": "12-19\n",
        **cores([(n, n + 1) for n in range(0, 12, 2)] + [(n,) for n in range(12, 20)]),
        **capacities(dict.fromkeys(range(20), 1024)),
    }
    for n in range(20):
        files |= policy(
            (n,),
            5_400_000 if n < 12 else 4_100_000,
            governor="powersave",
            governors=PSTATE_GOVERNORS,
            preference="balance_performance",
        )
    return files


def i9_13900kf() -> Files:
    """8 P cores of which two are favoured (5.8 GHz, the others 5.5), 16 E cores at 4.3 GHz:
    github.com/FeralInteractive/gamemode issue 498. No cpu_capacity, as before Linux 6.16."""
    files = {
        f"{SYS}/online": "0-31\n",
        "/sys/devices/cpu_core/cpus": "0-15\n",
        "/sys/devices/cpu_atom/cpus": "16-31\n",
        **cores([(n, n + 1) for n in range(0, 16, 2)] + [(n,) for n in range(16, 32)]),
    }
    for n in range(32):
        files |= policy(
            (n,),
            4_300_000 if n >= 16 else 5_800_000 if 8 <= n < 12 else 5_500_000,
            governor="powersave",
            governors=PSTATE_GOVERNORS,
            preference="balance_performance",
        )
    return files


def virtual_machine() -> Files:
    """A KVM guest with 2 CPUs, Linux 6.18, seen: cpufreq/ is there and empty, cpu_capacity too."""
    return {
        f"{SYS}/online": "0-1\n",
        **cores(((0,), (1,))),
        **capacities({0: 1024, 1: 1024}),
    }


def two_sockets() -> Files:
    """2 packages of 2 cores with SMT, numbered as Linux does it: first the first thread of every
    core (Documentation/admin-guide/cputopology.rst names the files)."""
    return {
        f"{SYS}/online": "0-7\n",
        **cores(((0, 4), (1, 5))),
        **cores(((2, 6), (3, 7)), package=1),
    }
