"""Flags as each kind of kernel writes them, and only those that every CPU has."""

from __future__ import annotations

import pytest

from qwend.host.cpu_flags import cpu_flags

from .conftest import FakeHost


@pytest.mark.parametrize(
    ("cpuinfo", "flags"),
    [
        ("processor\t: 0\nflags\t\t: fpu sse2 avx2\n\nprocessor\t: 1\nflags\t\t: fpu sse2 avx2\n",
         {"fpu", "sse2", "avx2"}),
        # Raspberry Pi 5.
        ("processor\t: 0\nFeatures\t: fp asimd asimddp\nCPU part\t: 0xd0b\n",
         {"fp", "asimd", "asimddp"}),
        # Two kinds of cores: what only the large ones have is of no use.
        ("Features\t: fp asimd asimddp\n\nFeatures\t: fp asimd\n", {"fp", "asimd"}),
        ("processor\t: 0\nisa\t\t: rv64imafdcv_zba_zvfh\n",
         {"i", "m", "a", "f", "d", "c", "v", "zba", "zvfh"}),
        ("processor\t: 0\n", set()),
    ],
)  # fmt: skip
def test_each_kind_of_machine_is_read(fake: FakeHost, cpuinfo: str, flags: set[str]) -> None:
    fake.put({"/proc/cpuinfo": cpuinfo})
    assert cpu_flags(fake.root) == flags


def test_a_machine_that_does_not_say_has_none(fake: FakeHost) -> None:
    assert cpu_flags(fake.root) == frozenset()
