"""The company controller beside simulated neighbours: quick to yield, slow to come back, steady."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise

import pytest

from qwend.engine.company import EXCURSION_S, LONGEST_WAIT_S, Company
from qwend.engine.step_cost import StepCost

ONE_ROW_S = 0.018
# 0.5B on two x86-64 cores: seconds of a one-row step alone, by threads.
TWO_CORES = {1: 0.031, 2: ONE_ROW_S}
COST = StepCost({1: ONE_ROW_S, 4: 0.034, 16: 0.087}, cell_s=1.2e-6)


@dataclass
class Machine:
    """CPUs of which some have a busy neighbour; threads that find a CPU without one run freely."""

    cpus: int = 2
    alone: dict[int, float] = field(default_factory=lambda: dict(TWO_CORES))
    neighbours: Callable[[float], int] = lambda now: 0
    crowd: Callable[[float], float] = lambda now: 2.5
    slower: Callable[[float], float] = lambda now: 1.0
    now: float = 1000.0
    changes: list[tuple[float, int, int]] = field(default_factory=list)

    def step_s(self, threads: int, now: float) -> float:
        crowded = threads > max(self.cpus - self.neighbours(now), 0)
        return self.alone[threads] * (self.crowd(now) if crowded else 1.0) * self.slower(now)

    def run(self, company: Company, seconds: float, rows: int = 1, used_cells: int = 0) -> None:
        """Steps for so long, each as long as the machine takes for it."""
        end = self.now + seconds
        scale = COST.calibrated(rows, 1, used_cells) / ONE_ROW_S
        while self.now < end:
            before = company.threads
            took = self.step_s(before, self.now) * scale
            self.now += took
            company.observe(rows, 1, used_cells, took, self.now)
            if company.threads != before:
                self.changes.append((self.now, before, company.threads))

    @property
    def turns(self) -> list[float]:
        """When the direction of change was another than before."""
        return [
            now
            for (_, b, c), (now, e, f) in pairwise([(0.0, 1, 0), *self.changes])
            if (c > b) != (f > e)
        ]

    def check_steady(self) -> None:
        """In no 10 s more than one excursion: out and back are two turns."""
        for at in self.turns:
            assert sum(at <= other < at + EXCURSION_S for other in self.turns) <= 2


def company_of(machine: Machine, threads: int | None = None) -> Company:
    planned = max(machine.alone)
    return Company(COST, machine.alone, threads=threads or planned, planned=planned)


def test_alone_nothing_ever_changes() -> None:
    machine = Machine()
    company = company_of(machine)
    machine.run(company, 120)
    assert machine.changes == []
    assert company.status(machine.now) == {
        "threads": 2,
        "planned": 2,
        "company": False,
        "since_s": pytest.approx(120, abs=0.2),
    }


def test_a_neighbour_takes_a_thread_within_half_a_second() -> None:
    machine = Machine(neighbours=lambda now: now > 1010.0)
    company = company_of(machine)
    machine.run(company, 10.5)
    assert company.threads == 1
    machine.run(company, 5)
    assert company.status(machine.now) == {
        "threads": 1,
        "planned": 2,
        "company": True,
        "since_s": pytest.approx(5.1, abs=0.4),
    }


def test_when_the_neighbour_has_left_the_threads_come_back() -> None:
    machine = Machine(neighbours=lambda now: 1010.0 < now < 1015.0)
    company = company_of(machine)
    machine.run(company, 22)
    assert company.threads == 2
    assert not company.company
    machine.check_steady()


def test_probes_beside_a_neighbour_who_stays_become_rare_and_are_short() -> None:
    machine = Machine(neighbours=lambda now: 1)
    company = company_of(machine)
    machine.run(company, 400)
    outward = [now for now, before, after in machine.changes if after > before]
    gaps = [later - earlier for earlier, later in pairwise(outward)]
    assert gaps[0] == pytest.approx(2 * EXCURSION_S, abs=1)
    assert gaps[-1] == pytest.approx(LONGEST_WAIT_S, abs=1)
    assert len(outward) <= 8
    for (began, before, after), (ended, _, _) in pairwise(machine.changes):
        if after > before:
            assert ended - began < 0.3
    machine.check_steady()


@pytest.mark.parametrize("period_s", [0.3, 1.0, 4.0, 15.0, 31.0])
def test_an_oscillating_neighbour_makes_no_flicker(period_s: float) -> None:
    machine = Machine(neighbours=lambda now: int(now % period_s < period_s / 2))
    company = company_of(machine)
    machine.run(company, 300)
    machine.check_steady()


def test_a_probe_that_met_a_pause_of_the_neighbour_is_undone_at_once() -> None:
    machine = Machine(neighbours=lambda now: int(not 1010.0 < now < 1010.6))
    company = company_of(machine)
    machine.run(company, 11.5)
    assert [after for _, _, after in machine.changes] == [1, 2, 1]
    machine.run(company, 18)
    assert len(machine.changes) == 3
    machine.check_steady()


def test_a_neighbour_who_returns_finds_the_threads_settled_for_ten_seconds() -> None:
    machine = Machine(neighbours=lambda now: int(not 1005.0 < now < 1018.0))
    company = company_of(machine)
    machine.run(company, 60)
    (_, up, _), (again, _, _) = [
        (now, now, after) for now, _, after in machine.changes if after == 2 or now > 1018
    ][:2]
    assert up < 1011
    assert again >= 1018
    machine.check_steady()


def test_a_neighbour_who_takes_ten_seconds_to_come_is_noticed() -> None:
    machine = Machine(
        neighbours=lambda now: 1, crowd=lambda now: 1.0 + min((now - 1000.0) / 10.0, 1.0) * 1.5
    )
    company = company_of(machine)
    # The first alarm comes where one thread is not yet better, and the next 10 s later.
    machine.run(company, 20)
    assert company.threads == 1


def test_a_false_alarm_is_not_repeated_within_ten_seconds() -> None:
    machine = Machine(slower=lambda now: 3.0 if now > 1010.0 else 1.0)
    company = company_of(machine)
    machine.run(company, 19)
    assert [after for _, _, after in machine.changes] == [1, 2]


def test_a_descheduled_step_or_two_change_nothing() -> None:
    machine = Machine()
    company = company_of(machine)
    machine.run(company, 10)
    for _ in range(2):
        company.observe(1, 1, 0, 30.0, machine.now)
    machine.run(company, 10)
    assert machine.changes == []


def test_a_machine_that_became_slower_keeps_its_threads() -> None:
    machine = Machine(slower=lambda now: 3.0 if now > 1010.0 else 1.0)
    company = company_of(machine)
    machine.run(company, 600)
    assert company.threads == 2
    machine.check_steady()
    # It is asked once whether fewer are better, and then ever more rarely.
    assert len(machine.changes) <= 2 * 6


def test_heat_that_comes_slowly_is_no_company_and_hides_none() -> None:
    machine = Machine(slower=lambda now: 1.0 + min((now - 1000.0) / 100.0, 1.0))
    company = company_of(machine)
    machine.run(company, 200)
    assert machine.changes == []
    machine.neighbours = lambda now: 1
    machine.run(company, 2)
    assert company.threads == 1


def test_depth_that_the_table_knows_is_no_company() -> None:
    machine = Machine()
    company = company_of(machine)
    machine.run(company, 5)
    machine.run(company, 5, used_cells=8000)
    machine.run(company, 5, rows=16, used_cells=8000)
    assert machine.changes == []


def test_the_running_correction_of_the_cost_hides_no_company() -> None:
    cost = StepCost({1: ONE_ROW_S})
    company = Company(cost, TWO_CORES, threads=2, planned=2)
    for at in range(20):
        cost.observe(1, ONE_ROW_S * 2.5)
        took_s = ONE_ROW_S * 2.5 if company.threads == 2 else TWO_CORES[1]
        company.observe(1, 1, 0, took_s, 1000.0 + at * 0.04)
    assert company.threads == 1


def test_two_neighbours_on_two_cpus_leave_the_threads_that_are_best() -> None:
    machine = Machine(neighbours=lambda now: 2)
    company = company_of(machine)
    machine.run(company, 60)
    assert company.threads == 2
    machine.check_steady()


def test_when_one_of_two_neighbours_leaves_fewer_threads_are_found_again() -> None:
    machine = Machine(neighbours=lambda now: 2 if now < 1060 else 1)
    company = company_of(machine)
    machine.run(company, 200)
    assert company.threads == 1


EIGHT_CORES = {count: ONE_ROW_S / 3 + ONE_ROW_S * 16 / 3 / count for count in range(1, 9)}


def test_with_many_cpus_only_those_that_are_taken_are_left() -> None:
    machine = Machine(cpus=8, alone=dict(EIGHT_CORES), neighbours=lambda now: 3)
    company = company_of(machine)
    machine.run(company, 9)
    assert company.threads == 5
    machine.check_steady()


def test_where_all_threads_fail_one_more_is_probed_the_next_time() -> None:
    machine = Machine(
        cpus=8, alone=dict(EIGHT_CORES), neighbours=lambda now: 3 if now < 1009 else 1
    )
    company = company_of(machine)
    machine.run(company, 120)
    assert company.threads >= 6
    machine.check_steady()


def test_fewer_threads_that_were_quicker_from_the_start_are_no_company() -> None:
    machine = Machine(cpus=4, alone={1: 0.031, 2: 0.018, 3: 0.024, 4: 0.022})
    company = company_of(machine, threads=2)
    machine.run(company, 60)
    assert company.threads == 2
    assert not company.company
    machine.check_steady()


def test_a_choice_that_was_made_in_company_is_undone_by_a_probe() -> None:
    company = Company(StepCost({1: 0.033}), {1: 0.033, 2: 0.045}, threads=1, planned=2)
    machine = Machine()
    machine.run(company, 15)
    assert company.status(machine.now)["planned"] == 2
    assert company.threads == 2


def test_one_planned_thread_stays_one() -> None:
    machine = Machine(cpus=1, alone={1: 0.031}, neighbours=lambda now: 1)
    company = company_of(machine)
    machine.run(company, 60)
    assert machine.changes == []


def test_a_limit_is_never_exceeded_and_its_end_gives_back_what_it_took() -> None:
    machine = Machine(cpus=8, alone=dict(EIGHT_CORES))
    company = company_of(machine)
    machine.run(company, 20)
    company.limit(3)
    assert company.threads == 3
    machine.run(company, 200)
    assert company.threads == 3
    assert not company.company
    company.limit(5)
    assert company.threads == 5
    company.limit(0)
    assert company.threads == 8
    assert machine.changes == []


def test_a_limit_above_what_there_is_changes_nothing() -> None:
    machine = Machine()
    company = company_of(machine)
    company.limit(7)
    machine.run(company, 60)
    assert (company.threads, machine.changes) == (2, [])


@pytest.mark.parametrize("limit", [1, 2, 3, 4, 5, 6, 7])
def test_company_below_a_limit_is_still_company_and_stays_below_it(limit: int) -> None:
    machine = Machine(cpus=8, alone=dict(EIGHT_CORES), neighbours=lambda now: 3)
    company = company_of(machine)
    company.limit(limit)
    machine.run(company, 120)
    assert all(after <= limit for _, _, after in machine.changes)
    assert company.threads == min(limit, 5)
    assert company.company == (limit > 5)


@pytest.mark.parametrize("steps", range(1, 40, 2))
def test_a_limit_in_the_middle_of_an_excursion_ends_it(steps: int) -> None:
    machine = Machine(cpus=8, alone=dict(EIGHT_CORES), neighbours=lambda now: 3)
    company = company_of(machine)
    while not machine.changes:
        machine.run(company, 0.001)
    for _ in range(steps):
        machine.run(company, 0.001)
    company.limit(4)
    machine.changes.clear()
    machine.run(company, 60)
    assert all(after <= 4 for _, _, after in machine.changes)
    company.limit(0)
    assert company.threads in (8, 5)  # never one that was only tried
