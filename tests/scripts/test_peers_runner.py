from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest

from scripts.bench_support.peers.llama_server import SHIPPED, TUNED
from scripts.bench_support.peers.qwend_server import QWEND
from scripts.bench_support.peers.runner import (
    Outcome,
    Part,
    Plan,
    calibrated,
    least_disturbed,
    run_scenario,
)
from scripts.bench_support.peers.scenario import Measured, Scenario, against_both
from scripts.bench_support.peers.scripted_server import SETUP, ScriptedServer
from scripts.bench_support.peers.server import Server, Setup
from scripts.bench_support.peers.target import Row
from scripts.bench_support.peers.workload import Workload

PLAN = Plan(turns=2, attempts=2, patience_s=0.0, peers=(SHIPPED, TUNED))


class Sums(Scenario):
    """Measures the sum of its prompt: what a side was asked shows in its figures."""

    letter = "X"
    rows = (Row("X", "sum", "ms", (QWEND, "sum"), against_both("sum"), ratio=1.0),)

    def __init__(self, fails_at: int = 0, why_not: str = "") -> None:
        super().__init__()
        self.servers: list[ScriptedServer] = []
        self.order: list[str] = []
        self._fails_at = fails_at
        self._why_not = why_not

    def unavailable(self) -> str:
        return self._why_not

    def server(self, side: str, setup: Setup) -> Server:
        fails_at = self._fails_at if side == TUNED else 0
        self.servers.append(ScriptedServer(side, setup, fails_at=fails_at))
        return self.servers[-1]

    async def measure(self, server: Server, work: Workload) -> Measured:
        self.order.append(server.side)
        prompt = work.fresh(16)
        await server.stream(prompt, 2)
        return Measured({"sum": [float(sum(prompt))]})

    def finish(self, server: Server) -> dict[str, Sequence[float]]:
        return {"last": [1.0]} if server.side == QWEND else {}


def ran(scenario: Sums, plan: Plan = PLAN) -> Outcome:
    return asyncio.run(run_scenario(scenario, SETUP, plan))


def test_every_side_is_asked_the_same_in_a_turn_and_something_new_in_the_next() -> None:
    values = ran(Sums()).values
    assert values[QWEND, "sum"] == values[SHIPPED, "sum"] == values[TUNED, "sum"]
    assert len(set(values[QWEND, "sum"])) == 2


def test_the_order_of_the_sides_changes_from_turn_to_turn() -> None:
    scenario = Sums()
    ran(scenario)
    assert scenario.order == [QWEND, SHIPPED, TUNED, TUNED, SHIPPED, QWEND]


def test_a_side_rests_but_for_its_own_turns_and_is_gone_at_the_end() -> None:
    scenario = Sums()
    ran(scenario)
    turn = ["resume", "stream", "pause"]
    for server in scenario.servers:
        assert server.calls == ["start", "stream", "pause", *turn, *turn, "resume", "stop"]
        assert server.process is None
        assert not server.home.exists()


def test_without_peers_ours_runs_alone() -> None:
    scenario = Sums()
    outcome = ran(scenario, replace(PLAN, peers=()))
    assert set(scenario.order) == {QWEND}
    assert outcome.verdicts[0].held is None


def test_what_cannot_be_measured_starts_nothing_and_says_why() -> None:
    scenario = Sums(why_not="not available: no drafter yet")
    assert ran(scenario).verdicts[0].note == "not available: no drafter yet"
    assert scenario.servers == []


def test_a_side_that_fails_ends_the_scenario_and_no_server_stays() -> None:
    scenario = Sums(fails_at=2)  # the first stream is that of `prepare`
    outcome = ran(scenario)
    assert (outcome.note, outcome.failed) == (f"failed: {TUNED}: no more", True)
    assert [server.process for server in scenario.servers] == [None] * 3


def test_what_was_done_to_the_host_is_undone_after_the_servers_have_gone() -> None:
    scenario = Sums(fails_at=2)
    seen: list[list[object]] = []
    scenario.undo.callback(lambda: seen.append([each.process for each in scenario.servers]))
    ran(scenario)
    assert seen == [[None] * 3]


def test_figures_of_the_end_stand_beside_those_of_the_turns() -> None:
    assert ran(Sums()).values[QWEND, "last"] == [1.0]


def part(turn: int, company: float) -> Part:
    return Part(turn, QWEND, Measured({"sum": [float(turn)]}), company, 0.0)


def test_the_turns_with_the_least_company_count_in_their_order() -> None:
    turns = [[part(turn, company)] for turn, company in enumerate([0.01, 0.5, 0.04, 0.3, 0.02])]
    assert [kept[0].turn for kept in least_disturbed(turns, 3)] == [0, 2, 4]


def test_a_row_without_figures_is_not_called_disturbed() -> None:
    outcome = Outcome(Sums(), disturbance="1 of 1 turns disturbed")
    assert [verdict.note for verdict in outcome.verdicts] == [""]
    outcome.parts = [part(0, 0.5)]
    assert [verdict.note for verdict in outcome.verdicts] == ["1 of 1 turns disturbed"]


def test_company_of_one_side_disturbs_the_whole_turn() -> None:
    turns = [[part(0, 0.0), part(0, 0.9)], [part(1, 0.1), part(1, 0.1)]]
    assert [kept[0].turn for kept in least_disturbed(turns, 1)] == [1]


@pytest.mark.parametrize(
    ("status", "tables"),
    [
        ({}, {}),
        ({"step_ms": {"1": 18.0, "4": 34.0}}, {"a step": {"1": 18.0, "4": 34.0}}),
        ({"step_ms": {"all logits": {"1": 18.0}}}, {"all logits": {"1": 18.0}}),
    ],
)
def test_step_costs_are_read_flat_and_by_name(
    status: dict[str, object], tables: dict[str, object]
) -> None:
    assert calibrated(status) == tables
