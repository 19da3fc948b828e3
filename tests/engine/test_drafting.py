"""Prompt lookup: what is guessed, and how often it was right."""

from __future__ import annotations

from random import Random

import pytest

from qwend.engine.drafting import LONGEST_RUN, SHORTEST_RUN, WEIGHT, PromptLookup

ABC = [10, 11, 12, 13, 14, 15]


def test_nothing_is_guessed_from_tokens_that_never_stood_before() -> None:
    assert PromptLookup(ABC).draft(5) == ()


@pytest.mark.parametrize("tokens", [[], [1], [1, 1], [1, 2]])
def test_a_prompt_that_is_too_short_guesses_nothing(tokens: list[int]) -> None:
    assert PromptLookup(tokens).draft(5) == ()


def test_what_followed_the_last_run_before_is_the_guess() -> None:
    assert PromptLookup([*ABC, 99, 10, 11]).draft(3) == (12, 13, 14)


def test_no_more_is_guessed_than_was_asked_for() -> None:
    lookup = PromptLookup([*ABC, 10, 11])
    assert lookup.draft(1) == (12,)
    assert lookup.draft(0) == ()


def test_a_guess_ends_where_the_tokens_end() -> None:
    # The run of one token over and over: the guess reaches up to the present.
    assert PromptLookup([5, 6, 5, 6]).draft(7) == (5, 6)


def test_one_token_alone_is_no_run() -> None:
    assert PromptLookup([10, 11, 50, 10]).draft(3) == ()


def test_a_longer_run_counts_more_than_a_later_shorter_one() -> None:
    assert PromptLookup([1, 2, 3, 70, 2, 3, 80, 1, 2, 3]).draft(1) == (70,)


def test_of_equal_runs_the_latest_counts() -> None:
    assert PromptLookup([1, 2, 3, 70, 1, 2, 3, 80, 1, 2, 3]).draft(1) == (80,)


def test_a_run_of_four_is_looked_up_by_its_last_three() -> None:
    assert LONGEST_RUN == 3
    assert PromptLookup([9, 2, 3, 4, 70, 8, 2, 3, 4]).draft(1) == (70,)


def test_answers_are_looked_up_too() -> None:
    lookup = PromptLookup([1])
    for token in (20, 21, 22, 20, 21):
        lookup.extend(token)
    assert lookup.draft(2) == (22, 20)


def test_the_acceptance_begins_at_nothing() -> None:
    assert PromptLookup([*ABC, 10, 11]).acceptance == 0.0


def test_a_right_guess_raises_the_acceptance_and_a_wrong_one_lowers_it() -> None:
    lookup = PromptLookup([*ABC, 10, 11])
    lookup.extend(12)
    assert lookup.acceptance == pytest.approx(WEIGHT)
    lookup.extend(99)
    assert lookup.acceptance == pytest.approx(WEIGHT * (1 - WEIGHT))


def test_a_token_for_which_there_was_no_guess_leaves_the_acceptance() -> None:
    lookup = PromptLookup([*ABC, 10, 11])
    lookup.extend(12)
    lookup.extend(99)
    before = lookup.acceptance
    lookup.extend(50)
    lookup.extend(51)
    assert lookup.acceptance == before


def test_eight_right_guesses_bring_the_acceptance_to_where_drafts_begin_to_pay() -> None:
    lookup = PromptLookup([*range(100, 120), 100, 101])
    for token in range(102, 110):
        lookup.extend(token)
    assert lookup.acceptance == pytest.approx(0.73, abs=0.005)


@pytest.mark.parametrize("seed", range(10))
def test_every_guess_is_what_a_search_from_the_end_finds(seed: int) -> None:
    random = Random(seed)
    tokens = [random.randrange(4) for _ in range(random.randrange(1, 20))]
    lookup = PromptLookup(tokens)
    for _ in range(60):
        assert lookup.draft(4) == searched(tokens, 4)
        tokens.append(random.randrange(4))
        lookup.extend(tokens[-1])


def searched(tokens: list[int], most: int) -> tuple[int, ...]:
    for length in range(LONGEST_RUN, SHORTEST_RUN - 1, -1):
        run = tokens[-length:]
        for at in range(len(tokens) - 1, length - 1, -1):
            if len(run) == length and tokens[at - length : at] == run:
                return tuple(tokens[at : at + most])
    return ()
