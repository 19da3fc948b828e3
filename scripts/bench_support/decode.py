"""`bench decode`: one stream's speed through the daemon and its socket, beside raw llama.cpp.

In turns, so that what the machine does meanwhile meets both: qwend's decode speed as a client
sees it (64 tokens, sampled) and llama-bench's `tg` (64 tokens, no sampling, no sockets). Then, in
a daemon with a tap, the time from a token's making to its arrival. Turns in which other programs
used the CPU are run again, as far as --attempts allows.
"""

from __future__ import annotations

import argparse
import random
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .bench_model import bench_model
from .daemon_under_test import running_daemon
from .llama_bench import LlamaBenchRun, llama_bench, run_llama_bench
from .machine import QUIET_SHARE, Company, this_machine
from .spread import Spread
from .stream_times import StreamTimes, delivery_s, prompt_tokens, timed_stream

PROMPT_TOKENS = 16
SEED = 1
PERCENTILES = (50, 95, 99)


@dataclass(frozen=True, slots=True)
class Pair:
    """One turn: both sides once, `repetitions` runs each."""

    qwend: tuple[StreamTimes, ...]
    peer: LlamaBenchRun
    idle_cpu_s: float  # what the daemon used while llama-bench ran: should be nothing
    company: float  # share of the CPUs that others used meanwhile

    @property
    def qwend_tokens_per_s(self) -> float:
        return Spread.of([stream.tokens_per_s for stream in self.qwend]).median


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", type=Path, help="GGUF to measure with; default: bench model")
    parser.add_argument("--shape", default="0.5b", choices=["0.5b", "1.5b", "3b", "7b"])
    parser.add_argument("--quant", default="Q4_0", choices=["Q4_0", "Q4_K_M", "Q8_0"])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--flash-attention",
        default="off",
        choices=["off", "on"],
        help="of both sides: at small depth `on` is quicker, from about 500 tokens on `off` is",
    )
    parser.add_argument("--tokens", type=int, default=64, help="decoded in each run")
    parser.add_argument("--pairs", type=int, default=5, help="turns; both sides run in each")
    parser.add_argument("--repetitions", type=int, default=3, help="runs of a side in a turn")
    parser.add_argument("--attempts", type=int, default=15, help="turns at most, disturbed or not")


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Measure and print; returns what --json writes."""
    attempts = max(options.attempts, options.pairs)
    model = options.model or bench_model(options.shape, options.quant)
    program = llama_bench()
    settings = {
        "QWEND_MODEL_NAME": str(model.absolute()),
        "QWEND_MODEL_WARM_COPY": "off",
        "QWEND_ENGINE_THREADS": str(options.threads),
        "QWEND_ENGINE_FLASH_ATTENTION": options.flash_attention,
    }
    pairs = _measure_pairs(options, model, program, settings, attempts)
    delivery, delivery_company = _measure_delivery(options, settings)
    disturbed = sum(pair.company > QUIET_SHARE for pair in pairs)
    if disturbed:
        print(f"beware: other programs ran in {disturbed} of {len(pairs)} turns", file=sys.stderr)
    result = _report(options, model, pairs, delivery)
    return {**result, "delivery_company_share": delivery_company}


def _measure_pairs(
    options: argparse.Namespace,
    model: Path,
    program: Path,
    settings: dict[str, str],
    attempts: int,
) -> list[Pair]:
    """The turns with the least company: --pairs of them, quiet ones if there were as many."""
    source = random.Random(SEED)
    pairs: list[Pair] = []
    with running_daemon(settings) as daemon, daemon.client() as client:

        def ours() -> tuple[StreamTimes, ...]:
            return tuple(
                timed_stream(client, prompt_tokens(PROMPT_TOKENS, source), options.tokens)
                for _ in range(options.repetitions)
            )

        def theirs() -> tuple[LlamaBenchRun, float]:
            before = daemon.cpu_s()
            result = run_llama_bench(
                program,
                model,
                threads=options.threads,
                tokens=options.tokens,
                flash_attention=options.flash_attention,
                repetitions=options.repetitions,
            )
            return result, daemon.cpu_s() - before

        ours()  # the first run of a process pages in its weights; llama-bench warms up as well
        for turn in range(attempts):
            if sum(pair.company <= QUIET_SHARE for pair in pairs) == options.pairs:
                break
            company = Company(daemon.cpu_s)
            if turn % 2:
                (peer, idle_cpu_s), streams = theirs(), ours()
            else:
                streams, (peer, idle_cpu_s) = ours(), theirs()
            pair = Pair(streams, peer, idle_cpu_s, company.share())
            pairs.append(pair)
            print(
                f"  turn {turn + 1}: qwend {pair.qwend_tokens_per_s:.1f}, "
                f"llama-bench {peer.tokens_per_s:.1f} tokens/s, others {pair.company:.0%} of CPU",
                file=sys.stderr,
                flush=True,
            )
    return sorted(pairs, key=lambda pair: pair.company)[: options.pairs]


def _measure_delivery(
    options: argparse.Namespace, settings: dict[str, str]
) -> tuple[Spread, float]:
    """Milliseconds from making to arrival, and the share of the CPUs that others used."""
    source = random.Random(SEED)
    with running_daemon(settings, tapped=True) as daemon:
        with daemon.client() as client:
            company = Company(daemon.cpu_s)
            streams = [
                timed_stream(client, prompt_tokens(PROMPT_TOKENS, source), options.tokens)
                for _ in range(options.pairs * options.repetitions)
            ]
            share = company.share()
        daemon.stop()
        delivery = delivery_s(daemon.production_times(), streams)
        return Spread.of([seconds * 1e3 for seconds in delivery]), share


def _report(
    options: argparse.Namespace, model: Path, pairs: list[Pair], delivery: Spread
) -> dict[str, Any]:
    qwend = Spread.of([pair.qwend_tokens_per_s for pair in pairs])
    peer = Spread.of([pair.peer.tokens_per_s for pair in pairs])
    ratios = Spread.of([pair.qwend_tokens_per_s / pair.peer.tokens_per_s for pair in pairs])
    ttft = Spread.of([stream.ttft_s * 1e3 for pair in pairs for stream in pair.qwend])
    idle_cpu_s = max(pair.idle_cpu_s for pair in pairs)
    percentiles = ", ".join(f"p{p} {delivery.percentile(p):.2f}" for p in PERCENTILES)
    attention = f"flash attention {options.flash_attention}"
    print(f"decode, one stream, {options.threads} threads, {attention}, {model.name}:")
    print("  median (lowest-highest)")
    print(f"  qwend, at the client     {qwend:.1f} tokens/s")
    print(f"  llama-bench tg{options.tokens:<10} {peer:.1f} tokens/s")
    print(f"  ratio of the two         {ratios:.3f}")
    print(f"  TTFT, {PROMPT_TOKENS} new tokens      {ttft:.0f} ms")
    print(f"  delivery, engine->client {percentiles}, longest {delivery.values[-1]:.2f} ms")
    print(f"  idle beside llama-bench  {idle_cpu_s:.2f} s of CPU in a turn, at most")
    return {
        "scenario": "decode",
        "machine": this_machine().as_map(),
        "company_share": Spread.of([pair.company for pair in pairs]).as_map(),
        "settings": {
            "model": model.name,
            "model_bytes": model.stat().st_size,
            "threads": options.threads,
            "flash_attention": options.flash_attention,
            "tokens": options.tokens,
            "pairs": options.pairs,
            "repetitions": options.repetitions,
        },
        "qwend_tokens_per_s": qwend.as_map(),
        "llama_bench_tokens_per_s": peer.as_map(),
        "ratio": ratios.as_map(),
        "ttft_ms": ttft.as_map(),
        "delivery_ms": delivery.as_map(*PERCENTILES),
        "idle_cpu_s": idle_cpu_s,
    }
