"""Memory that is given back: less is resident, and every byte reads as before."""

from __future__ import annotations

import mmap
import os
from pathlib import Path

import pytest

from qwend.engine.llama.memory import PIECE_BYTES, areas, release_file, release_zeros
from tests.support.tiny_model import opened

MIB = 1 << 20


def resident(kind: str) -> int:
    """Bytes; kind: RssFile or RssAnon or RssShmem, proc_pid_status(5)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(kind):
            return int(line.split()[1]) * 1024
    raise AssertionError(kind)


def test_pages_of_a_file_leave_and_read_as_before(tmp_path: Path) -> None:
    path = tmp_path / "weights"
    data = os.urandom(16 * MIB)
    path.write_bytes(data)
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapped:
        assert mapped[:] == data
        before = resident("RssFile")
        release_file(str(path))
        assert before - resident("RssFile") > 12 * MIB
        assert mapped[:] == data


def test_a_file_that_is_not_there_is_no_matter(tmp_path: Path) -> None:
    release_file(str(tmp_path / "nothing"))


def test_zeros_leave_and_everything_else_stays() -> None:
    before = areas()
    with mmap.mmap(-1, 16 * MIB, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as memory:
        memory.write(bytes(16 * MIB))
        memory[5 * MIB + 7] = 9
        held = resident("RssAnon")
        released = release_zeros(before)
        assert 13 * MIB <= released <= 15 * MIB
        assert held - resident("RssAnon") > 12 * MIB
        assert memory[5 * MIB + 7] == 9
        assert bytes(memory[:]).count(0) == 16 * MIB - 1


def test_what_was_there_before_is_not_looked_at() -> None:
    with mmap.mmap(-1, 4 * PIECE_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as memory:
        memory.write(bytes(4 * PIECE_BYTES))
        held = resident("RssAnon")
        release_zeros(areas())
        assert held - resident("RssAnon") < PIECE_BYTES


@pytest.mark.llama
def test_an_empty_cache_takes_no_memory(guide_model: Path) -> None:
    # 65,536 cells of the guide model are 64 MiB of keys and values.
    with opened(guide_model, cells=1024):
        small = resident("RssAnon")
    with opened(guide_model, cells=65_536):
        assert resident("RssAnon") - small < 16 * MIB
