"""The command line of scripts/train-guide-model: vocabulary, training, export, evaluation.

Rule 1: the order of the work and its files stand here; each step is another module's.
Rule 2: everything under the work directory can be deleted; the same seed makes it again.
"""

from __future__ import annotations

import argparse
import random
from pathlib import Path

import torch

from . import corpus, training
from .agreement import agreeing
from .conversation import Composer
from .evaluation import evaluate
from .gguf_file import write
from .network import Shape
from .noise import vary
from .parity import check
from .tokenizer import Vocabulary, train

REPOSITORY = Path(__file__).parents[2]
ROUNDS = 440
VOCABULARY_DRAWS = 300


def main() -> None:
    """Train as asked, write the GGUF, and report what it answers."""
    options = _options()
    torch.set_num_threads(options.threads)
    torch.use_deterministic_algorithms(True)
    if not options.evaluate_only:
        _train(options)
    print(evaluate(options.out, "dev" if options.dev else "heldout").report(), flush=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="train-guide-model", description=__doc__)
    parser.add_argument("--out", type=Path, default=REPOSITORY / "qwend/models/guide.gguf")
    parser.add_argument("--work", type=Path, default=REPOSITORY / "build/guide-model")
    parser.add_argument("--steps", type=int, default=ROUNDS, help="rounds of 512 conversations")
    parser.add_argument("--seed", type=int, default=training.Schedule(1).seed)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint")
    parser.add_argument("--export-only", action="store_true", help="only write the checkpoint")
    parser.add_argument("--evaluate-only", action="store_true", help="only ask the file in --out")
    parser.add_argument("--dev", action="store_true", help="ask the dev questions instead")
    return parser.parse_args()


def _train(options: argparse.Namespace) -> None:
    options.work.mkdir(parents=True, exist_ok=True)
    facts = corpus.load_facts()
    phrasings = {language: corpus.load_phrasings(language) for language in corpus.LANGUAGES}
    checkpoint = options.work / "checkpoint.pt"
    if options.resume or options.export_only:
        vocabulary = Vocabulary.load(options.work / "vocabulary.json")
    else:
        vocabulary = train(_texts(facts, phrasings, options.seed))
        vocabulary.save(options.work / "vocabulary.json")
    composer = Composer(facts, phrasings, vocabulary)
    schedule = training.Schedule(rounds=options.steps, seed=options.seed)
    progress = training.begin(Shape(vocabulary=len(vocabulary.tokens)), schedule)
    if options.resume or options.export_only:
        progress.restore(checkpoint)

    def report(progress: training.Progress, loss: float) -> None:
        progress.save(checkpoint)
        dev = corpus.load_questions("dev")
        right = agreeing(progress.average, composer, dev)
        topical = [r for r, q in zip(right, dev, strict=True) if q.fact != corpus.OFF_TOPIC]
        other = [r for r, q in zip(right, dev, strict=True) if q.fact == corpus.OFF_TOPIC]
        print(
            f"round {progress.round}/{schedule.rounds} loss {loss:.4f}"
            f" dev {sum(topical)}/{len(topical)} off-topic {sum(other)}/{len(other)}"
            f" tokens {progress.tokens} in {progress.seconds:.0f} s",
            flush=True,
        )

    if not options.export_only:
        print(
            f"torch {torch.__version__}, seed {options.seed}, {options.threads} threads", flush=True
        )
        training.train(progress, schedule, composer, report, checkpoint_rounds=10)
    write(options.out, progress.average, vocabulary)
    print(f"wrote {options.out}: {options.out.stat().st_size} bytes", flush=True)
    texts = check(options.out, vocabulary)
    print(f"llama.cpp cuts {texts} texts into the same tokens", flush=True)


def _texts(
    facts: dict[str, dict[str, str]], phrasings: dict[str, corpus.PhrasingSet], seed: int
) -> list[str]:
    """Return what the vocabulary is learnt from: the answers, and phrasings as people type them."""
    rng = random.Random(seed)
    scaffold = [f"{role}\n" for role in ("system", "user", "assistant")]
    texts = [*scaffold, corpus.DEFAULT_SYSTEM] * VOCABULARY_DRAWS
    for language, phrasing_set in phrasings.items():
        for fact in phrasing_set.facts():
            on_topic = fact != corpus.OFF_TOPIC
            texts += [facts[fact][language]] * 10
            for _ in range(VOCABULARY_DRAWS if on_topic else 14 * VOCABULARY_DRAWS):
                drawn = phrasing_set.draw(fact, rng)
                texts.append(vary(drawn, language, rng, polite=True, on_topic=on_topic))
    return texts
