"""Drafters that know the answer: as much of what they guess is right as the test wants."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from qwend.engine.drafting import OpenDrafter
from qwend.engine.step_cost import StepCost

WRONG = 0  # a token that no scripted answer has


@dataclass(slots=True)
class KnowsTheAnswer:
    """Guesses the recorded answer; the guesses at places where `right` says no are wrong."""

    answer: tuple[int, ...]
    right: Callable[[int], bool]
    acceptance: float = 0.9
    said: int = 0

    def extend(self, token: int) -> None:
        self.said += 1

    def draft(self, most: int) -> tuple[int, ...]:
        places = range(self.said, min(self.said + most, len(self.answer)))
        return tuple(self.answer[at] if self.right(at) else WRONG for at in places)


def knowing(answer: Sequence[int], right: Callable[[int], bool] = lambda at: True) -> OpenDrafter:
    """right: whether the guess of the answer's token number so-and-so is."""
    return lambda prompt: KnowsTheAnswer(tuple(answer), right)


def cheap_rows() -> StepCost:
    """A row costs a hundredth of a step: every draft that is likely pays. One for each engine:
    it is corrected by what is observed."""
    return StepCost({1: 1.0, 128: 1.27}, all_sampled={1: 1.0, 128: 1.28})
