"""The supervisor: there is always an engine, or a reason why there is none.

Owns the engine process across its deaths: starts it, kills it when it hangs, starts it again with a
growing pause, and gives up when it dies too often. Knows nothing of requests.

    STARTING -> READY -> LOST -> STARTING ...      LOST -> FAILED after too many deaths
    UNLOADED after `stop`

A machine that has no process or memory left for a moment is no death: it is tried until it has.
"""

from __future__ import annotations

import asyncio
import errno
import logging
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from typing import Any

from qwend.daemon.engine_process import EngineProcess
from qwend.daemon.engine_pulse import EnginePulse
from qwend.engine import hop
from qwend.engine.events import CannotStart, Event, Loading, Ready
from qwend.engine.settings import EngineStart
from qwend.errors import EngineLost, HostError, ModelError, QwendError

log = logging.getLogger(__name__)

# More deaths than this within a minute are no accident: a model or a machine that cannot work.
MOST_DEATHS = 5
DEATHS_WINDOW_S = 60.0
FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 5.0
MOST_DOUBLINGS = 10  # far beyond the longest pause; 2 to the power of a day's tries is no float
# What has run out may be there again a moment later: fork(2), socketpair(2), open(2).
SHORTAGES = frozenset({errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE})


class EngineState(Enum):
    STARTING = "starting"
    READY = "ready"
    LOST = "lost"
    FAILED = "failed"
    UNLOADED = "unloaded"


@dataclass(frozen=True, slots=True)
class Hooks:
    """What the rest of the front wants to hear, always in the event loop.

    ready: an engine takes requests; `send` reaches it. lost: it is gone, with the reason.
    failed: no further try will be made. loading: stage and fraction of a start.
    """

    events: Callable[[Sequence[Event]], None]
    ready: Callable[[Callable[[dict[str, Any]], None]], None]
    lost: Callable[[str], None]
    failed: Callable[[str], None]
    loading: Callable[[str, float], None]


# Starts one engine process; tests give one that needs no model.
Starter = Callable[
    [EngineStart, Callable[[list[Event]], None], Callable[[str], None]],
    "asyncio.Future[EngineProcess] | Any",
]


class Supervisor:
    def __init__(
        self,
        settings: EngineStart,
        start: Starter,
        hooks: Hooks,
        clock: Callable[[], float],
        hung_after_s: float = 10.0,
    ) -> None:
        """hung_after_s: of silence of an engine that is ready, before it is killed."""
        self._settings = settings
        self._start_process = start
        self._hooks = hooks
        self._clock = clock
        self._engine: EngineProcess | None = None
        self._deaths: deque[float] = deque()
        self._short = 0  # starts in a row for which the machine had no room
        self._complaint = ""
        self._stopping = False
        self._pulse = EnginePulse(hung_after_s)
        self._look_timer: asyncio.TimerHandle | None = None
        self._changed = asyncio.Event()
        self._restart: asyncio.Task[None] | None = None
        self.state = EngineState.STARTING
        self.restarts = 0
        self.reason = ""
        self.description: dict[str, Any] = {}
        self._hung_after_s = hung_after_s
        self._hangs = ""

    @property
    def wedged(self) -> bool:
        """The engine hangs, and the kill has not ended it yet."""
        return bool(self._hangs)

    @property
    def pid(self) -> int:
        return self._engine.pid if self._engine is not None else 0

    async def start(self) -> None:
        """Start the first engine and wait until it is ready.

        Raises: ModelError or EngineLost if it is not to be: a first start that fails is told to
        the operator at once and not tried again.
        """
        await self._launch()
        while self.state is EngineState.STARTING:
            self._changed.clear()
            await self._changed.wait()
        if self.state is not EngineState.READY:
            self._stopping = True
            if self._restart is not None:
                self._restart.cancel()
            raise (ModelError if self._complaint else EngineLost)(self.reason)

    async def stop(self) -> None:
        """End the engine, or give up the one that is coming; cancelled, it ends by itself."""
        self._stopping = True
        self._stop_looking()
        try:
            if self._restart is not None:
                self._restart.cancel()
                with suppress(asyncio.CancelledError):
                    await self._restart
            if self._engine is not None:
                if self.state is EngineState.STARTING:
                    self._engine.kill()  # it reads no message before it is ready
                await self._engine.stop()
        finally:
            self.state = EngineState.UNLOADED

    def hang_after(self, seconds: float) -> None:
        """Change how long an engine may be silent."""
        self._hung_after_s = seconds
        self._pulse.hung_after_s = seconds
        if self.state is EngineState.READY:
            self._pulse.ready(self.description, self._settings.ubatch)

    async def _launch(self) -> None:
        self._complaint = ""
        self.state = EngineState.STARTING
        self._pulse = EnginePulse(self._hung_after_s)
        try:
            self._engine = await self._start_process(self._settings, self._on_events, self._on_exit)
        except (OSError, RuntimeError, QwendError) as error:
            self._short = self._short + 1 if _is_shortage(error) else 0
            self._lose(f"the engine process cannot be started: {error}")
        else:
            self._short = 0
            self._look()

    def _look(self) -> None:
        """Ask the engine for a sign of life, and kill it if it has given none for too long."""
        if self._engine is None or self._stopping:
            return
        hangs = self._pulse.look(self._clock())
        if hangs:
            self._hangs = f"the engine hung and was killed: {hangs}"
            log.error("%s", self._hangs)
            self._engine.kill()
        elif self.state is EngineState.READY:
            self._engine.send(hop.ping())
        interval_s = self._pulse.interval_s
        self._look_timer = asyncio.get_running_loop().call_later(interval_s, self._look)

    def _stop_looking(self) -> None:
        if self._look_timer is not None:
            self._look_timer.cancel()

    def _on_events(self, events: list[Event]) -> None:
        self._pulse.heard(events)
        for event in events:
            if isinstance(event, Loading):
                self._hooks.loading(event.stage, event.fraction)
            elif isinstance(event, CannotStart):
                self._complaint = event.message
            elif isinstance(event, Ready):
                self._become_ready(event)
        self._hooks.events(events)

    def _become_ready(self, event: Ready) -> None:
        assert self._engine is not None
        self.state = EngineState.READY
        self.reason = ""
        self.description = event.description
        self._pulse.ready(event.description, self._settings.ubatch)
        self._changed.set()
        self._hooks.ready(self._engine.send)

    def _on_exit(self, how: str) -> None:
        self._lose(self._complaint or self._hangs or f"the engine process ended: {how}")

    def _lose(self, reason: str) -> None:
        self._engine = None
        self._hangs = ""
        self._stop_looking()
        first = self.state is EngineState.STARTING and not self.restarts
        if self._stopping:
            return
        self.reason = reason
        log.warning("engine lost: %s", self.reason)
        self.state = EngineState.LOST
        self._changed.set()
        self._hooks.lost(self.reason)
        if first:
            return
        if not self._short and self._too_many_deaths():
            self.state = EngineState.FAILED
            log.error("the engine died more than %d times in a minute: giving up", MOST_DEATHS)
            self._hooks.failed(self.reason)
            return
        self._restart = asyncio.get_running_loop().create_task(self._launch_again())

    async def _launch_again(self) -> None:
        doublings = min(len(self._deaths) + self._short - 1, MOST_DOUBLINGS)
        pause = min(FIRST_PAUSE_S * 2**doublings, LONGEST_PAUSE_S)
        await asyncio.sleep(pause)
        self.restarts += 1
        await self._launch()

    def _too_many_deaths(self) -> bool:
        now = self._clock()
        self._deaths.append(now)
        while self._deaths[0] < now - DEATHS_WINDOW_S:
            self._deaths.popleft()
        return len(self._deaths) > MOST_DEATHS


def _is_shortage(error: Exception) -> bool:
    """True if processes, memory or descriptors have run out, which others may give back."""
    cause = error.cause if isinstance(error, HostError) else error
    if isinstance(cause, OSError):
        return cause.errno in SHORTAGES
    return str(cause) == "can't start new thread"  # Python's RuntimeError for EAGAIN
