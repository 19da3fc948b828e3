"""Memory: is there enough, does the copy of the model fit, and where would the kernel swap to?"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from qwend.cli.amounts import number, part
from qwend.cli.doctor.finding import Finding, note, ok, warn
from qwend.cli.doctor.scene import Scene
from qwend.errors import HostError
from qwend.host.memory import available_bytes
from qwend.host.mounts import Mount, mount_of
from qwend.host.space import MEMORY_RESERVE_BYTES
from qwend.host.swap import Swap, swaps_in_use

# Below this the kernel drops what programs are about to read, and everything on the box crawls.
SHORT_BYTES = 2 * MEMORY_RESERVE_BYTES
_MOUNT_UNIT = "run-qwend-model.mount"
_SWAPFILE = "/etc/dphys-swapfile"


def check_memory(scene: Scene) -> Iterator[Finding]:
    """What is left beside the daemon."""
    try:
        free = available_bytes(scene.root)
    except HostError as error:
        yield note("memory", f"not known: {error}")
        return
    used = part(scene.status, "memory")
    ours = number(used, "front_rss_bytes") + number(used, "engine_rss_bytes")
    what = f"{_size(free)} free{f'; qwend uses {_size(ours)}' if ours else ''}"
    if free < SHORT_BYTES:
        yield warn(
            "memory",
            what,
            "When it runs out, the kernel ends the engine first.",
            "a smaller model, or a smaller `context` under [model] in the configuration",
        )
    else:
        yield ok("memory", what)


def check_copy(scene: Scene) -> Iterator[Finding]:
    """Whether the model stays in memory over restarts, and whether there is room for that."""
    model = part(scene.status, "model")
    size = number(model, "bytes")
    plan = part(model, "memory")
    if not size:
        return
    what = f"{_size(size)}, {plan.get('policy', '')}".rstrip(", ")
    if model.get("warm") is True:
        yield ok("model", f"{what}: a copy in memory makes the next start quick")
        return
    place = _copies(scene)
    mount = _mount_of(scene, place)
    limit = mount.limit_bytes if mount else None
    if limit is not None and limit < size and mount is not None:
        yield warn(
            "model",
            f"{what}: no copy in memory, for {mount.place} holds {_size(limit)}",
            "Each start reads the disk.",
            _more_room(scene, mount, size),
        )
    else:
        why = str(plan.get("reason", "")) or "Each start reads the disk."
        yield note("model", f"{what}: no copy in memory", why[:1].upper() + why[1:])


def check_swap(scene: Scene) -> Iterator[Finding]:
    """Swap on an SD card is slow enough to stop the box, and wears the card out."""
    swaps = swaps_in_use(scene.root)
    on_card = [swap for swap in swaps if _is_sd_card(scene, _device(scene, swap))]
    if on_card:
        names = ", ".join(swap.name for swap in on_card)
        yield warn(
            "swap",
            f"on an SD card ({names})",
            "The box stalls while it swaps, and the card wears out; zram does it in memory.",
            _away_with(scene, on_card[0]),
        )
    elif swaps:
        kinds = ", ".join(
            f"{swap.name}{' (in memory)' if _is_zram(swap) else ''}" for swap in swaps
        )
        yield ok("swap", f"{kinds}, {_size(sum(swap.size_bytes for swap in swaps))}")
    else:
        yield ok("swap", "none")


def check_locked(scene: Scene) -> Iterator[Finding]:
    """Whether the weights are held in memory where there is swap."""
    memory = part(part(scene.status, "engine"), "memory")
    refused = memory.get("lock_refused")
    if isinstance(refused, str) and refused:
        yield warn(
            "lock",
            f"the weights can be swapped out: {refused}",
            "The first answer after a quiet time is then slow.",
            f"LimitMEMLOCK=infinity under [Service]: {scene.systemctl('edit qwend')}\n"
            f"{scene.systemctl('restart qwend')}",
        )


def _copies(scene: Scene) -> str:
    """Where the copy goes, as qwend/paths.py has it: beside the socket."""
    return str(Path(scene.socket).parent / "model")


def _more_room(scene: Scene, mount: Mount, size: float) -> str:
    if not scene.is_system:
        return "RuntimeDirectorySize=50% in /etc/systemd/logind.conf, then restart the machine"
    if mount.place != _copies(scene):
        return f"{scene.sudo}systemctl start {_MOUNT_UNIT}\n{scene.systemctl('restart qwend')}"
    megabytes = int(size * 1.1 / 2**20) + 1
    return (
        f"{scene.sudo}mount -o remount,size={megabytes}m {mount.place}\n"
        f"{scene.systemctl('restart qwend')}\n"
        f"for good: {scene.sudo}systemctl edit --full {_MOUNT_UNIT}"
    )


def _mount_of(scene: Scene, path: str) -> Mount | None:
    """None where the kernel does not say."""
    try:
        return mount_of(scene.root, path)
    except HostError:
        return None


def _is_sd_card(scene: Scene, device: str) -> bool:
    """An SD card, and not an eMMC, which has the same name (Documentation/mmc in the kernel)."""
    found = re.match(r"/dev/(mmcblk\d+)", device)
    return found is not None and scene.text(f"/sys/block/{found[1]}/device/type") == "SD"


def _device(scene: Scene, swap: Swap) -> str:
    if swap.name.startswith("/dev/"):
        return swap.name
    mount = _mount_of(scene, swap.name)
    return mount.device if mount else ""


def _away_with(scene: Scene, swap: Swap) -> str:
    if scene.root.exists(_SWAPFILE):
        return "sudo apt install zram-tools\nsudo systemctl disable --now dphys-swapfile"
    return f"sudo apt install zram-tools\nsudo swapoff {swap.name}, and take it out of /etc/fstab"


def _is_zram(swap: Swap) -> bool:
    """What is swapped there is compressed and stays in memory."""
    return swap.name.startswith("/dev/zram")


def _size(count: float) -> str:
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:,.0f} MiB"
