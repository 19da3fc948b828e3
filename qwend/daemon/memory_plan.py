"""From model, configuration and machine to how the weights are kept in memory.

Owns the estimate of what a model needs. What was chosen holds for as long as the daemon runs, so
that the engine after a death costs what the one before it cost.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from qwend.config import Config
from qwend.errors import HostError
from qwend.host.cpu_flags import cpu_flags
from qwend.host.memory import available_bytes
from qwend.host.memory_policy import AtHand, Choice, Need, Policy, choose_policy, fits
from qwend.host.mounts import is_tmpfs
from qwend.host.root import HostRoot
from qwend.host.space import free_for_copy
from qwend.host.swap import swaps_in_use
from qwend.models import GgufFacts
from qwend.models.ggml_types import repacked_types

# Both processes besides weights and cells: 122 MiB in PSS with a model of 0.5B, 46 of them its
# vocabulary; half as much again for the buffers of larger ones.
PROCESSES_BYTES = 192 * 2**20
# Of one number in the KV cache; q8_0 has 34 bytes for 32 (ggml-common.h, block_q8_0).
_KV_BYTES = {"f16": 2.0, "q8_0": 34 / 32}


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """copy_in_memory: a warm copy is, or would be, on a file system in memory.

    lock: the weights are to be locked against swap; lock_reason: why, or why not.
    """

    policy: Policy = Policy.KEEP
    reason: str = ""
    copy_in_memory: bool = True
    lock: bool = False
    lock_reason: str = ""

    @property
    def is_repacked(self) -> bool:
        return self.policy is not Policy.NO_REPACK

    @property
    def is_mapped(self) -> bool:
        """The engine computes from the mapped file, as far as it has not repacked it."""
        return self.policy is not Policy.DROP


def needed(config: Config, facts: GgufFacts, file_bytes: int, host: HostRoot) -> Need:
    repacked = repacked_types(cpu_flags(host))
    cell_numbers = 2 * facts.layers * facts.head_count_kv * facts.head_width
    cells_bytes = config.model.context * cell_numbers * _KV_BYTES[config.engine.kv_type]
    return Need(
        file_bytes,
        sum(size for name, size in facts.matrix_bytes.items() if name in repacked),
        PROCESSES_BYTES + int(cells_bytes),
    )


def plan_memory(
    config: Config, need: Need, host: HostRoot, warm_dir: Path, *, copy_bytes: int, makes_copy: bool
) -> MemoryPlan:
    """copy_bytes: of a copy that is there already. makes_copy: there is one, or is to be one."""
    try:
        in_memory = is_tmpfs(host, warm_dir)
    except HostError:
        in_memory = False
    if not in_memory:  # its pages are the kernel's to take back
        copy_bytes, makes_copy = 0, False
    choice = _choice(config, need, host, copy_bytes, makes_copy)
    lock, lock_reason = _locking(config, host)
    return MemoryPlan(choice.policy, choice.reason, in_memory, lock, lock_reason)


def fits_beside(config: Config, need: Need, host: HostRoot, warm_dir: Path) -> bool:
    """Whether the model can be held, as it is wanted, without anything that is there being freed.

    False where that cannot be known: what a GPU has left is not.
    """
    if config.model.gpu_layers:
        return False
    try:
        copies = config.model.warm_copy != "off" and is_tmpfs(host, warm_dir)
        if copies and free_for_copy(host, warm_dir) < need.file_bytes:
            return False
        at_hand = AtHand(available_bytes(host), makes_copy=copies)
    except (HostError, OSError):
        return False
    if config.model.memory == Policy.NO_REPACK or (config.model.memory == Policy.DROP and copies):
        need = replace(need, repacked_bytes=0)  # the weights once
    return fits(need, at_hand)


def lock_refused(setting: str, description: Mapping[str, Any]) -> str:
    """Why weights that are to be locked are not: a reason to be `degraded`; empty: there is none.

    setting: `lock` under [model]; under auto a refusal is no more than a note in `status`.
    description: what the engine says of itself.
    """
    refused = str(description.get("memory", {}).get("lock_refused", ""))
    if setting != "on" or not refused:
        return ""
    return (
        f"the weights are not locked against swap: {refused}; put LimitMEMLOCK=infinity into the "
        "unit, or `ulimit -l unlimited` before a start by hand"
    )


def _choice(
    config: Config, need: Need, host: HostRoot, copy_bytes: int, makes_copy: bool
) -> Choice:
    if config.model.memory != "auto":
        return Choice(Policy(config.model.memory), "as configured")
    try:
        at_hand = AtHand(
            available_bytes(host),
            copy_bytes=copy_bytes,
            makes_copy=makes_copy,
            may_drop=config.model.warm_copy != "required",
        )
    except HostError as error:
        return Choice(Policy.KEEP, f"the memory at hand is not known: {error}")
    return choose_policy(need, at_hand)


def _locking(config: Config, host: HostRoot) -> tuple[bool, str]:
    if config.model.lock != "auto":
        return config.model.lock == "on", "as configured"
    swaps = swaps_in_use(host)
    if not swaps:
        return False, "there is no swap"
    # Weights are as good as random numbers: what swap in memory (zram) takes of them is not made
    # smaller, and is slower all the same.
    return True, f"there is swap: {', '.join(swap.name for swap in swaps)}"
