"""Every scenario on servers without a model: it measures what its rows speak of."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from scripts.bench_support.peers import memory
from scripts.bench_support.peers.answer import Answer, tokens_per_s_together
from scripts.bench_support.peers.scenario import Measured, Scenario
from scripts.bench_support.peers.scenarios.cached_prompt import AfterRestart, CachedPrompt
from scripts.bench_support.peers.scenarios.catalogue import LETTERS, SCENARIOS
from scripts.bench_support.peers.scenarios.cold_prompt import SharedColdPrompt
from scripts.bench_support.peers.scenarios.company import Company, delivery_of_each, rate
from scripts.bench_support.peers.scenarios.conversations import Conversations
from scripts.bench_support.peers.scenarios.footprint import Footprint
from scripts.bench_support.peers.scenarios.intruder import Intruder
from scripts.bench_support.peers.scenarios.start import Start
from scripts.bench_support.peers.scripted_server import ScriptedServer
from scripts.bench_support.peers.workload import Workload
from scripts.bench_support.stream_times import StreamTimes

# B3 pauses as a person does, C runs llama-bench on our side, G2 needs control groups.
HERE = [each for each in SCENARIOS if each.letter not in ("B3", "G2")]


def turns(scenario: Scenario, count: int = 1) -> tuple[ScriptedServer, list[Measured]]:
    async def run() -> list[Measured]:
        await scenario.prepare(server)
        return [
            await scenario.measure(server, Workload(scenario.letter, turn)) for turn in range(count)
        ]

    server = ScriptedServer("llama-server")
    try:
        return server, asyncio.run(run())
    finally:
        server.close()


def test_the_letters_are_those_of_the_targets() -> None:
    wanted = ["A", "B", "B2", "B3", "C", "D", "E", "F", "G", "G2", "H", "I", "J", "K", "L"]
    assert sorted(LETTERS) == wanted


def test_no_two_rows_have_the_same_name() -> None:
    names = [row.name for scenario in SCENARIOS for row in scenario.rows]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("kind", HERE, ids=lambda kind: kind.letter)
def test_a_scenario_measures_what_its_rows_compare(
    kind: type[Scenario], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scripts.bench_support.peers.scenarios.company.busy_processes", nobody)
    _, (measured,) = turns(kind())
    compared = {
        key for row in kind.rows for side, key in row.theirs.values() if side.startswith("llama")
    }
    assert compared <= set(measured.figures)
    assert all(measured.figures.values())


class nobody:
    def __init__(self, count: int) -> None: ...
    def __enter__(self) -> list[int]:
        return []

    def __exit__(self, *error: object) -> None: ...


def test_cached_prompts_share_their_first_200_tokens_and_end_in_16_new_ones() -> None:
    server, _ = turns(CachedPrompt())
    first, *asked = server.prompts
    assert {tuple(prompt[:200]) for prompt in asked} == {tuple(first)}
    assert {len(prompt) for prompt in asked} == {216}
    assert len({tuple(prompt) for prompt in asked}) == len(asked) == 8


def test_a_restart_is_between_the_two_requests() -> None:
    server, _ = turns(AfterRestart())
    assert server.calls[:6] == ["start", "stream", "stop", "start", "stream", "stop"]


def test_a_start_is_measured_of_a_server_that_ran_before() -> None:
    server, (measured,) = turns(Start())
    assert server.calls[:6] == ["start", "stream", "stop", "start", "stream", "stop"]
    assert measured.figures["first_s"][0] > 0


def test_four_clients_share_512_tokens_that_change_with_the_turn() -> None:
    server, _ = turns(SharedColdPrompt(), 2)
    _, *asked = server.prompts
    first, second = ({tuple(each[:512]) for each in part} for part in (asked[:4], asked[4:]))
    assert len(first) == len(second) == 1
    assert first != second


def test_the_intruder_comes_at_the_20th_token() -> None:
    server, (measured,) = turns(Intruder())
    _, stream, intruder = server.prompts
    assert (len(stream), len(intruder)) == (32, 1024)
    arrivals = measured.detail["arrivals_s"]
    assert len(arrivals) == 100
    assert arrivals[19] <= measured.detail["intruder_sent_s"] <= arrivals[21]


def test_each_conversation_goes_on_where_it_was() -> None:
    server, _ = turns(Conversations(), 2)
    _, *asked = server.prompts
    begun, first, second = asked[:12], asked[12:24], asked[24:]
    for prompts in zip(begun, first, second, strict=True):
        assert [len(prompt) for prompt in prompts] == [1000, 1016, 1032]
        assert prompts[2][:1016] == prompts[1]
        assert prompts[1][:1000] == prompts[0]


def test_the_footprint_is_that_of_the_processes_at_their_peak(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looks = iter([memory.Pss(1 << 20), memory.Pss(7 << 20, 2 << 20)])
    monkeypatch.setattr(memory, "pss_of", lambda pids: next(looks, memory.Pss(3 << 20)))
    monkeypatch.setattr(ScriptedServer, "memory_files_bytes", lambda server: 5 << 20)
    monkeypatch.setattr(memory, "EVERY_S", 0.0)
    _, (measured,) = turns(Footprint())
    assert measured.figures == {"peak_mib": [7.0], "with_files_mib": [10.0]}


def answer(*arrivals: tuple[int, float], sent_s: float = 0.0) -> Answer:
    return Answer(StreamTimes(sent_s, arrivals))


def test_an_answer_that_was_given_up_has_the_speed_of_what_came() -> None:
    assert rate(answer((1, 1.0), (3, 5.0))) == 0.5
    assert rate(answer((1, 1.0))) == pytest.approx(1 / 30)
    assert rate(answer()) == pytest.approx(1 / 30)


def test_delivery_is_told_answer_by_answer() -> None:
    first, second = answer((1, 1.5), (2, 2.25)), answer((1, 9.0))
    made = [(4, 1, 1.0), (4, 2, 2.0), (4, 3, 3.0), (6, 1, 8.75)]
    found = {id(each): times for each, times in delivery_of_each(made, [first, second])}
    assert found == {id(first): [500.0, 250.0], id(second): [250.0]}


def test_streams_together_are_timed_from_the_first_to_the_last() -> None:
    early, late = answer((1, 1.0), (10, 2.0)), answer((1, 1.5), (6, 4.0), sent_s=0.5)
    assert tokens_per_s_together([early, late]) == 4.0


def test_busy_processes_are_gone_when_a_turn_of_company_ends(tmp_path: Path) -> None:
    from scripts.bench_support.peers.busy_process import busy_processes

    with busy_processes(2) as pids:
        sessions = [
            Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[3] for pid in pids
        ]
        assert sessions == [str(pid) for pid in pids]
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
    assert Company.busy == (1, 2)
