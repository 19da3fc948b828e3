"""What a model's own template says of thinking is read off it, and followed to the letter."""

from __future__ import annotations

from dataclasses import replace

import jinja2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwend.engine.backend import ModelFacts
from qwend.engine.engine import Engine
from qwend.engine.prompt import prompt_tokens, reasoning_splitter
from qwend.engine.request import ChatTurn, EngineRequest, Kind, Thinking
from qwend.engine.scripted import Script, ScriptedBackend
from qwend.engine.template import PLAIN, ChatFormat, chat_format, chatml_pieces
from qwend.errors import RequestError
from tests.support.engine import answer, ask, engine_over, user

# Qwen's own templates without tools and images, which take no part in what is tested here.
QWEN2 = """\
{%- for message in messages %}
    {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""
TURNS = """\
{%- for message in messages %}
    {%- set content = CONTENT %}
    {%- if message.role == 'assistant' and '</think>' in content %}
        {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
    {%- endif %}
    {{- '<|im_start|>' + message.role + '\\n' + content + '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
"""
QWEN3 = (
    TURNS.replace("CONTENT", "message.content")
    + """\
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\\n\\n</think>\\n\\n' }}
    {%- endif %}
{%- endif %}
"""
)
RENDER = "{%- macro render_content(content, images) %}{{- content }}{%- endmacro %}\n"
QWEN35 = (
    RENDER
    + TURNS.replace("CONTENT", "render_content(message.content, true)|trim")
    + """\
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\\n\\n</think>\\n\\n' }}
    {%- else %}
        {{- '<think>\\n' }}
    {%- endif %}
{%- endif %}
"""
)
# The small ones think only if told to: Qwen3.5-0.8B and 2B.
QWEN35_SMALL = (
    RENDER
    + TURNS.replace("CONTENT", "render_content(message.content, true)|trim")
    + """\
    {%- if enable_thinking is defined and enable_thinking is true %}
        {{- '<think>\\n' }}
    {%- else %}
        {{- '<think>\\n\\n</think>\\n\\n' }}
    {%- endif %}
{%- endif %}
"""
)
# Qwen3-4B-Thinking-2507: no switch, the answer always begins within the reasoning.
ALWAYS = TURNS.replace("CONTENT", "message.content") + "    {{- '<think>\\n' }}\n{%- endif %}\n"
NEVER = ALWAYS.replace("<think>\\n' }}", "<think>\\n\\n</think>\\n\\n' }}")
ALL = {
    "Qwen2.5": QWEN2,
    "Qwen3": QWEN3,
    "Qwen3.5": QWEN35,
    "Qwen3.5 small": QWEN35_SMALL,
    "always": ALWAYS,
    "never": NEVER,
}


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("Qwen2.5", PLAIN),
        ("Qwen3", ChatFormat(thinks=True, thinks_by_default=True)),
        ("Qwen3.5", ChatFormat(True, True, opens_reasoning=True, trims=True)),
        ("Qwen3.5 small", ChatFormat(True, False, opens_reasoning=True, trims=True)),
        ("always", ChatFormat(True, True, opens_reasoning=True)),
        ("never", ChatFormat(True, False)),
    ],
)
def test_the_kind_of_chatml_is_read_off_the_template(name: str, form: ChatFormat) -> None:
    assert chat_format(ALL[name], has_think_tokens=True) == form


def test_without_a_template_the_vocabulary_tells_whether_it_is_a_qwen3() -> None:
    assert chat_format("", has_think_tokens=True) == ChatFormat(True, True)
    assert chat_format("", has_think_tokens=False) == PLAIN


def test_a_model_without_the_tokens_cannot_think_whatever_its_template_says() -> None:
    assert chat_format(QWEN3, has_think_tokens=False) == PLAIN


def test_a_template_that_cannot_be_read_is_no_fault() -> None:
    for template in ("{{ add_generation_prompt", "<think>", "add_generation_prompt<think>\\n"):
        assert chat_format(template, has_think_tokens=True).thinks == ("<think>" in template)


contents = st.lists(
    st.sampled_from(("a", "b c", " ", "\n", "<think>", "</think>", "é")), max_size=6
).map("".join)
conversations = st.tuples(
    contents, st.lists(st.tuples(contents, contents), max_size=2), contents
).map(
    lambda said: [
        ChatTurn("system", said[0]),
        *(
            ChatTurn(role, text)
            for asked, answered in said[1]
            for role, text in (("user", asked), ("assistant", answered))
        ),
        ChatTurn("user", said[2]),
    ]
)


@given(
    st.sampled_from(sorted({*ALL} - {"always", "never"})), conversations, st.none() | st.booleans()
)
def test_the_prompt_is_the_one_that_the_models_own_template_makes(
    name: str, turns: list[ChatTurn], thinking: bool | None
) -> None:
    environment = jinja2.Environment(trim_blocks=True, lstrip_blocks=True)
    switch = {} if thinking is None else {"enable_thinking": thinking}
    rendered = environment.from_string(ALL[name]).render(
        messages=[{"role": turn.role, "content": turn.content} for turn in turns],
        add_generation_prompt=True,
        **switch,
    )
    form = chat_format(ALL[name], has_think_tokens=True)
    thinks = form.thinks_by_default if thinking is None else thinking
    pieces = chatml_pieces(turns, form=form, thinking=thinks)
    assert "".join(piece.text for piece in pieces) == rendered


# Requests

QWEN3_FORM = chat_format(QWEN3, has_think_tokens=True)
QWEN35_FORM = chat_format(QWEN35, has_think_tokens=True)
SMALL_FORM = chat_format(QWEN35_SMALL, has_think_tokens=True)


def backend_of(form: ChatFormat, script: Script | None = None) -> ScriptedBackend:
    backend = ScriptedBackend(script or Script())
    backend._facts = replace(backend.facts, chat_format=form, name="tiny")
    return backend


def opening(request: EngineRequest, form: ChatFormat) -> str:
    """What the prompt has after the last user turn, as text."""
    tokens = prompt_tokens(request, backend_of(form))
    text = bytes(token for token in tokens if token < 256).decode()
    return text.rpartition("assistant\n")[2]


def splits(request: EngineRequest, form: ChatFormat) -> bool:
    facts: ModelFacts = backend_of(form).facts
    return reasoning_splitter(request, facts) is not None


@pytest.mark.parametrize(
    ("form", "thinking", "opened_with", "reasons"),
    [
        (PLAIN, Thinking.MODEL, "", False),
        (PLAIN, Thinking.OFF, "", False),
        (PLAIN, Thinking.PREFERRED, "", False),
        (QWEN3_FORM, Thinking.MODEL, "", True),
        (QWEN3_FORM, Thinking.OFF, "<think>\n\n</think>\n\n", False),
        (QWEN3_FORM, Thinking.PREFERRED, "", True),
        (QWEN3_FORM, Thinking.REQUIRED, "", True),
        (QWEN35_FORM, Thinking.MODEL, "<think>\n", True),
        (QWEN35_FORM, Thinking.OFF, "<think>\n\n</think>\n\n", False),
        (SMALL_FORM, Thinking.MODEL, "<think>\n\n</think>\n\n", False),
        (SMALL_FORM, Thinking.PREFERRED, "<think>\n", True),
        (SMALL_FORM, Thinking.REQUIRED, "<think>\n", True),
    ],
)
def test_a_chat_is_opened_as_thinking_is_wanted(
    form: ChatFormat, thinking: Thinking, opened_with: str, reasons: bool
) -> None:
    request = ask(user("hi"), thinking=thinking)
    assert opening(request, form) == opened_with
    assert splits(request, form) == reasons


def test_a_model_that_cannot_think_refuses_to_and_is_named() -> None:
    with pytest.raises(RequestError, match="the model tiny cannot think") as refused:
        prompt_tokens(ask(user("hi"), thinking=Thinking.REQUIRED), backend_of(PLAIN))
    assert refused.value.code == "unsupported"


def test_only_a_chat_has_reasoning() -> None:
    assert not splits(ask("<think>", kind=Kind.COMPLETE), QWEN3_FORM)
    assert not splits(ask(user("hi"), kind=Kind.PREFILL), QWEN3_FORM)


def test_a_partial_prefill_opens_the_answer_as_the_chat_will() -> None:
    partial = ask(user("hi"), kind=Kind.PREFILL, partial=True)
    backend = backend_of(QWEN35_FORM)
    assert prompt_tokens(partial, backend) == prompt_tokens(ask(user("hi")), backend)


def engine_saying(text: str, form: ChatFormat) -> Engine:
    return engine_over(backend_of(form, Script(answer=text)))


def test_the_engine_tells_reasoning_and_content_apart_and_counts_all_tokens() -> None:
    said = "<think>\nHm.\n</think>\n\nHello"
    transcript = answer(engine_saying(said, QWEN3_FORM), ask(user("hi")))
    assert (transcript.reasoning, transcript.text) == ("Hm.", "Hello")
    assert transcript.ids == tuple(said.encode())
    assert transcript.finished.completion_tokens == len(said)


def test_an_answer_that_begins_within_the_reasoning_is_told_apart_too() -> None:
    transcript = answer(engine_saying("Hm.\n</think>\n\nHello", QWEN35_FORM), ask(user("hi")))
    assert (transcript.reasoning, transcript.text) == ("Hm.", "Hello")


def test_without_thinking_the_tags_are_content() -> None:
    said = "<think> is a tag"
    transcript = answer(engine_saying(said, QWEN3_FORM), ask(user("hi"), thinking=Thinking.OFF))
    assert (transcript.reasoning, transcript.text) == ("", said)


def test_a_stop_string_in_the_reasoning_does_not_end_the_answer() -> None:
    engine = engine_saying("<think>END</think>now END of it", QWEN3_FORM)
    transcript = answer(engine, ask(user("hi"), stop=("END",)))
    assert (transcript.reasoning, transcript.text) == ("END", "now ")
    assert transcript.finished.finish_reason == "stop_string"
