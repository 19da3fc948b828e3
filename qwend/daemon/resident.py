"""The resident: one model held in memory, and the engine that runs it, across the engine's deaths.

Owns the way from a model's name to an engine that is ready: the file, its plan of threads, the
process and its supervisor, and the undo of all that. Knows nothing of clients, of what systemd is
told, nor of other residents; who made it hears of its engine through Hooks.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from contextlib import AsyncExitStack, ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from qwend.config import Config
from qwend.daemon.engine_process import EngineProcess
from qwend.daemon.engine_settings import engine_settings
from qwend.daemon.line import Line
from qwend.daemon.memory_plan import lock_refused
from qwend.daemon.model import HeldModel
from qwend.daemon.model_holder import Candidate, ModelHolder
from qwend.daemon.plan_watch import reasons_now, threads_refused
from qwend.daemon.supervisor import EngineState, Hooks, Supervisor
from qwend.daemon.tuning import Tuning
from qwend.daemon.waiting_engine import WaitingEngine
from qwend.daemon.world import World
from qwend.engine.snapshot_files import forget_snapshots
from qwend.errors import QwendError
from qwend.host.thread_plan import ThreadPlan
from qwend.models import ModelFile

SCRIPTED = "scripted"


class Resident:
    """`hold`, `start`, and at the end `close`; before them perhaps `look`.

    config: its `name` under [model] is this model's. waiting: an engine that waits already.
    changed: told when `reasons` or `cpu_limit` are others. spare: SHA-256 of the copies in memory
    that others than this one use.
    """

    def __init__(
        self,
        config: Config,
        world: World,
        waiting: WaitingEngine | None = None,
        changed: Callable[[Resident], None] = lambda resident: None,
        spare: Callable[[Resident], frozenset[str]] = lambda resident: frozenset(),
    ) -> None:
        self.config = config
        self._world = world
        self._waiting = waiting
        self._changed = changed
        self._undo = AsyncExitStack()
        self._unwanted = False
        self._file: ModelFile | None = None
        self._progress: Callable[[str, float], None] = lambda stage, fraction: None
        self._tuning: Tuning | None = None
        self._started_for: ThreadPlan | None = None
        self._from_disk: list[str] = []
        self._holder = ModelHolder(
            config,
            world.paths.models,
            world.paths.warm_places,
            world.host,
            progress=self._copied,
            degraded=self._from_disk.append,
            cancelled=lambda: self._unwanted,
            damaged=lambda: forget_snapshots(self._kept / "prefixes"),
            spare=lambda: spare(self),
        )
        self.line = Line()
        self.model: HeldModel | None = None
        self.supervisor: Supervisor | None = None
        self.reasons: dict[str, tuple[str, ...]] = {}
        """Why it works less well than it could, by what was looked at."""
        self.cpu_limit = 0
        """Threads that it may use of those it was started with, by the CPUs of now; 0: all."""

    @property
    def name(self) -> str:
        if self._is_scripted:
            return SCRIPTED
        return self._file.name if self._file else self.config.model.name

    @property
    def path(self) -> str:
        """Of its file, as far as that is known; empty for scripted answers."""
        return str(self._file.path) if self._file else ""

    @property
    def identity(self) -> str:
        """Tells the weights that answer from all others."""
        return f"{self.name} {self.model.fingerprint}" if self.model else self.name

    @property
    def planned_threads(self) -> int:
        """Those that would compute without a limit of heat or battery."""
        if self._started_for is None or self._tuning is None:
            return 1
        return min(self._started_for.threads, self._tuning.plan.threads)

    @property
    def is_loaded(self) -> bool:
        """It has an engine, or will have one again soon."""
        states = (EngineState.UNLOADED, EngineState.FAILED)
        return self.supervisor is not None and self.supervisor.state not in states

    def welcome(self) -> tuple[str, int]:
        """Model and context for the greeting: the most tokens that one request can have."""
        assert self.supervisor is not None
        facts = self.supervisor.description
        cells = int(facts.get("context_cells", self.config.model.context))
        return self.name, min(cells, int(facts.get("train_context", cells)))

    async def look(self) -> Candidate | None:
        """What there is to know of the model before it is held; None of scripted answers.

        Raises: ModelError if it cannot be used.
        """
        if self._is_scripted:
            return None
        candidate = await asyncio.to_thread(self._holder.look)
        self._file = candidate.file
        return candidate

    def is_of(self, candidate: Candidate | None) -> bool:
        """It holds this very file, as it is now."""
        if candidate is None or self.model is None:
            return candidate is None and self.model is None
        return self.model.source == candidate.source

    async def hold(self, loading: Callable[[str, float], None]) -> None:
        """Open, check and warm the model. Raises: as `ModelHolder.hold`."""
        if self._is_scripted:
            self.line.model = self.identity
            return
        loop = asyncio.get_running_loop()

        def progress(stage: str, fraction: float) -> None:
            loop.call_soon_threadsafe(loading, stage, fraction)

        self._progress = progress
        opened = self._undo.enter_context(ExitStack())
        self.model = await self._in_thread(self._holder.hold, opened)
        self._file = self.model.file
        self.line.model = self.identity
        self._regard("model", self._from_disk)

    async def start(self, tuning: Tuning, hooks: Hooks, *, in_company: bool = False) -> None:
        """Start the engine and wait until it is ready. Raises: as `Supervisor.start`.

        in_company: another resident's engine serves meanwhile.
        """
        self._tuning = tuning
        settings = engine_settings(
            self.config, self.model, tuning, self._world.script, self._kept, in_company
        )
        self.supervisor = Supervisor(
            settings,
            self._start_process,
            hooks,
            time.monotonic,
            self.config.engine.hung_after_s,
        )
        self._undo.push_async_callback(self.supervisor.stop)
        await self.supervisor.start()

    def attach(self) -> None:
        """Its engine is ready: what that could not do is noted."""
        assert self.supervisor is not None
        assert self._tuning is not None
        assert self._started_for is not None
        refused = lock_refused(self.config.model.lock, self.supervisor.description)
        self._regard("lock", (refused,) if refused else ())
        self._regard("threads", threads_refused(self.supervisor.description, self._started_for))
        self.replan(self._tuning.plan)

    def replan(self, plan: ThreadPlan) -> None:
        """The CPUs that may be used are these now; the engine may have been started for others."""
        started = self._started_for
        if started is not None:
            self.cpu_limit = plan.threads if plan.threads < started.threads else 0
            self._regard("cpus", reasons_now(plan, started))

    async def close(self, *, free: bool = False) -> None:
        """End the engine and let go of the model. free: and of its copy in memory."""
        await self._undo.aclose()
        if free and not self._is_scripted:
            await asyncio.to_thread(self._holder.free)

    @property
    def _is_scripted(self) -> bool:
        return self.config.engine.backend == SCRIPTED

    @property
    def _kept(self) -> Path:
        """What the engine keeps over restarts."""
        return self._world.paths.state / "engine"

    def _copied(self, done: int, total: int) -> None:
        self._progress("warming", done / max(total, 1))

    def _regard(self, kind: str, reasons: Iterable[str]) -> None:
        self.reasons[kind] = tuple(reasons)
        self._changed(self)

    async def _start_process(self, settings: Any, on_events: Any, on_exit: Any) -> EngineProcess:
        assert self.supervisor is not None
        assert self._tuning is not None
        if self.model is not None and self.supervisor.restarts:
            death = self.supervisor.reason
            self.model = await self._in_thread(self._holder.hold_again, self.model, death)
            self._regard("model", self._from_disk)
        plan = self._started_for = self._tuning.plan
        waiting, self._waiting = self._waiting, None
        return EngineProcess.begin(
            waiting or WaitingEngine.start(self._world.environ, self.config.engine.backend),
            replace(settings, threads=plan.threads, cpus=plan.cpus),
            None if self.model is None else self.model.fd,
            on_events=on_events,
            on_exit=on_exit,
        )

    async def _in_thread(self, hold: Callable[..., HeldModel], *arguments: Any) -> HeldModel:
        """To its end even if it is cancelled: what it opens is to be undone after it.

        It ends soon then, for it asks whether it is wanted.
        """
        holding = asyncio.ensure_future(asyncio.to_thread(hold, *arguments))
        try:
            return await asyncio.shield(holding)
        except asyncio.CancelledError:
            self._unwanted = True
            with suppress(QwendError):
                await holding
            raise
