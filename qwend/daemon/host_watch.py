"""The watch over the machine: a look every few seconds, and what follows from it.

Owns the look and who hears of it. What is decided stands in `heat_control.py` and
`memory_control.py`; what it did goes to the engine over the hop, and why to the daemon's state.
Nothing here is fatal, and on a machine that shows nothing, nothing happens.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from typing import Any

from qwend.daemon.energy_ledger import EnergyLedger
from qwend.daemon.energy_meter import EnergyMeter
from qwend.daemon.heat_control import HeatControl
from qwend.daemon.memory_control import MemoryControl
from qwend.daemon.state import DaemonState
from qwend.daemon.thread_limit import ThreadLimit
from qwend.daemon.throttle_memory import ThrottleMemory
from qwend.engine import hop
from qwend.host.energy import EnergyCounters
from qwend.host.reading import Reading, read_machine
from qwend.host.root import HostRoot

log = logging.getLogger(__name__)

# A board warms up by a degree a second, and the pressure on memory is an average over ten seconds.
# A look takes 1.5 ms where there is nothing to see (2 cores, x86-64), beside the event loop.
LOOK_S = 5.0


class HostWatch:
    """threads: where heat and battery set their limits. planned: threads without them.

    saver: whether a battery is to be saved. prefix_bytes: what idle prefixes may take, by the
    configuration.
    """

    def __init__(
        self,
        host: HostRoot,
        state: DaemonState,
        threads: ThreadLimit,
        clock: Callable[[], float],
        *,
        planned: Callable[[], int],
        saver: Callable[[], bool],
        prefix_bytes: int,
    ) -> None:
        self._host = host
        self._state = state
        self._threads = threads
        self._clock = clock
        self._planned = planned
        self._saver = saver
        self._send: Callable[[dict[str, Any]], None] | None = None
        self._reading = Reading()
        self._heat = HeatControl()
        self._throttling = ThrottleMemory()
        self._memory = MemoryControl(prefix_bytes)
        self._saving = False
        self._meter = EnergyMeter(EnergyCounters(host, clock()), clock)
        self.ledger = EnergyLedger(self._meter.joules)

    @property
    def temperature_c(self) -> float | None:
        """The processor's, at the last look."""
        heat = self._reading.heat
        return None if heat is None else heat.temperature_c

    def attach(self, send: Callable[[dict[str, Any]], None]) -> None:
        """An engine is ready: it starts with the configured size of everything."""
        self._send = send
        if self._memory.limit_bytes != self._memory.configured_bytes:
            send(hop.shrink(self._memory.limit_bytes))

    async def run(self, prefix_bytes: Callable[[], int]) -> None:
        """Look until cancelled. prefix_bytes: what idle prefixes take now."""
        while True:
            try:
                reading = await asyncio.to_thread(read_machine, self._host)
            # A sensor that went away in the middle of a listing; no thread left to look with.
            except (OSError, RuntimeError) as error:
                log.debug("no look at the machine: %s", error)
            else:
                self.consider(reading, prefix_bytes())
            await asyncio.sleep(LOOK_S)

    def consider(self, reading: Reading, prefix_bytes: int) -> None:
        """Do what follows from one look."""
        now = self._clock()
        self._reading = reading
        self._meter.measured(reading.watts)
        self._throttling.observe(reading.throttling, now)
        self._regulate_threads(now)
        self._regulate_memory(prefix_bytes, now)
        self._state.regard("heat", self._heat_reasons())
        self._state.regard("throttling", self._throttling.reasons(now))
        self._state.regard("memory", self._memory_reasons())

    def _regulate_threads(self, now: float) -> None:
        planned, before = self._planned(), self._threads.threads
        self._heat.observe(self._reading.heat, planned, now)
        power = self._reading.power
        self._saving = self._saver() and power is not None and power.on_battery is True
        self._threads.set("heat", self._heat.threads)
        self._threads.set("battery", max(planned // 2, 1) if self._saving else 0)
        if self._threads.threads != before:
            log.info("%d of %d threads now", self._threads.threads or planned, planned)

    def _regulate_memory(self, prefix_bytes: int, now: float) -> None:
        before = self._memory.limit_bytes
        self._memory.observe(self._reading, prefix_bytes, now)
        if self._memory.limit_bytes != before:
            log.info("idle prefixes may take %d bytes now", self._memory.limit_bytes)
            if self._send is not None:
                self._send(hop.shrink(self._memory.limit_bytes))

    def _heat_reasons(self) -> Iterator[str]:
        heat = self._reading.heat
        if self._heat.threads and heat is not None:
            yield (
                f"heat: {self._heat.threads} of {self._planned()} threads compute, for the "
                f"processor is at {heat.temperature_c:.0f} °C and throttles at "
                f"{heat.ceiling_c:.0f} °C"
            )

    def _memory_reasons(self) -> Iterator[str]:
        if self._memory.short:
            limit, configured = self._memory.limit_bytes, self._memory.configured_bytes
            yield (
                "memory is short on this machine: idle prefixes may take "
                f"{limit / 2**20:.0f} MiB instead of {configured / 2**20:.0f}"
            )

    def status(self) -> dict[str, Any]:
        """Parts of `host` in the status map; one that the machine does not show is missing."""
        reading, power, heat = self._reading, self._reading.power, self._reading.heat
        parts: dict[str, Any] = {
            "throttling": self._throttling.status(),
            "heat": heat
            and {
                "zone": heat.zone,
                "temperature_c": round(heat.temperature_c, 1),
                "ceiling_c": round(heat.ceiling_c, 1),
                "threads": self._heat.threads,
            },
            "power": power
            and _known(on_battery=power.on_battery, percent=power.percent, saver=self._saving),
            "energy": self._energy_status(),
            "memory": _known(
                left_bytes=reading.before_oom_bytes,
                pressure_percent=reading.pressure and reading.pressure.percent,
                prefix_limit_bytes=self._memory.limit_bytes,
                short=self._memory.short,
            ),
        }
        return {name: part for name, part in parts.items() if part}

    def _energy_status(self) -> dict[str, Any]:
        per_token = self.ledger.joules_per_token
        return _known(
            source=self._meter.source or None,
            problem=self._meter.problem or None,
            joules_per_token=None if per_token is None else round(per_token, 3),
        )


def _known(**figures: Any) -> dict[str, Any]:
    return {name: figure for name, figure in figures.items() if figure is not None}
