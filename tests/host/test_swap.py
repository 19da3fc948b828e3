"""Swap is what the kernel lists, whatever it is called."""

from __future__ import annotations

import pytest

from qwend.host.swap import Swap, swaps_in_use

from .conftest import FakeHost

HEAD = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n"


@pytest.mark.parametrize(
    ("table", "found"),
    [
        (HEAD, ()),
        ("", ()),
        # Raspberry Pi OS 12: dphys-swapfile(8).
        (
            HEAD + "/var/swap                               file\t\t204796\t\t0\t\t-2\n",
            (Swap("/var/swap", 204796 * 1024),),
        ),
        (
            HEAD
            + "/dev/zram0                              partition\t1048572\t\t256\t\t100\n"
            + "/mnt/a\\040b/swap                       file\t\t8\t\t0\t\t-2\n",
            (Swap("/dev/zram0", 1048572 * 1024), Swap("/mnt/a\\040b/swap", 8192)),
        ),
        (HEAD + "broken\nline file lots\n", ()),
    ],
)
def test_what_is_listed_is_found(fake: FakeHost, table: str, found: tuple[Swap, ...]) -> None:
    fake.put({"/proc/swaps": table})
    assert swaps_in_use(fake.root) == found


def test_a_kernel_without_swap_has_no_table(fake: FakeHost) -> None:
    assert swaps_in_use(fake.root) == ()
