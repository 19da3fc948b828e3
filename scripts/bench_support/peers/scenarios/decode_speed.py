"""C and K: one stream alone, at little depth and at 4,096 tokens."""

from __future__ import annotations

from ...llama_bench import run_llama_bench
from ..qwend_server import QWEND
from ..scenario import Measured, Scenario, against_both
from ..server import Server
from ..target import Row
from ..workload import Workload

NEW_TOKENS = 16
DECODED = 64
REPEATS = 3
DEEP_TOKENS = 4096


class DecodeSpeed(Scenario):
    """Also beside llama-bench, right after, which decodes after no prompt: so do we for that."""

    letter = "C"
    rows = (
        Row(
            "C",
            "decode, one stream",
            "tokens/s",
            (QWEND, "tokens_per_s"),
            against_both("tokens_per_s"),
            more_is_better=True,
            ratio=1.0,
        ),
        Row(
            "C tg",
            f"the same after a short prompt, beside llama-bench tg{DECODED}",
            "tokens/s",
            (QWEND, "short_tokens_per_s"),
            {"llama-bench": (QWEND, "llama_bench_tokens_per_s")},
            more_is_better=True,
            ratio=0.97,
        ),
    )

    async def prepare(self, server: Server) -> None:
        await server.started()
        await server.stream(Workload(self.letter, -1).system(), 2)

    async def measure(self, server: Server, work: Workload) -> Measured:
        system = work.system()
        figures = {"tokens_per_s": [await _rate(server, work, system) for _ in range(REPEATS)]}
        if server.side == QWEND and server.setup.yardstick is not None:
            short = [await _rate(server, work, []) for _ in range(REPEATS)]
            bench = run_llama_bench(
                server.setup.yardstick,
                server.setup.model,
                threads=server.setup.threads,
                tokens=DECODED,
                flash_attention="auto",
                repetitions=REPEATS,
            )
            figures["short_tokens_per_s"] = short
            figures["llama_bench_tokens_per_s"] = [bench.tokens_per_s]
        return Measured(figures)


class DeepDecode(Scenario):
    letter = "K"
    rows = (
        Row(
            "K",
            "decode at a depth of 4,096 tokens",
            "tokens/s",
            (QWEND, "tokens_per_s"),
            against_both("tokens_per_s"),
            more_is_better=True,
            ratio=1.3,
        ),
    )

    async def prepare(self, server: Server) -> None:
        await server.started()
        await server.stream(Workload(self.letter, -1).system(DEEP_TOKENS), 2)

    async def measure(self, server: Server, work: Workload) -> Measured:
        return Measured({"tokens_per_s": [await _rate(server, work, work.system(DEEP_TOKENS))]})


async def _rate(server: Server, work: Workload, system: list[int]) -> float:
    return (await server.stream(system + work.fresh(NEW_TOKENS), DECODED)).tokens_per_s
