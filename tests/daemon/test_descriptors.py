"""How many connections a limit of open files leaves room for; each case in a process of its own."""

from __future__ import annotations

import resource
import subprocess
import sys

import pytest

from qwend.daemon.descriptors import RESERVED

ROOM = """
import resource, sys
from qwend.daemon.descriptors import room_for
soft, hard, wanted = map(int, sys.argv[1:])
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
print(room_for(wanted), *resource.getrlimit(resource.RLIMIT_NOFILE))
"""


@pytest.mark.row("D3")
@pytest.mark.parametrize(
    ("soft", "hard", "wanted", "room", "soft_after"),
    [
        (256, 512, 100, 100, 256),
        (256, 512, 400, 400, 400 + RESERVED),
        (256, 512, 1024, 512 - RESERVED, 512),
        (64, 64, 1024, 64 - RESERVED, 64),
        (20, 20, 1024, 1, 20),
    ],
)
def test_the_soft_limit_is_raised_as_far_as_is_needed_and_allowed(
    soft: int, hard: int, wanted: int, room: int, soft_after: int
) -> None:
    if resource.getrlimit(resource.RLIMIT_NOFILE)[1] < hard:
        pytest.skip("this machine allows fewer open files than the test needs")
    done = subprocess.run(
        [sys.executable, "-c", ROOM, str(soft), str(hard), str(wanted)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == [str(room), str(soft_after), str(hard)]
