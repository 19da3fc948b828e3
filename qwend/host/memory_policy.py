"""Which of the model's two forms stay in memory: the file's, and the one quicker to compute.

llama.cpp rearranges the matrices of some quantizations when it loads them ("repacks"), which costs
their size once more and saves a fifth of each step. Three ways to live with that:

    keep       the copy of the file and the repacked matrices: quick steps, quick next start
    drop       the weights once, in the engine's own memory: quick steps, each start reads the disk
    no-repack  the weights once, straight from the mapped file: slower steps, quick next start

Rule 1: the choice is a pure function of figures, and comes with its reason in words.
Rule 2: this file does not know how a policy is carried out.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from qwend.host.space import MEMORY_RESERVE_BYTES


class Policy(StrEnum):
    KEEP = "keep"
    DROP = "drop"
    NO_REPACK = "no-repack"


@dataclass(frozen=True, slots=True)
class Need:
    """What a model takes, in bytes.

    file: the whole of it. repacked: those of its tensors that this CPU would have rearranged.
    working: keys and values of all cells, buffers, the processes themselves.
    """

    file_bytes: int
    repacked_bytes: int
    working_bytes: int


@dataclass(frozen=True, slots=True)
class AtHand:
    """available_bytes: memory that can still be taken (qwend.host.memory).

    copy_bytes: what a warm copy in memory takes already; it is not among the available ones.
    makes_copy: there is to be a copy in memory; without one the file is read where it lies.
    may_drop: nobody insists on the copy.
    """

    available_bytes: int
    copy_bytes: int = 0
    makes_copy: bool = True
    may_drop: bool = True


@dataclass(frozen=True, slots=True)
class Choice:
    """reason: for people, to follow the policy's name and a colon."""

    policy: Policy
    reason: str


def choose_policy(need: Need, at_hand: AtHand) -> Choice:
    """Return the quickest policy that fits; `no-repack` where none does, for it takes least.

    `drop` and `no-repack` take the same, but pages of a file the kernel can take back.
    """
    if not need.repacked_bytes:
        return Choice(Policy.KEEP, "this CPU computes with the weights as the file has them")
    # What was there before counts as at hand: a policy that has no use for it frees it.
    there = at_hand.available_bytes + at_hand.copy_bytes
    once = need.file_bytes + need.working_bytes + MEMORY_RESERVE_BYTES
    both = once + need.repacked_bytes if at_hand.makes_copy else once
    figures = f"{_mebi(there)} at hand, {_mebi(both)} wanted"
    if both <= there:
        forms = "copy and repacked weights" if at_hand.makes_copy else "repacked weights"
        return Choice(Policy.KEEP, f"{forms} fit, {figures}")
    if once <= there and at_hand.makes_copy and at_hand.may_drop:
        why = f"no room for the copy beside the repacked weights, {figures}"
        return Choice(Policy.DROP, why)
    return Choice(Policy.NO_REPACK, f"no room for repacked weights, {figures}")


def fits(need: Need, at_hand: AtHand) -> bool:
    """Whether the copy, if one is made, and the repacked weights fit into the memory at hand."""
    once = need.file_bytes + need.working_bytes + MEMORY_RESERVE_BYTES
    wanted = once + need.repacked_bytes if at_hand.makes_copy else once
    return wanted <= at_hand.available_bytes


def _mebi(count: int) -> str:
    return f"{count / 2**20:,.0f} MiB"
