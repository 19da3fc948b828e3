"""H: how much memory all processes of a server take at most."""

from __future__ import annotations

from ..memory import PeakPss
from ..qwend_server import QWEND
from ..scenario import Measured, Scenario, against_both
from ..server import Server, at_once
from ..target import Row
from ..workload import Workload

STREAMS, PROMPT_TOKENS, DECODED = 4, 512, 48
MIB = 1 << 20


class Footprint(Scenario):
    """From the start of the process, through the load, to the end of four streams.

    The context is 8,192 tokens on both sides. What is kept in files in memory (qwend's warm copy)
    and is not mapped is in `with_files_mib`, which has no target.
    """

    letter = "H"
    rows = (
        Row(
            "H",
            "peak memory (PSS) of all processes, load and 4 streams, 8k context",
            "MiB",
            (QWEND, "peak_mib"),
            against_both("peak_mib"),
            ratio=0.65,
        ),
        Row(
            "H files",
            "the same, and the warm copy's pages that nobody has mapped",
            "MiB",
            (QWEND, "with_files_mib"),
            against_both("with_files_mib"),
        ),
    )

    async def prepare(self, server: Server) -> None:
        """Each turn starts it itself."""

    async def measure(self, server: Server, work: Workload) -> Measured:
        prompts = [work.fresh(PROMPT_TOKENS) for _ in range(STREAMS)]
        async with PeakPss(lambda: [process.pid for process in server.processes()]) as seen:
            await server.started()
            loaded = seen.peak.total
            await at_once(*[server.stream(prompt, DECODED) for prompt in prompts])
        files = server.memory_files_bytes()
        server.stop()
        unmapped = max(0, files - seen.peak.shared)
        return Measured(
            {
                "peak_mib": [seen.peak.total / MIB],
                "with_files_mib": [(seen.peak.total + unmapped) / MIB],
            },
            {"peak_of_load_mib": loaded / MIB},
        )
