"""Company: another program computes on our CPUs, so fewer threads may be quicker for a while.

Owns the number of threads to use now and the reasons for it; changes no thread itself and reads
no clock. The threads of a step wait for each other many hundred times, so one that shares its CPU
holds up all: two pinned threads beside one busy process fall to less than half their speed.

    SETTLED ──5 slow steps──► FEWER ──better──► SETTLED (with fewer)
                                └─no better──► SETTLED (as before, tried again later)
    SETTLED (with fewer) ──10 s and more──► MORE ──better──► SETTLED (with more)
                                              └─no better──► SETTLED (with fewer)
    SETTLED (with more, for less than 10 s) ──5 slow steps──► SETTLED (with fewer, as before)

Each way out of SETTLED is an excursion; one begins at the earliest 10 s after the last ended.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from enum import Enum
from math import exp, inf
from statistics import median
from typing import Any

from qwend.engine.step_cost import StepCost

# One busy process makes steps of two pinned threads 2 to 2.5 times as long (x86-64, two cores);
# heat and an uncertain table stay below half as much again.
SLOW = 1.6
# The median of five: one step that was descheduled, or two, decide nothing.
JUDGED_STEPS = 5
# Probing upwards may cost: three steps with more threads, of which two decide.
PROBE_STEPS = 3
# Other threads must gain this much to be kept, or noise would decide.
BETTER = 0.95
# The owner of the box shall not see the speed flicker; and probing costs three slow steps, which
# at one a minute is less than a hundredth.
EXCURSION_S = 10.0
LONGEST_WAIT_S = 60.0
# Where fewer threads did not help, the machine has become slower or every CPU has company: tried
# again after 10 s, then ever more rarely, for one of two neighbours may have left.
LONGEST_RETRY_S = 600.0
# What the machine can do alone is followed within half a minute of computing when it falls (heat),
# and within seconds when it rises: a high estimate would hide company.
SLOWER_TAU_S = 30.0
FASTER_TAU_S = 2.0
LONGEST_STEP_S = 1.0  # a step of a suspended machine must not teach more than others


class Phase(Enum):
    SETTLED = "settled"
    FEWER = "fewer"
    MORE = "more"


class Company:
    """Feed it with every step; `threads` says how many the next one is to use.

    A step's pace is its seconds against the calibrated seconds of the same step. The pace alone
    is this controller's own slow estimate, for the running correction of StepCost follows company
    within ten steps and would hide it.
    """

    def __init__(
        self,
        cost: StepCost,
        by_threads: Mapping[int, float],
        *,
        threads: int,
        planned: int,
    ) -> None:
        """by_threads: threads -> seconds of a step of one row. cost: measured with `threads`.

        threads: the count that was quickest. planned: the most there may be.
        """
        self._cost = cost
        self.planned = self._most = max(planned, threads)
        full_s = by_threads.get(threads, 0.0)
        self._pace_alone = {
            count: by_threads[count] / full_s
            if full_s > 0 and count in by_threads
            else threads / count
            for count in range(1, self.planned + 1)
        }
        self._drift = 1.0
        self.threads = threads
        self._usual = threads
        self._phase = Phase.SETTLED
        self._paces: deque[float] = deque(maxlen=JUDGED_STEPS)
        self._just_changed = False
        self._tried: dict[int, float] = {}
        self._origin = threads
        self._on_trial = 0  # the count to go back to if a probe was merely lucky; 0: none
        self._unlimited = 0  # the count that a limit took away, or less; 0: no limit
        self._since: float | None = None
        self._next_excursion = self._next_try = self._next_probe = -inf  # monotonic seconds
        self._wait_s = self._retry_s = EXCURSION_S
        self._probes = 0

    @property
    def company(self) -> bool:
        """True while fewer threads run than the machine would have alone, and no limit is why."""
        return self.threads < min(self._usual, self.planned)

    def status(self, now: float) -> dict[str, Any]:
        """For `status`. since_s: how long this number of threads has been settled."""
        since_s = 0.0 if self._since is None else max(now - self._since, 0.0)
        return {
            "threads": self.threads,
            "planned": self._usual,
            "company": self.company,
            "since_s": round(since_s, 1),
        }

    def limit(self, threads: int) -> None:
        """Use at most so many from now on, for a reason from outside (heat); 0: no limit.

        What a limit took comes back at once when it is raised, as far as that allows.
        """
        settled = self.threads if self._phase is Phase.SETTLED else self._origin
        self._unlimited = max(self._unlimited, settled)
        self.planned = min(threads or self._most, self._most)
        self._origin = min(self._unlimited, self.planned)
        self._on_trial = self._probes = 0
        self._since = None  # known again from the next step on; there is no clock here
        self._go(self._origin, Phase.SETTLED)
        if self.planned == self._most:
            self._unlimited = 0

    def observe(self, rows: int, sampled: int, used_cells: int, seconds: float, now: float) -> None:
        """A step that was just run with `threads`. now: monotonic seconds after it."""
        if self._since is None:
            self._since = now
            self._next_probe = now + self._wait_s
        if self._just_changed:
            # Threads that were just woken are not yet where they will be.
            self._just_changed = False
            return
        calibrated_s = max(self._cost.calibrated(rows, sampled, used_cells), 1e-9)
        self._paces.append(seconds / calibrated_s)
        if len(self._paces) < (PROBE_STEPS if self._phase is Phase.MORE else JUDGED_STEPS):
            return
        pace = median(self._paces)
        if self._phase is Phase.FEWER:
            self._judge_fewer(pace, now)
        elif self._phase is Phase.MORE:
            self._judge_more(pace, now)
        else:
            self._leave_or_learn(pace, seconds, now)

    def _leave_or_learn(self, pace: float, seconds: float, now: float) -> None:
        slow = self._is_slow(pace)
        resting = now < self._next_excursion
        if slow and resting and self._on_trial:
            # The neighbour had only paused.
            self._wait_longer()
            self._settle(self._on_trial, now)
            return
        if not resting and self._on_trial:
            self._on_trial = self._probes = 0
            self._wait_s = EXCURSION_S
        self._tried = {self.threads: pace}
        self._origin = self.threads
        if slow and self.threads > 1 and not resting and now >= self._next_try:
            self._go(self.threads - 1, Phase.FEWER)
        elif self.threads < self.planned and not resting and now >= self._next_probe:
            self._go(self._probe_target(), Phase.MORE)
        elif not slow:
            self._retry_s = EXCURSION_S
            self._learn(pace, seconds)

    def _judge_fewer(self, pace: float, now: float) -> None:
        self._tried[self.threads] = pace
        if self._is_slow(pace) and self.threads > 1:
            self._go(self.threads - 1, Phase.FEWER)
            return
        best = min(self._tried, key=self._tried.__getitem__)
        if self._tried[best] > self._tried[self._origin] * BETTER:
            best = self._origin
            self._next_try = now + self._retry_s
            self._retry_s = min(self._retry_s * 2, LONGEST_RETRY_S)
        self._wait_s = EXCURSION_S
        self._settle(best, now)

    def _judge_more(self, pace: float, now: float) -> None:
        if pace <= self._tried[self._origin] * BETTER:
            self._settle(self.threads, now)
            self._on_trial = self._origin
            return
        self._wait_longer()
        self._settle(self._origin, now)

    def _wait_longer(self) -> None:
        self._wait_s = min(self._wait_s * 2, LONGEST_WAIT_S)
        self._probes += 1

    def _probe_target(self) -> int:
        """All threads at once first; where that fails, one more the next time, and so on."""
        return self.planned if self._probes % 2 == 0 else self.threads + 1

    def _is_slow(self, pace: float) -> bool:
        return pace > SLOW * self._drift * self._pace_alone[self.threads]

    def _go(self, threads: int, phase: Phase) -> None:
        self._phase = phase
        if threads != self.threads:
            self.threads = threads
            self._just_changed = True
        self._paces.clear()

    def _settle(self, threads: int, now: float) -> None:
        if threads != self._origin:
            self._since = now
        self._usual = max(self._usual, threads)
        self._on_trial = 0
        self._next_excursion = now + EXCURSION_S
        self._next_probe = now + self._wait_s
        self._go(threads, Phase.SETTLED)

    def _learn(self, pace: float, seconds: float) -> None:
        """Follow what the machine can do alone; what looks like company never comes here."""
        drift = pace / self._pace_alone[self.threads]
        tau_s = SLOWER_TAU_S if drift > self._drift else FASTER_TAU_S
        weight = 1.0 - exp(-min(seconds, LONGEST_STEP_S) / tau_s)
        self._drift += weight * (drift - self._drift)
