"""The residents: which model answers, and the change from one to another.

Owns the resident that takes new requests (`current`), those that only end what they have begun, and
the order in which one follows another:

    beside    the new one starts while the other serves; then new requests go to it, and the other
              ends once nothing is bound to it
    in turn   where memory does not hold both: what is open ends, the other goes, the new one
              starts, and what came meanwhile waits for it
    asleep    nobody is asked for long: the model is let go, and the next request wakes it

A model that cannot be loaded changes nothing: the one before serves on, or is loaded again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any

from qwend.config import Config
from qwend.daemon.broker import Broker
from qwend.daemon.line import Arrival, Line
from qwend.daemon.loading import percent_of
from qwend.daemon.resident import Resident
from qwend.daemon.supervisor import Hooks
from qwend.daemon.tuning import Tuning
from qwend.daemon.waiting_engine import WaitingEngine
from qwend.daemon.world import World
from qwend.errors import CapacityError, EngineLost, HostError, ModelError, QwendError
from qwend.host.thread_plan import ThreadPlan
from qwend.wire.codes import ErrorCode

log = logging.getLogger(__name__)

# What another administrator is told to wait: about one load of a small model.
RETRY_AFTER_S = 5.0

Told = Callable[[Arrival], None]


@dataclass(frozen=True, slots=True)
class News:
    """What the daemon wants to hear of the resident that takes new requests.

    serving: its engine takes requests, for the first time or again. lost, failed: why it has none.
    loading: stage and fraction of a start that requests wait for. changed: its reasons to be
    degraded, or its limit of threads. asleep: it was let go, or is there again.
    """

    serving: Callable[[], None]
    lost: Callable[[str], None]
    failed: Callable[[str], None]
    loading: Callable[[str, float], None]
    changed: Callable[[Resident], None]
    asleep: Callable[[str], None]


class Residents:
    """`begin` once, then `load` and `unload`; `close` at the end."""

    def __init__(
        self,
        config: Config,
        world: World,
        broker: Broker,
        news: News,
        waiting: WaitingEngine | None,
    ) -> None:
        """config: in force for what is loaded from now on. waiting: for the first start."""
        self.config = config
        self._world = world
        self._broker = broker
        self._news = news
        self.tuning: Tuning | None = None
        self._changing = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self.stopping = False
        """Nothing is loaded any more."""
        self.leaving: list[Resident] = []
        self.coming: Resident | None = None
        """The one that is being loaded to take over."""
        self.arrival = Arrival("loading", 0, 100)
        """How far it is."""
        self.current = self._resident(config, waiting)

    @property
    def all(self) -> list[Resident]:
        """That have an engine, or are to have one."""
        return [self.current, *([self.coming] if self.coming else []), *self.leaving]

    @property
    def wedged(self) -> bool:
        """An engine hangs, and the kill has not ended it yet."""
        return any(one.supervisor is not None and one.supervisor.wedged for one in self.all)

    async def begin(self, tuning: Tuning) -> None:
        """Load the configured model. Raises: as `Resident.hold` and `Resident.start`."""
        self.tuning = tuning
        self._broker.lines.switch(self.current.line)
        await self.current.hold(self._news.loading)
        await self._start(self.current, self._news.loading)

    async def load(self, name: str, told: Told) -> None:
        """Have this model answer from now on; what was begun ends with the one before.

        told: how far it is. Raises: ModelError or another QwendError, and CancelledError: the model
        before serves on; CapacityError if another is being loaded.
        """
        async with self._alone():
            config = replace(
                self.config, model=replace(self.config.model, name=_unmistakable(name))
            )
            coming = self._resident(config)
            candidate = await coming.look()
            if self.current.is_loaded and self.current.is_of(candidate):
                return
            try:
                if candidate is None or candidate.fits_beside or not self.current.is_loaded:
                    await self._beside(coming, told)
                else:
                    await self._in_turn(coming, told)
            except (EngineLost, HostError) as error:
                raise ModelError(f"{coming.name} could not be loaded: {error}") from error

    async def unload(self, told: Told) -> None:
        """Let go of the model once no request is open. Raises: as `load`."""
        async with self._alone():
            while len(self._broker.journal):
                told(Arrival("waiting", 0, len(self._broker.journal)))
                await self._broker.emptied()
            if self.current.is_loaded:
                await self._sleep("unloaded by an administrator")

    async def unload_idle(self, idle_s: float) -> None:
        """Let go of the model if still no request is open, and nothing else is being done."""
        if not (self._changing.locked() or len(self._broker.journal)) and self.current.is_loaded:
            async with self._changing:
                await self._sleep(f"unloaded after {idle_s:g} s without a request")

    def replan(self, plan: ThreadPlan) -> None:
        for one in self.all:
            one.replan(plan)

    async def close(self) -> None:
        """End all engines and let go of all models. Who has ordered a change has given it up."""
        self.stopping = True
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        async with self._changing:
            while self.leaving:
                await self.leaving.pop().close()
            await self.current.close(free=self.config.model.free_on_stop)

    # From one to another

    @asynccontextmanager
    async def _alone(self) -> AsyncIterator[None]:
        if self._changing.locked():
            name = self.coming.name if self.coming else self.current.name
            raise CapacityError(
                f"{name} is being loaded or unloaded: wait for that, or cancel it",
                retry_after_s=RETRY_AFTER_S,
            )
        async with self._changing:
            yield

    async def _beside(self, coming: Resident, told: Told) -> None:
        """The other serves until this one is ready, if there is another."""

        def loading(stage: str, fraction: float) -> None:
            self._arriving(coming, Arrival("loading", percent_of(stage, fraction), 100), told)

        self.coming = coming
        try:
            await coming.hold(loading)
            await self._start(coming, loading)
        except BaseException:
            await coming.close(free=True)
            raise
        finally:
            self.coming = None
        self._take_over(coming)

    async def _in_turn(self, coming: Resident, told: Told) -> None:
        """There is room for one at a time."""
        before, self.coming = self.current, coming
        self._broker.lines.switch(coming.line)
        self._broker.lines.recall(before.line)
        try:
            async for left in self._broker.lines.fewer_bound_to(before.line):
                self._arriving(coming, Arrival("waiting", 0, left), told)
        except BaseException:
            self.coming = None
            self._broker.lines.switch(before.line)
            raise
        try:
            await before.close(free=True)
            self._news.loading("loading", 0.0)
            await self._beside(coming, told)
        except BaseException:
            await self._bring_back(before)
            raise

    def _take_over(self, coming: Resident) -> None:
        before, self.current = self.current, coming
        self._broker.lines.switch(coming.line)
        log.info("%s answers from now on, in place of %s", coming.name, before.name)
        self._serves(coming)
        self.leaving.append(before)
        self._task(self._see_off(before))

    async def _see_off(self, before: Resident) -> None:
        """It ends what it has begun."""
        async for left in self._broker.lines.fewer_bound_to(before.line):
            log.debug("%d requests are bound to %s", left, before.name)
        await before.close(free=True)
        self.leaving.remove(before)

    async def _bring_back(self, before: Resident) -> None:
        """Load again what was let go of for one that could not be loaded."""
        if self.stopping:
            return
        back = self._resident(before.config)
        self._broker.lines.switch(back.line)
        try:
            await self._beside(back, lambda arrival: None)
        except QwendError as error:
            self._news.failed(f"{before.name} cannot be loaded again: {error}")
            self._broker.lines.fail(back.line, ErrorCode.MODEL_ERROR, str(error))

    # Sleep

    async def _sleep(self, why: str) -> None:
        before = self.current
        # Not a moment without: whoever asks while the engine ends waits for the next.
        self._broker.lines.switch(Line(before.line.model, wake=self._wake))
        log.info("%s is let go of: %s", before.name, why)
        self._news.asleep(why)
        await before.close(free=self.config.model.free_on_stop)

    def _wake(self) -> None:
        self._task(self._woken())

    async def _woken(self) -> None:
        async with self._changing:
            if self.current.is_loaded:
                return
            back = self._resident(self.current.config)
            self._broker.lines.switch(back.line)
            self._news.asleep("")
            try:
                await self._beside(back, lambda arrival: None)
            except QwendError as error:
                log.error("%s cannot be loaded again: %s", self.current.name, error)
                message = f"the model was let go of and cannot be loaded again: {error}"
                self._broker.lines.fail(back.line, ErrorCode.MODEL_ERROR, message)
                # Whoever asks next has it tried again: a disk may be back by then.
                self._broker.lines.switch(Line(self.current.line.model, wake=self._wake))
                self._news.asleep(f"it could not be loaded again: {error}")

    # One resident

    def _resident(self, config: Config, waiting: WaitingEngine | None = None) -> Resident:
        return Resident(config, self._world, waiting, self._changed, self._copies_of_others)

    def _copies_of_others(self, one: Resident) -> frozenset[str]:
        """SHA-256 of the copies in memory that all but this one use, or will use when they wake."""
        others = (other.model for other in self.all if other is not one)
        return frozenset(model.sha256 for model in others if model is not None and model.sha256)

    async def _start(self, one: Resident, loading: Callable[[str, float], None]) -> None:
        assert self.tuning is not None
        hooks = Hooks(
            events=lambda events: self._broker.handle(events, one.line),
            ready=lambda send: self._ready(one, send),
            lost=lambda reason: self._lost(one, reason),
            failed=lambda reason: self._failed(one, reason),
            loading=lambda stage, fraction: self._loading(one, loading, stage, fraction),
        )
        beside = one is not self.current and self.current.is_loaded
        await one.start(self.tuning, hooks, in_company=beside)

    def _ready(self, one: Resident, send: Any) -> None:
        self._broker.lines.attach(send, one.line)
        one.attach()
        if one is self.current:
            self._serves(one)

    def _serves(self, one: Resident) -> None:
        self._news.changed(one)
        self._news.serving()

    def _changed(self, one: Resident) -> None:
        if one is self.current:
            self._news.changed(one)

    def _lost(self, one: Resident, reason: str) -> None:
        self._broker.lines.lost(reason, one.line)
        if one is self.current:
            self._news.lost(reason)

    def _failed(self, one: Resident, reason: str) -> None:
        if one is self.current:
            self._news.failed(reason)
        message = f"the engine keeps dying: {reason}"
        self._broker.lines.fail(one.line, ErrorCode.ENGINE_LOST, message)

    def _loading(
        self, one: Resident, first: Callable[[str, float], None], stage: str, fraction: float
    ) -> None:
        """Of the first start, or of one after a death."""
        if one is self.current:
            self._news.loading(stage, fraction)
        elif one not in self.leaving:
            first(stage, fraction)

    def _arriving(self, coming: Resident, arrival: Arrival, told: Told) -> None:
        if arrival != coming.line.arrival:
            self.arrival = arrival
            told(arrival)
            self._broker.lines.arriving(coming.line, arrival)

    def _task(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(_report)


def _report(task: asyncio.Task[None]) -> None:
    """A fault of ours in work that nobody waits for."""
    with suppress(asyncio.CancelledError):
        error = task.exception()
        if error is not None:
            log.error("changing the model failed", exc_info=error)


def _unmistakable(name: str) -> str:
    """Raises: ModelError for a path that depends on where the daemon runs, or as whom."""
    if ("/" in name or name.endswith(".gguf")) and not name.startswith("/"):
        raise ModelError(f"{name} is no path that the daemon knows: give it from the root on")
    return name
