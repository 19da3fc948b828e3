"""A model that thinks, from its file to the events: tags, template, prompt, greedy answers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from qwend.engine.engine import Engine
from qwend.engine.events import Event
from qwend.engine.llama.backend import LlamaBackend
from qwend.engine.prompt import prompt_tokens
from qwend.engine.request import ChatTurn, SamplingParams, Thinking
from tests.engine.test_chat_format import QWEN3, QWEN35, QWEN35_SMALL
from tests.support.engine import ask, by_request, engine_over, run, user
from tests.support.tiny_model import opened
from tests.support.tiny_qwen3 import (
    ARCHITECTURES,
    CONTROL,
    NORMAL,
    THINK,
    THINK_END,
    USER_DEFINED,
    write_tiny,
)

pytestmark = pytest.mark.llama


@pytest.fixture(params=[USER_DEFINED, CONTROL], ids=["user-defined", "control"])
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[LlamaBackend]:
    """A qwen3 whose <think> is of either type: Qwen's own files have user-defined ones."""
    path = write_tiny(tmp_path / "tiny.gguf", "qwen3", template=QWEN3, tag_type=request.param)
    with opened(path) as backend:
        yield backend


def test_the_tags_are_text_whatever_their_type(backend: LlamaBackend) -> None:
    assert backend.token_bytes(THINK) == b"<think>"
    assert backend.token_bytes(THINK_END) == b"</think>"
    assert backend.facts.chat_format.thinks


def test_the_empty_block_is_made_of_the_models_own_tags(backend: LlamaBackend) -> None:
    tokens = prompt_tokens(ask(user("hi"), thinking=Thinking.OFF), backend)
    assert tokens[-6:] == [THINK, *b"\n\n", THINK_END, *b"\n\n"]


def test_reasoning_is_found_when_its_tags_are_single_tokens(backend: LlamaBackend) -> None:
    # Forced out of a random model: its first tokens by their bias, each one step.
    script = (THINK, ord("h"), ord("m"), THINK_END, ord("o"), ord("k"))
    engine = engine_over(_Forced(backend, script))
    transcript = by_request(run(engine, ask(user("hi"), max_tokens=len(script))))
    told = next(iter(transcript.values()))
    assert (told.reasoning, told.text, told.ids) == ("hm", "ok", script)


class _Forced:
    """A backend whose samplers say what they are told; all else is the real one's."""

    def __init__(self, backend: LlamaBackend, script: tuple[int, ...]) -> None:
        self._backend = backend
        self._script = script

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)

    def open_sampler(
        self, params: SamplingParams, prompt: tuple[int, ...], answer: tuple[int, ...] = ()
    ) -> Any:
        said = iter(self._script)

        class Saying:
            def sample(self, output: int) -> int:
                return next(said)

            def close(self) -> None:
                pass

        return Saying()


@pytest.mark.parametrize(
    ("template", "unasked", "opens"),
    [(QWEN3, True, False), (QWEN35, True, True), (QWEN35_SMALL, False, True)],
)
def test_how_it_thinks_comes_from_the_files_own_template(
    tmp_path: Path, template: str, unasked: bool, opens: bool
) -> None:
    path = write_tiny(tmp_path / "tiny.gguf", "qwen35", template=template)
    with opened(path) as backend:
        form = backend.facts.chat_format
        assert (form.thinks, form.thinks_by_default, form.opens_reasoning) == (True, unasked, opens)


def test_a_model_without_tags_does_not_think(tiny_model: Path) -> None:
    with opened(tiny_model) as backend:
        assert not backend.facts.chat_format.thinks
        assert not backend.facts.description["without"]


def test_words_that_only_look_like_tags_are_no_tags(tmp_path: Path) -> None:
    path = write_tiny(tmp_path / "tiny.gguf", "qwen3", tag_type=NORMAL)
    with opened(path) as backend:
        assert not backend.facts.chat_format.thinks


# Greedy answers

QUESTIONS = ("hello there", "what is the capital of France?", "x", "a fourth one, longer still")


def tokens_of(events: list[Event]) -> list[tuple[int, ...]]:
    return [transcript.ids for transcript in by_request(events).values()]


def asked(engine: Engine, *turns: tuple[ChatTurn, ...]) -> list[tuple[int, ...]]:
    return tokens_of(run(engine, *(ask(turn, max_tokens=12) for turn in turns)))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_greedy_answers_are_the_same_alone_beside_others_and_again(
    tmp_path: Path, architecture: str
) -> None:
    path = write_tiny(tmp_path / "tiny.gguf", architecture, template=QWEN35)
    turns = [user(question) for question in QUESTIONS]
    with opened(path) as backend:
        alone = [asked(engine_over(backend, prefix_bytes=0), turn)[0] for turn in turns]
        assert len(set(alone)) > 1
        engine = engine_over(backend)
        assert asked(engine, *turns) == alone
        # A second time from the prefix cache, where the model can cut a prefix to size.
        assert asked(engine, *turns) == alone


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_prefix_that_was_computed_as_a_whole_is_used_again_by_every_model(
    tmp_path: Path, architecture: str
) -> None:
    text = "a prefix of some length that is computed first"
    path = write_tiny(tmp_path / "tiny.gguf", architecture)
    with opened(path) as backend:
        [expected] = tokens_of(
            run(engine_over(backend, prefix_bytes=0), ask(f"{text} and more", max_tokens=8))
        )
        engine = engine_over(backend)
        [first] = by_request(run(engine, ask(text, max_tokens=1))).values()
        [second] = by_request(run(engine, ask(f"{text} and more", max_tokens=8))).values()
        assert first.finished.cached_tokens == 0
        assert second.finished.cached_tokens == len(text)
        assert second.ids == expected
