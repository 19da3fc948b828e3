"""What this machine is, in one line.

Sources: Documentation/devicetree (the property `model` of the root), /sys/class/dmi/id, proc(5);
arch/arm64/include/asm/cputype.h for the part numbers of Arm's cores.
"""

from __future__ import annotations

from collections import Counter

from qwend.cli.doctor.scene import Scene

_ARM = "0x41"
_ARM_PARTS = {
    "0xd03": "Cortex-A53",
    "0xd04": "Cortex-A35",
    "0xd05": "Cortex-A55",
    "0xd07": "Cortex-A57",
    "0xd08": "Cortex-A72",
    "0xd09": "Cortex-A73",
    "0xd0a": "Cortex-A75",
    "0xd0b": "Cortex-A76",
    "0xd0c": "Neoverse-N1",
    "0xd41": "Cortex-A78",
    "0xd42": "Cortex-A78AE",
}
# What firmware says that was never filled in.
_EMPTY = ("", "To Be Filled By O.E.M.", "System Product Name", "Default string")


def machine(scene: Scene) -> str:
    """Board, cores, memory and system; what is not known is left out."""
    board = scene.text("/proc/device-tree/model").rstrip("\0")
    product = scene.text("/sys/class/dmi/id/product_name")
    parts = [board or (product if product not in _EMPTY else ""), _cores(scene)]
    parts += [_memory(scene), _system(scene)]
    return ", ".join(part for part in parts if part)


def _cores(scene: Scene) -> str:
    names: Counter[str] = Counter()
    fields: dict[str, str] = {}
    for line in (*scene.text("/proc/cpuinfo").splitlines(), "processor : end"):
        key, _, value = (word.strip() for word in line.partition(":"))
        if key == "processor" and fields:
            names[_name(fields)] += 1
            fields = {}
        fields[key] = value
    return " + ".join(f"{count} × {name or 'CPU'}" for name, count in names.items())


def _name(fields: dict[str, str]) -> str:
    part = fields.get("CPU part", "")
    if fields.get("CPU implementer") == _ARM and part in _ARM_PARTS:
        return _ARM_PARTS[part]
    words = fields.get("model name", "").replace("(R)", "").replace("(TM)", "")
    return " ".join(words.partition(" @ ")[0].split())


def _memory(scene: Scene) -> str:
    for line in scene.text("/proc/meminfo").splitlines():
        words = line.split()
        if line.startswith("MemTotal:") and len(words) > 1 and words[1].isdigit():
            return f"{int(words[1]) / 2**20:.1f} GiB"
    return ""


def _system(scene: Scene) -> str:
    for line in scene.text("/etc/os-release").splitlines():
        if line.startswith("PRETTY_NAME="):
            return line.partition("=")[2].strip('"')
    return ""
