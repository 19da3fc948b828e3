"""G and G2: decode while other programs want the CPUs as well."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence

from ...stream_times import delivery_s
from ..answer import Answer
from ..busy_process import busy_processes
from ..cpu_group import HIGH, USUAL, CpuGroup, Hierarchy, hierarchy
from ..llama_server import SHIPPED
from ..qwend_server import QWEND, QwendServer
from ..scenario import Measured, Scenario
from ..server import Server
from ..target import Row
from ..workload import Workload

PROMPT_TOKENS, DECODED = 16, 64
# llama-server makes a token in two seconds then; a few are enough to know its speed.
LIMIT_S = 30.0
DELIVERY_MS = 20.0


def _rows(busy: int, word: str, words: str, ratio: float) -> tuple[Row, Row]:
    rate, delivery = f"tokens_per_s_beside_{busy}", f"delivery_ms_beside_{busy}"
    return (
        Row(
            f"G {word}",
            f"decode beside {words}",
            "tokens/s",
            (QWEND, rate),
            {"as shipped": (SHIPPED, rate)},
            more_is_better=True,
            ratio=ratio,
        ),
        Row(
            f"G {word} p99",
            f"delivery of a token beside {words}",
            "ms",
            (QWEND, delivery),
            {},
            at_most=DELIVERY_MS,
            percent=99,
        ),
    )


class Company(Scenario):
    """Busy processes in sessions of their own; no privileges and no control group for anybody."""

    letter = "G"
    rows = (*_rows(1, "one", "one busy process", 25), *_rows(2, "two", "two busy processes", 15))
    sides = (QWEND, SHIPPED)
    tapped = True
    busy = (1, 2)

    def __init__(self) -> None:
        super().__init__()
        self._beside: dict[int, int] = {}  # id() of an answer -> how many were busy

    async def measure(self, server: Server, work: Workload) -> Measured:
        figures = {}
        for count in self.busy:
            with busy_processes(count):
                answer = await server.stream(work.fresh(PROMPT_TOKENS), DECODED, limit_s=LIMIT_S)
            figures[f"tokens_per_s_beside_{count}"] = [rate(answer)]
            self._beside[id(answer)] = count
        return Measured(figures)

    def finish(self, server: Server) -> Mapping[str, Sequence[float]]:
        if not isinstance(server, QwendServer):
            return {}
        server.stop()
        found: dict[str, list[float]] = {}
        heard = [answer for answer in server.answers if answer.times.arrivals]
        try:
            for answer, times in delivery_of_each(server.production_times(), heard):
                if count := self._beside.get(id(answer)):
                    found.setdefault(f"delivery_ms_beside_{count}", []).extend(times)
        except (ValueError, KeyError, OSError) as error:
            raise server.failed(f"what its tap noted is not what was heard: {error!r}") from error
        return found


class WeightedCompany(Scenario):
    """The daemon in a control group as the unit makes it, the busy process in one of its own."""

    letter = "G2"
    rows = (
        Row(
            "G2",
            "decode beside one busy process, in a cgroup of high CPU weight",
            "tokens/s",
            (QWEND, "beside_one"),
            {"our quiet rate": (QWEND, "quiet")},
            more_is_better=True,
            ratio=0.9,
        ),
    )
    sides = (QWEND,)

    def unavailable(self) -> str:
        found = hierarchy()
        return f"not available: {found}" if isinstance(found, str) else ""

    def __init__(self) -> None:
        super().__init__()
        self._busy_group: CpuGroup | None = None

    async def prepare(self, server: Server) -> None:
        await super().prepare(server)
        where = hierarchy()
        assert isinstance(where, Hierarchy), where
        ours = self._group(where, "ours", HIGH)
        self._busy_group = self._group(where, "busy", USUAL)
        ours.take(process.pid for process in server.processes())

    def _group(self, where: Hierarchy, name: str, weight: int) -> CpuGroup:
        group = CpuGroup(where, f"qwend-bench-{os.getpid()}-{name}", weight)
        self.undo.callback(group.remove)
        return group

    async def measure(self, server: Server, work: Workload) -> Measured:
        quiet = await server.stream(work.fresh(PROMPT_TOKENS), DECODED)
        assert self._busy_group is not None
        with busy_processes(1) as pids:
            self._busy_group.take(pids)
            beside = await server.stream(work.fresh(PROMPT_TOKENS), DECODED)
        return Measured({"quiet": [quiet.tokens_per_s], "beside_one": [beside.tokens_per_s]})


def rate(answer: Answer) -> float:
    """Tokens/s of an answer that may have been given up after LIMIT_S with next to nothing."""
    if len(answer.times.arrivals) > 1:
        return answer.tokens_per_s
    return max(1, len(answer.times.arrivals)) / LIMIT_S


def delivery_of_each(
    production: Iterable[tuple[int, int, float]], answers: Sequence[Answer]
) -> Iterator[tuple[Answer, list[float]]]:
    """Milliseconds from making to arrival, answer by answer.

    production: as the tap notes it. answers: all that had a token, one begun after the other.
    """
    made: dict[int, list[tuple[int, int, float]]] = {}
    for note in production:
        made.setdefault(note[0], []).append(note)
    for notes, answer in zip(made.values(), answers, strict=True):
        yield answer, [seconds * 1e3 for seconds in delivery_s(notes, [answer.times])]
