"""Available memory is the machine's figure or the control group's, whichever is less."""

from __future__ import annotations

import pytest

from qwend.errors import HostError
from qwend.host.memory import available_bytes, before_oom_bytes, total_bytes

from .conftest import FakeHost

MEMINFO = "MemTotal:  8000 kB\nMemFree:  10 kB\nMemAvailable:    4000 kB\n"


def test_the_machine_has_what_meminfo_says(fake: FakeHost) -> None:
    fake.put({"/proc/meminfo": MEMINFO})
    assert available_bytes(fake.root) == 4000 * 1024


def test_a_tighter_control_group_wins(fake: FakeHost) -> None:
    fake.put(
        {
            "/proc/meminfo": MEMINFO,
            "/proc/self/cgroup": "0::/\n",
            "/sys/fs/cgroup/memory.max": "5000\n",
            "/sys/fs/cgroup/memory.current": "1000\n",
        }
    )
    assert available_bytes(fake.root) == 4000


def test_before_the_kernel_kills_all_cache_of_files_is_dropped(fake: FakeHost) -> None:
    fake.put(
        {
            "/proc/meminfo": MEMINFO,
            "/proc/self/cgroup": "0::/\n",
            "/sys/fs/cgroup/memory.max": "5000\n",
            "/sys/fs/cgroup/memory.current": "4000\n",
            "/sys/fs/cgroup/memory.stat": "inactive_file 500\nactive_file 1500\nshmem 900\n",
        }
    )
    assert before_oom_bytes(fake.root) == 3000
    assert available_bytes(fake.root) == 1500
    assert total_bytes(fake.root) == 8000 * 1024


@pytest.mark.parametrize(
    "text", ["", "MemFree: 1 kB\n", "MemAvailable: lots\n", "MemAvailable: 5 MB\n", "MemAvailable:"]
)
def test_a_kernel_that_does_not_say_is_an_error(fake: FakeHost, text: str) -> None:
    fake.put({"/proc/meminfo": text})
    with pytest.raises(HostError, match="/proc/meminfo"):
        available_bytes(fake.root)
