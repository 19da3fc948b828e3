"""The training loop: conversations in rounds, AdamW, averaged weights, checkpoints.

Rule 1: round n depends on the seed and n only, so a resumed run equals an uninterrupted one.
Rule 2: this file does not know how the result is judged or exported; it calls `on_checkpoint`.
"""

from __future__ import annotations

import copy
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.nn import functional

from .conversation import Composer, Conversation
from .network import Network, Shape

# A round is one draw of conversations, sorted by length into batches of about this many tokens.
ROUND_CONVERSATIONS = 512
BATCH_TOKENS = 2048


@dataclass(frozen=True, slots=True)
class Schedule:
    """How long and how fast to learn."""

    rounds: int
    seed: int = 20260101
    learning_rate: float = 2.5e-3
    warmup_steps: int = 100
    # The rate falls linearly to nothing over the last part of the rounds.
    cooldown: float = 0.6
    weight_decay: float = 0.1
    averaging: float = 0.998

    def rate(self, step: int, round_: int) -> float:
        """Return the learning rate."""
        cooldown_rounds = max(1, int(self.rounds * self.cooldown))
        left = min(1.0, (self.rounds - round_) / cooldown_rounds)
        return self.learning_rate * min(1.0, (step + 1) / self.warmup_steps) * left


@dataclass(slots=True)
class Progress:
    """Everything that a checkpoint holds."""

    network: Network
    average: Network
    optimizer: torch.optim.Optimizer
    round: int = 0
    step: int = 0
    tokens: int = 0
    seconds: float = 0.0

    def save(self, path: Path) -> None:
        state = {
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "counts": (self.round, self.step, self.tokens, self.seconds),
        }
        partial = path.with_suffix(".partial")
        torch.save(state, partial)
        partial.rename(path)

    def restore(self, path: Path) -> None:
        state = torch.load(path, weights_only=True)
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.round, self.step, self.tokens, self.seconds = state["counts"]


def begin(shape: Shape, schedule: Schedule) -> Progress:
    """Return a network that has learnt nothing yet."""
    torch.manual_seed(schedule.seed)
    network = Network(shape)
    matrices = [p for p in network.parameters() if p.ndim >= 2]
    vectors = [p for p in network.parameters() if p.ndim < 2]
    optimizer = torch.optim.AdamW(
        [
            {"params": matrices, "weight_decay": schedule.weight_decay},
            {"params": vectors, "weight_decay": 0.0},
        ],
        lr=schedule.learning_rate,
        betas=(0.9, 0.98),
    )
    return Progress(network, copy.deepcopy(network).eval(), optimizer)


def train(
    progress: Progress,
    schedule: Schedule,
    composer: Composer,
    on_checkpoint: Callable[[Progress, float], None],
    checkpoint_rounds: int,
) -> None:
    """Train to the end of the schedule, calling back after every `checkpoint_rounds` rounds."""
    while progress.round < schedule.rounds:
        started = time.monotonic()
        torch.manual_seed(schedule.seed + progress.round)
        rng = random.Random(f"{schedule.seed}:{progress.round}")
        losses = []
        for batch in _batches(_round(composer, rng), rng):
            losses.append(_learn(progress, schedule, batch))
        progress.round += 1
        progress.seconds += time.monotonic() - started
        if progress.round % checkpoint_rounds == 0 or progress.round == schedule.rounds:
            on_checkpoint(progress, sum(losses) / len(losses))


def _round(composer: Composer, rng: random.Random) -> list[Conversation]:
    conversations = []
    for _ in range(ROUND_CONVERSATIONS):
        draw = rng.random()
        if draw < 0.88:
            conversations.append(composer.short(rng))
        elif draw < 0.96:
            conversations.append(composer.full(rng, 0))
        elif draw < 0.997:
            conversations.append(composer.full(rng, rng.randint(1, 3)))
        else:
            conversations.append(composer.full(rng, rng.randint(6, 14)))
    return conversations


def _batches(
    conversations: list[Conversation], rng: random.Random
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield ids and weights, padded, in random order; padding weighs nothing."""
    groups: list[list[Conversation]] = [[]]
    for conversation in sorted(conversations, key=lambda c: len(c.ids)):
        if groups[-1] and len(conversation.ids) * (len(groups[-1]) + 1) > BATCH_TOKENS:
            groups.append([])
        groups[-1].append(conversation)
    rng.shuffle(groups)
    for group in groups:
        length = max(len(c.ids) for c in group)
        ids = torch.zeros(len(group), length, dtype=torch.long)
        weights = torch.zeros(len(group), length)
        for row, conversation in enumerate(group):
            ids[row, : len(conversation.ids)] = torch.tensor(conversation.ids)
            weights[row, : len(conversation.ids)] = torch.tensor(conversation.weights)
        yield ids, weights


def _learn(
    progress: Progress, schedule: Schedule, batch: tuple[torch.Tensor, torch.Tensor]
) -> float:
    ids, weights = batch
    for group in progress.optimizer.param_groups:
        group["lr"] = schedule.rate(progress.step, progress.round)
    hidden = progress.network.train()(ids[:, :-1])
    targets, weights = ids[:, 1:], weights[:, 1:]
    counted = weights > 0
    scores = progress.network.logits(hidden[counted])
    losses = functional.cross_entropy(scores, targets[counted], reduction="none")
    loss = (losses * weights[counted]).sum() / weights[counted].sum()
    progress.optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(progress.network.parameters(), 1.0)
    progress.optimizer.step()
    progress.step += 1
    progress.tokens += ids.numel()
    # Early on, a long average would mostly hold the untrained start.
    keep = min(schedule.averaging, (1 + progress.step) / (10 + progress.step))
    with torch.no_grad():
        for kept, new in zip(
            progress.average.parameters(), progress.network.parameters(), strict=True
        ):
            kept.lerp_(new, 1 - keep)
    return float(loss.detach())
