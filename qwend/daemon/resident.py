"""The resident: one model held in memory, and the engine that runs it, across the engine's deaths.

Owns the way from a configured model to an engine that is ready: the file, its plan of threads, the
process and its supervisor. Knows nothing of clients and of what systemd is told; who made it hears
of its engine through Hooks.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import AsyncExitStack, ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from qwend.config import Config
from qwend.daemon.engine_process import EngineProcess
from qwend.daemon.engine_settings import engine_settings
from qwend.daemon.memory_plan import lock_refused
from qwend.daemon.model import HeldModel
from qwend.daemon.model_holder import ModelHolder
from qwend.daemon.plan_watch import reasons_now, threads_refused
from qwend.daemon.state import DaemonState
from qwend.daemon.supervisor import Hooks, Supervisor
from qwend.daemon.thread_limit import ThreadLimit
from qwend.daemon.tuning import Tuning
from qwend.daemon.waiting_engine import WaitingEngine
from qwend.daemon.world import World
from qwend.engine.snapshot_files import forget_snapshots
from qwend.errors import QwendError
from qwend.host.thread_plan import ThreadPlan
from qwend.host.warm_copy import CopyCancelled

SCRIPTED = "scripted"


class Resident:
    """`hold`, then `start`; each registers its undo.

    given_up: asked now and then whether nobody waits for the model any more.
    """

    def __init__(
        self,
        config: Config,
        world: World,
        state: DaemonState,
        thread_limit: ThreadLimit,
        given_up: Callable[[], bool],
    ) -> None:
        self._config = config
        self._world = world
        self._state = state
        self._thread_limit = thread_limit
        self._given_up = given_up
        self._waiting = world.engine
        self._holder: ModelHolder | None = None
        self.tuning: Tuning | None = None
        self._started_for: ThreadPlan | None = None
        self.model: HeldModel | None = None
        self.supervisor: Supervisor | None = None

    @property
    def name(self) -> str:
        if self._config.engine.backend == SCRIPTED:
            return SCRIPTED
        return self.model.file.name if self.model else self._config.model.name

    @property
    def identity(self) -> str:
        """Tells the weights that answer from all others."""
        return f"{self.name} {self.model.fingerprint}" if self.model else self.name

    @property
    def planned_threads(self) -> int:
        """Those that would compute without a limit of heat or battery."""
        if self._started_for is None or self.tuning is None:
            return 1
        return min(self._started_for.threads, self.tuning.plan.threads)

    def welcome(self) -> tuple[str, int]:
        """Model and context for the greeting: the most tokens that one request can have."""
        assert self.supervisor is not None
        facts = self.supervisor.description
        cells = int(facts.get("context_cells", self._config.model.context))
        return self.name, min(cells, int(facts.get("train_context", cells)))

    async def hold(self, loading: Callable[[str, float], None], undo: ExitStack) -> None:
        """Open, check and warm the model. Raises: as `ModelHolder.hold`."""
        if self._config.engine.backend == SCRIPTED:
            return
        loop = asyncio.get_running_loop()

        def progress(done: int, total: int) -> None:
            loop.call_soon_threadsafe(loading, "warming", done / max(total, 1))

        self._holder = ModelHolder(
            self._config,
            self._world.paths.models,
            self._world.paths.warm_places,
            self._world.host,
            progress=progress,
            degraded=self._state.degraded.append,
            cancelled=self._given_up,
            damaged=lambda: forget_snapshots(self._kept / "prefixes"),
        )
        self.model = await _in_thread(self._holder.hold, undo)

    async def start(self, tuning: Tuning, hooks: Hooks, undo: AsyncExitStack) -> None:
        """Start the engine and wait until it is ready. Raises: as `Supervisor.start`."""
        self.tuning = tuning
        settings = engine_settings(self._config, self.model, tuning, self._world.script, self._kept)
        self.supervisor = Supervisor(
            settings,
            self._start_process,
            hooks,
            time.monotonic,
            self._config.engine.hung_after_s,
        )
        undo.push_async_callback(self.supervisor.stop)
        await self.supervisor.start()
        undo.callback(tuning.watch.stop)
        tuning.watch.start(asyncio.get_running_loop().call_later, self._replan)

    def attach(self, send: Callable[[dict[str, Any]], None]) -> None:
        """An engine is ready: it is told its limits, and what it could not do is noted."""
        assert self.supervisor is not None
        assert self.tuning is not None
        self._replan(self.tuning.plan)
        self._thread_limit.attach(send)
        refused = lock_refused(self._config.model.lock, self.supervisor.description)
        self._state.regard("lock", (refused,) if refused else ())
        assert self._started_for is not None
        short = threads_refused(self.supervisor.description, self._started_for)
        self._state.regard("threads", short)

    @property
    def _kept(self) -> Path:
        """What the engine keeps over restarts."""
        return self._world.paths.state / "engine"

    async def _start_process(self, settings: Any, on_events: Any, on_exit: Any) -> EngineProcess:
        assert self.supervisor is not None
        assert self.tuning is not None
        if self._holder is not None and self.model is not None and self.supervisor.restarts:
            self.model = await _in_thread(
                self._holder.hold_again, self.model, self.supervisor.reason
            )
        plan = self._started_for = self.tuning.plan
        waiting, self._waiting = self._waiting, None
        return EngineProcess.begin(
            waiting or WaitingEngine.start(self._world.environ, self._config.engine.backend),
            replace(settings, threads=plan.threads, cpus=plan.cpus),
            None if self.model is None else self.model.fd,
            on_events=on_events,
            on_exit=on_exit,
        )

    def _replan(self, plan: ThreadPlan) -> None:
        """The CPUs that may be used are these now; the engine may have been started for others."""
        started = self._started_for
        assert started is not None
        self._thread_limit.set("cpus", plan.threads if plan.threads < started.threads else 0)
        self._state.regard("cpus", reasons_now(plan, started))


async def _in_thread(hold: Callable[..., HeldModel], *arguments: Any) -> HeldModel:
    """To its end even if it is given up meanwhile: what it opens is to be undone after it.

    It ends soon then, for it asks whether it is given up.
    """
    holding = asyncio.ensure_future(asyncio.to_thread(hold, *arguments))
    try:
        return await asyncio.shield(holding)
    except asyncio.CancelledError:
        with suppress(QwendError):
            await holding
        raise
    except CopyCancelled as error:
        raise asyncio.CancelledError from error
