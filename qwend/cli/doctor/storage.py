"""The disk that models are read from, and the clock: what a small board is short of."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

from qwend.cli.amounts import number, part
from qwend.cli.doctor.finding import Finding, note, ok, warn, wrong
from qwend.cli.doctor.scene import Scene

# A board without a battery begins in 1970, or at the date of its systemd; this code is younger.
BUILT_S = 1_767_225_600  # 2026-01-01
# An SD card of class A1 reads 20 to 40 MB/s in a Raspberry Pi 4; less is a broken or a false one.
SLOW_BYTES_S = 15e6
# A start that takes longer than this is felt each time.
LONG_LOAD_S = 30.0


def check_disk(scene: Scene) -> Iterator[Finding]:
    """How long the model takes from the disk, where that is read."""
    read = scene.disk
    if read is None:
        return
    if read.trouble:
        yield note("disk", f"its speed is not known: {read.trouble}")
        return
    rate = read.bytes_per_s
    size = number(part(scene.status, "model"), "bytes")
    load_s = size / rate if size else 0.0
    what = f"{rate / 1e6:,.0f} MB/s reading {os.path.basename(read.path)}"
    if load_s >= 1:
        what = f"{rate / 1e6:,.0f} MB/s: the model is read in {load_s:.0f} s"
    if rate < SLOW_BYTES_S or load_s > LONG_LOAD_S:
        yield warn(
            "disk",
            what,
            "A start without the copy in memory takes that long.",
            "a faster card (class A2) or an SSD, for the models directory at least",
        )
    else:
        yield ok("disk", what)


def check_clock(scene: Scene) -> Iterator[Finding]:
    """Sane, and set by somebody."""
    shown = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(scene.now_s))
    if scene.now_s < BUILT_S:
        yield wrong(
            "clock",
            f"{shown}, which cannot be",
            "Logs cannot be read, downloads fail for want of a valid certificate.",
            "sudo timedatectl set-ntp true\nwithout a network: a clock with a battery",
        )
    elif scene.synchronised is False:
        yield note(
            "clock", f"{shown}, synchronised with nothing", "", "sudo timedatectl set-ntp true"
        )
    else:
        yield ok("clock", f"{shown}{', synchronised' if scene.synchronised else ''}")
