"""Heat: fewer threads before the processor throttles itself, and back when it has cooled.

Owns the number of threads that heat allows; reads no sensor and no clock. A processor that
throttles lowers the clock of all its cores, those of other programs too; a thread less costs us
alone, and costs less where memory is the bottleneck.

    headroom = ceiling - temperature            each row at most once in 30 s

    headroom   | -inf .. 0      0 .. 5           5 .. 15   15 .. inf
    threads    | half of them   one less         as now    one more, if it was cool for long enough
"""

from __future__ import annotations

from qwend.host.thermal import Heat

# Boards warm up by about a degree a second at full load and sensors are some degrees wrong.
MARGIN_C = 5.0
# One core of four is 5 to 10 °C: less than that and the thread that is given back takes it away
# again at once.
HYSTERESIS_C = 10.0
# A heat sink follows a change of power within half a minute; sooner nothing can be judged.
CHANGE_S = 30.0
# A box in a hot room would be asked again twice a minute for ever: each time that a thread had to
# go again, the next try waits twice as long, up to this.
LONGEST_WAIT_S = 600.0


class HeatControl:
    """Feed it with every reading; `threads` says how many heat allows, 0: all of them."""

    def __init__(self) -> None:
        self.threads = 0
        self._changed_at = float("-inf")  # monotonic seconds
        self._wait_s = CHANGE_S
        self._raised_at = float("-inf")

    def observe(self, heat: Heat | None, planned: int, now: float) -> None:
        """planned: threads there would be without heat. heat: None if no sensor can be read."""
        running = min(self.threads or planned, planned)
        wanted = self._wanted(heat, running, planned, now)
        if wanted == running or now < self._changed_at + CHANGE_S:
            return
        if wanted < running and now < self._raised_at + LONGEST_WAIT_S:
            self._wait_s = min(self._wait_s * 2, LONGEST_WAIT_S)
        elif wanted < running:
            self._wait_s = CHANGE_S
        else:
            self._raised_at = now
        self._changed_at = now
        self.threads = wanted if wanted < planned else 0

    def _wanted(self, heat: Heat | None, running: int, planned: int, now: float) -> int:
        if heat is None:
            return planned  # a sensor that has gone says nothing, and the processor has its own
        if heat.headroom_c <= 0:
            return max(running // 2, 1)
        if heat.headroom_c <= MARGIN_C:
            return max(running - 1, 1)
        cool = heat.headroom_c >= MARGIN_C + HYSTERESIS_C
        if cool and now >= self._changed_at + self._wait_s:
            return min(running + 1, planned)
        return running
