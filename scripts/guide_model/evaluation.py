"""The verdict: the exported file, asked through the real llama.cpp, greedy, word for word.

Rule 1: an answer is right when it is the table's answer for that fact and language, or at least
its first twelve words (for Chinese: its first twenty characters).
Rule 2: this file knows the GGUF file and the corpus; it does not know the network.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from llama_cpp import Llama

from .corpus import DEFAULT_SYSTEM, LANGUAGES, OFF_TOPIC, Question, load_facts, load_questions

# The longest answer of the table has fewer tokens.
ANSWER_TOKENS = 160


@dataclass(frozen=True, slots=True)
class Verdict:
    """One question, what came back, and whether it was right."""

    question: Question
    answer: str
    right: bool
    exact: bool


@dataclass(frozen=True, slots=True)
class Evaluation:
    """All verdicts of one set of questions."""

    verdicts: tuple[Verdict, ...]

    def report(self) -> str:
        """Return the figures, then each miss on a line of its own."""
        lines = []
        for title, topical in (("right fact", True), ("honest refusal", False)):
            for language in (*LANGUAGES, None):
                group = [
                    v
                    for v in self.verdicts
                    if (v.question.fact != OFF_TOPIC) == topical
                    and language in (None, v.question.language)
                ]
                right = sum(v.right for v in group)
                exact = sum(v.exact for v in group)
                share = right / len(group) if group else 0.0
                lines.append(
                    f"{title}, {language or 'all'}: {right}/{len(group)} ({share:.1%}),"
                    f" the whole answer word for word: {exact}"
                )
        missed = Counter(v.question.fact for v in self.verdicts if not v.right)
        lines += [f"missed {count} x {fact}" for fact, count in missed.most_common()]
        lines += [
            f"miss [{v.question.fact}] {v.question.text!r} -> {v.answer[:70]!r}"
            for v in self.verdicts
            if not v.right
        ]
        return "\n".join(lines)


def evaluate(model: Path, questions: str) -> Evaluation:
    """Ask every question of the set "dev" or "heldout"."""
    facts = load_facts()
    verdicts = []
    with opened(model) as llama:
        for question in load_questions(questions):
            expected = facts[question.fact][question.language]
            answer = ask(llama, question.text)
            verdicts.append(
                Verdict(
                    question,
                    answer,
                    begins_like(answer, expected, question.language),
                    answer == expected,
                )
            )
    return Evaluation(tuple(verdicts))


def begins_like(answer: str, expected: str, language: str) -> bool:
    """Say whether the answer is this fact and no other."""
    if language == "zh":
        return answer[:20] == expected[:20]
    return answer.split()[:12] == expected.split()[:12]


@contextmanager
def opened(model: Path) -> Iterator[Llama]:
    """Load the file for one reader. One thread: so small a model only waits for a second one."""
    llama = Llama(str(model), n_ctx=2048, n_threads=1, n_threads_batch=1, verbose=False)
    try:
        yield llama
    finally:
        llama.close()


def ask(llama: Llama, text: str, *, temperature: float = 0.0, seed: int = 1) -> str:
    """Return the answer to one question under the default system prompt."""
    prompt: list[int] = []
    for scaffold, content in (
        ("<|im_start|>system\n", DEFAULT_SYSTEM),
        ("<|im_end|>\n<|im_start|>user\n", text),
        ("<|im_end|>\n<|im_start|>assistant\n", ""),
    ):
        prompt += llama.tokenize(scaffold.encode(), add_bos=False, special=True)
        prompt += llama.tokenize(content.encode(), add_bos=False, special=False)
    result = llama.create_completion(
        prompt, max_tokens=ANSWER_TOKENS, temperature=temperature, top_p=1.0, min_p=0.0, seed=seed
    )
    assert isinstance(result, dict)
    return str(result["choices"][0]["text"])
