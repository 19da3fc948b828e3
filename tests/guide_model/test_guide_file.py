"""qwend/models/guide.gguf: the file that ships, as its header says and as llama.cpp runs it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from llama_cpp import Llama

from qwend.models.header_check import GgufFacts, check_gguf
from qwend.models.store import guide_path
from scripts.guide_model.corpus import OFF_TOPIC, load_facts
from scripts.guide_model.evaluation import ask, opened

LIMIT_BYTES = 8 * 1000 * 1000


@pytest.fixture(scope="module")
def header() -> GgufFacts:
    with guide_path().open("rb") as file:
        return check_gguf(file, guide_path().stat().st_size, path=str(guide_path()))


@pytest.fixture(scope="module")
def llama() -> Iterator[Llama]:
    with opened(guide_path()) as llama:
        yield llama


def test_it_is_small_enough_for_the_package() -> None:
    assert guide_path().stat().st_size <= LIMIT_BYTES


def test_it_is_a_qwen2_model_that_speaks_chatml(header: GgufFacts) -> None:
    assert (header.architecture, header.quantization) == ("qwen2", "Q8_0")
    assert (header.tokenizer, header.is_chatml) == ("gpt2", True)
    assert header.context_length == 2048


@pytest.mark.llama
@pytest.mark.parametrize(
    "text",
    [
        "Where is the socket?",
        "套接字在哪里？",
        "  two  spaces\n\n\ttab",
        "naïve 12345 🙂",
        "it's I'LL",
    ],
)
def test_text_comes_back_from_its_tokens(llama: Llama, text: str) -> None:
    tokens = llama.tokenize(text.encode(), add_bos=False, special=False)
    assert llama.detokenize(tokens).decode() == text


@pytest.mark.llama
def test_control_tokens_are_single_tokens_only_where_they_are_asked_for(llama: Llama) -> None:
    for text in (b"<|im_start|>", b"<|im_end|>", b"<|endoftext|>"):
        assert len(llama.tokenize(text, add_bos=False, special=True)) == 1
        assert len(llama.tokenize(text, add_bos=False, special=False)) > 1
    assert llama.tokenize(b"<|im_end|>", add_bos=False, special=True) == [llama.token_eos()]


@pytest.mark.llama
@pytest.mark.parametrize(
    ("question", "fact", "language"),
    [
        ("where on the filesystem is qwend's socket?", "socket_path", "en"),
        ("how can I see how many tokens a text has?", "tokenize", "en"),
        ("where does qwend look for model files?", "models_dir", "en"),
        ("怎么设置使用的线程数量", "threads", "zh"),
        ("启动 qwend 的命令是哪个", "start", "zh"),
        ("how do I bake a birthday cake?", OFF_TOPIC, "en"),
        ("怎么做麻婆豆腐", OFF_TOPIC, "zh"),
    ],
)
def test_a_heldout_question_gets_its_fact_word_for_word(
    llama: Llama, question: str, fact: str, language: str
) -> None:
    assert ask(llama, question) == load_facts()[fact][language]


@pytest.mark.llama
def test_greedy_text_is_the_same_twice(llama: Llama) -> None:
    assert ask(llama, "how do I stop the daemon?") == ask(llama, "how do I stop the daemon?")


@pytest.mark.llama
def test_an_answer_stays_right_at_the_default_temperature(llama: Llama) -> None:
    expected = load_facts()["socket_path"]["en"]
    answers = [ask(llama, "Where is the socket?", temperature=0.7, seed=s) for s in range(5)]
    assert answers.count(expected) >= 4
