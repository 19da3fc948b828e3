"""The end of the context: a prompt that just fits or just does not, and an answer that reaches it.

There is no context shift, and nothing is dropped from a conversation: an answer ends at the exact
token, and what does not fit is refused before a cell is taken.
"""

from __future__ import annotations

import pytest

from qwend.engine.llama.backend import LlamaBackend
from qwend.engine.request import SamplingParams
from tests.support.engine import answer, ask, by_request, engine_over, run
from tests.support.tiny_model import filled

pytestmark = [pytest.mark.llama, pytest.mark.row("F6")]
GREEDY = SamplingParams(temperature=0.0, ignore_eos=True)


def prompt(tokens: int) -> list[int]:
    return [65 + at % 26 for at in range(tokens)]


@pytest.mark.parametrize("room", [1, 2, 20])
def test_an_answer_ends_at_the_last_cell_and_says_what_a_shorter_one_says(
    backend: LlamaBackend, room: int
) -> None:
    cells = backend.facts.cells
    asked = prompt(cells - room)
    said = answer(engine_over(backend), ask(asked, max_tokens=10_000, sampling=GREEDY))
    assert (said.finished.finish_reason, len(said.ids)) == ("length", room)
    short = answer(engine_over(backend), ask(asked, max_tokens=max(room // 2, 1), sampling=GREEDY))
    assert said.ids[: len(short.ids)] == short.ids


@pytest.mark.parametrize("more", [0, 1, 100])
def test_a_prompt_without_room_for_an_answer_is_refused_with_both_counts(
    backend: LlamaBackend, more: int
) -> None:
    cells = backend.facts.cells
    engine = engine_over(backend)
    refused = answer(engine, ask(prompt(cells + more), max_tokens=1, sampling=GREEDY)).failed
    assert refused.code == "context_exceeded"
    assert str(cells) in refused.message
    assert str(cells + more) in refused.message
    assert all(filled(backend, seq_id) == 0 for seq_id in range(backend.facts.sequences))


def test_all_that_reach_the_end_together_end_well_and_the_next_is_answered(
    backend: LlamaBackend,
) -> None:
    """Four answers that share the cells grow until there are no more."""
    engine = engine_over(backend, prefix_bytes=0)
    part = backend.facts.cells // 4
    requests = [
        ask(prompt(part - 30), uid=uid, max_tokens=10_000, sampling=GREEDY) for uid in range(4)
    ]
    ends = by_request(run(engine, *requests))
    alone = answer(engine, requests[0])
    for request in requests:
        end = ends[request.id].finished
        assert end.finish_reason == "length"
        assert end.prompt_tokens + end.completion_tokens == backend.facts.cells
        assert ends[request.id].ids == alone.ids
