"""A cpufreq tree to lay over /sys, one policy a CPU, as admin-guide/pm/cpufreq.rst has it."""

from __future__ import annotations

from pathlib import Path

CPUFREQ = "/sys/devices/system/cpu/cpufreq"
GOVERNORS = ("performance", "powersave", "schedutil")


def write_fake_cpu(directory: Path, governor: str, cpus: int) -> None:
    """directory: laid over /sys/devices/system/cpu. governor: of every policy to begin with."""
    for cpu in range(cpus):
        policy = directory / "cpufreq" / f"policy{cpu}"
        policy.mkdir(parents=True)
        files = {
            "scaling_governor": governor,
            "scaling_available_governors": " ".join(GOVERNORS),
            "scaling_driver": "fake",
            "affected_cpus": str(cpu),
            "related_cpus": str(cpu),
            "scaling_min_freq": "800000",
            "scaling_max_freq": "3600000",
            "scaling_cur_freq": "1200000",
            "cpuinfo_min_freq": "800000",
            "cpuinfo_max_freq": "3600000",
        }
        for name, text in files.items():
            (policy / name).write_text(text + "\n")
        (directory / f"cpu{cpu}").mkdir(exist_ok=True)
        (directory / f"cpu{cpu}" / "cpufreq").symlink_to(f"../cpufreq/policy{cpu}")
