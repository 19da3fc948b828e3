from __future__ import annotations

import asyncio
import os
from pathlib import Path

from scripts.bench_support.peers.memory import PeakPss, Pss, pss_of

ROLLUP = """55d0-7ffe ---p 00000000 00:00 0                  [rollup]
Rss:              900 kB
Pss:              512 kB
Pss_Dirty:         88 kB
Pss_Anon:          84 kB
Pss_Shmem:         28 kB
"""


def test_the_sum_is_read_and_what_of_it_is_in_files_in_memory() -> None:
    assert Pss.of(ROLLUP) == Pss(512 * 1024, 28 * 1024)


def test_processes_are_added_up_and_those_that_have_ended_count_nothing(tmp_path: Path) -> None:
    for pid in (7, 8):
        (tmp_path / str(pid)).mkdir()
        (tmp_path / str(pid) / "smaps_rollup").write_text(ROLLUP)
    assert pss_of([7, 8, 9], tmp_path) == Pss(1024 * 1024, 56 * 1024)


def test_the_peak_of_this_process_is_seen() -> None:
    async def watch() -> Pss:
        async with PeakPss(lambda: [os.getpid()], every_s=0) as seen:
            held = b"x" * (32 << 20)
            async with asyncio.timeout(5):
                while seen.peak.total < len(held):
                    await asyncio.sleep(0)
            del held
        return seen.peak

    assert asyncio.run(watch()).total > 32 << 20
