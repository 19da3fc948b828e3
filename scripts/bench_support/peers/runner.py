"""The turns of a scenario: each side once in each, in changing order, the others at rest.

What the machine does meanwhile meets all sides of a turn. A turn in which other programs used the
CPU is run again, as far as the plan allows; in the end those with the least company count.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from ..machine import QUIET_SHARE, Company
from .cpu_quiet import wait_until_quiet
from .llama_server import FLAGS as VARIANTS
from .qwend_server import QwendServer
from .scenario import Measured, Scenario
from .server import Server, ServerFailed, Setup
from .target import Source, Verdict, judge
from .workload import Workload


@dataclass(frozen=True, slots=True)
class Plan:
    """turns: that count. attempts: at most, disturbed or not. patience_s: for a quiet machine.

    peers: the sides of llama-server that take part.
    """

    turns: int
    attempts: int
    patience_s: float
    peers: Sequence[str]


@dataclass(frozen=True, slots=True)
class Part:
    """One side in one turn. company: share of the CPUs that others used meanwhile.

    idle_cpu_s: what the other sides used, which should rest.
    """

    turn: int
    side: str
    measured: Measured
    company: float
    idle_cpu_s: float


@dataclass(slots=True)
class Outcome:
    """All of one scenario. note: why there are no figures; disturbance: what they suffered from.

    step_ms: name -> rows -> milliseconds, as qwend has calibrated itself.
    """

    scenario: Scenario
    note: str = ""
    disturbance: str = ""
    failed: bool = False
    parts: list[Part] = field(default_factory=list)
    last: dict[Source, Sequence[float]] = field(default_factory=dict)
    step_ms: dict[str, Any] = field(default_factory=dict)

    @property
    def values(self) -> dict[Source, list[float]]:
        found: dict[Source, list[float]] = {key: list(each) for key, each in self.last.items()}
        for part in self.parts:
            for name, figures in part.measured.figures.items():
                found.setdefault((part.side, name), []).extend(figures)
        return found

    @property
    def verdicts(self) -> list[Verdict]:
        values = self.values
        return [
            judge(row, values, self.note or (self.disturbance if values.get(row.ours) else ""))
            for row in self.scenario.rows
        ]

    def as_map(self) -> dict[str, Any]:
        return {
            "scenario": self.scenario.letter,
            "note": self.note,
            "disturbance": self.disturbance,
            "parts": [
                {
                    "turn": part.turn,
                    "side": part.side,
                    "company_share": part.company,
                    "idle_cpu_s": part.idle_cpu_s,
                    "figures": {name: list(each) for name, each in part.measured.figures.items()},
                    "detail": dict(part.measured.detail),
                }
                for part in self.parts
            ],
            "at_the_end": [
                {"side": side, "figure": name, "values": list(each)}
                for (side, name), each in self.last.items()
            ],
        }


async def run_scenario(scenario: Scenario, setup: Setup, plan: Plan) -> Outcome:
    """Its servers are gone when this returns or raises, whatever happens."""
    outcome = Outcome(scenario, scenario.unavailable())
    if outcome.note:
        return outcome
    sides = [each for each in scenario.sides if each not in VARIANTS or each in plan.peers]
    servers: list[Server] = []
    undo = ExitStack()
    undo.push(scenario.undo)
    try:
        for side in sides:
            servers.append(scenario.server(side, setup))
            undo.callback(servers[-1].close)
            await scenario.prepare(servers[-1])
            if isinstance(servers[-1], QwendServer) and servers[-1].process is not None:
                outcome.step_ms = calibrated((await servers[-1].status())["engine"])
            servers[-1].pause()
        await _turns(outcome, servers, plan)
        for server in servers:
            server.resume()
            for name, figures in scenario.finish(server).items():
                outcome.last[server.side, name] = figures
    except ServerFailed as error:
        outcome.note, outcome.failed = f"failed: {error.what}", True
        _say(str(error))
    finally:
        undo.close()
    return outcome


async def _turns(outcome: Outcome, servers: Sequence[Server], plan: Plan) -> None:
    turns: list[list[Part]] = []
    try:
        for turn in range(plan.attempts):
            if sum(_company(parts) <= QUIET_SHARE for parts in turns) == plan.turns:
                break
            order = servers if turn % 2 == 0 else servers[::-1]
            turns.append(
                [await _part(outcome.scenario, each, servers, turn, plan) for each in order]
            )
            _say(_line(outcome.scenario, turns[-1]))
    finally:
        best = least_disturbed(turns, plan.turns)
        outcome.parts = [part for parts in best for part in parts]
    disturbed = sum(_company(parts) > QUIET_SHARE for parts in best)
    if disturbed:
        outcome.disturbance = f"{disturbed} of {len(best)} turns disturbed"


async def _part(
    scenario: Scenario, server: Server, servers: Sequence[Server], turn: int, plan: Plan
) -> Part:
    await wait_until_quiet(QUIET_SHARE, plan.patience_s)
    others = [each for each in servers if each is not server]
    idle = sum(each.cpu_s() for each in others)
    server.resume()
    company = Company(lambda: sum(each.cpu_s() for each in servers))
    measured = await scenario.measure(server, Workload(scenario.letter, turn))
    share = company.share()
    server.pause()
    idle = sum(each.cpu_s() for each in others) - idle
    return Part(turn, server.side, measured, share, idle)


def least_disturbed(turns: Sequence[list[Part]], count: int) -> list[list[Part]]:
    """`count` turns, in their order; a turn had as much company as its worst part."""
    return sorted(sorted(turns, key=_company)[:count], key=_turn)


def calibrated(engine: Mapping[str, Any]) -> dict[str, Any]:
    """The tables of step costs in the status of an engine, by name; each maps rows to ms."""
    found = engine.get("step_ms", {})
    if any(isinstance(each, Mapping) for each in found.values()):
        return {str(name): dict(costs) for name, costs in found.items()}
    return {"a step": dict(found)} if found else {}


def _company(parts: Sequence[Part]) -> float:
    return max(part.company for part in parts)


def _turn(parts: Sequence[Part]) -> int:
    return parts[0].turn


def _line(scenario: Scenario, parts: Sequence[Part]) -> str:
    sides = ", ".join(f"{part.side} {_brief(part.measured.figures)}" for part in parts)
    return (
        f"  {scenario.letter} turn {_turn(parts) + 1}: {sides}; others {_company(parts):.0%} of CPU"
    )


def _brief(figures: Mapping[str, Sequence[float]]) -> str:
    return " / ".join(f"{statistics.median(each):.4g}" for each in figures.values() if each)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
