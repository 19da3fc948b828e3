"""The daemon: everything put together, started in order, and taken down in reverse.

The only place where the parts meet: each gets what it needs as an argument, and whoever opens
something registers its undo here. `run` reads as the life of the daemon.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import time
from collections.abc import Coroutine
from contextlib import AsyncExitStack, ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qwend import failpoint
from qwend.config import Config
from qwend.daemon.access import Access
from qwend.daemon.broker import Broker
from qwend.daemon.clients import Clients
from qwend.daemon.conversations import Conversations
from qwend.daemon.errands import Errand, Tell
from qwend.daemon.fd_store import FdStore, stored
from qwend.daemon.fetcher import Fetcher
from qwend.daemon.host_status import host_status
from qwend.daemon.host_watch import HostWatch
from qwend.daemon.idle_watch import IdleWatch
from qwend.daemon.kept_connection import ConnectionKeeper
from qwend.daemon.kept_requests import KeptRequests
from qwend.daemon.line import Arrival
from qwend.daemon.listener import SocketPath, systemd_listener
from qwend.daemon.notify import Notifier
from qwend.daemon.pulls import Pulls
from qwend.daemon.reload import Reload, reload
from qwend.daemon.resident import Resident
from qwend.daemon.residents import News, Residents
from qwend.daemon.session import Service
from qwend.daemon.state import Condition, DaemonState
from qwend.daemon.state_claim import claim_state
from qwend.daemon.status import (
    daemon_status,
    engine_status,
    model_status,
    models_status,
    switching_status,
    user_counts,
)
from qwend.daemon.status_line import status_line
from qwend.daemon.supervisor import EngineState
from qwend.daemon.system_prompt import SystemPrompt
from qwend.daemon.thread_limit import ThreadLimit
from qwend.daemon.tuning import Tuning, tune
from qwend.daemon.watchdog import Watchdog
from qwend.daemon.world import World
from qwend.errors import ConfigError, EngineLost, QwendError
from qwend.wire.codes import ErrorCode
from qwend.wire.orders import Drain, Load
from qwend.wire.orders import Reload as ReloadRequest
from qwend.wire.replies import Done
from qwend.wire.usage import Usage

if TYPE_CHECKING:
    from qwend.daemon.conversation_thread import ConversationThread

log = logging.getLogger(__name__)

# After the drain, how long a client may take to read its last messages.
LAST_WORDS_S = 1.0
# How often systemd's status line is looked at; it is told only if it has changed.
STATUS_S = 5.0
PREFILLING = "pre-filling the system prompt"


class Daemon:
    def __init__(self, config: Config, world: World) -> None:
        self._config = config
        self._world = world
        self._begin = time.monotonic()
        self._state = DaemonState()
        self._notifier = Notifier(world.environ)
        loop = asyncio.get_running_loop()
        thread_limit = ThreadLimit()
        self._thread_limit = thread_limit
        self._host_watch = HostWatch(
            world.host,
            self._state,
            thread_limit,
            time.monotonic,
            planned=lambda: self._resident.planned_threads,
            saver=lambda: self._config.host.on_battery == "saver",
            prefix_bytes=config.cache.prefix_mb << 20,
        )
        self._conversations = self._keeper_of_conversations()
        store, left = FdStore(self._notifier, world.environ), stored(world.environ, os.getpid())
        self._kept_requests = KeptRequests.in_store(store, left)
        self._broker = Broker(
            config,
            time.monotonic,
            loop.call_later,
            self._host_watch.ledger,
            Conversations(config.sessions, self._conversations),
            self._kept_requests,
        )
        news = News(
            serving=self._serving,
            lost=self._engine_lost,
            failed=self._engine_failed,
            loading=self._loading,
            changed=self._regard,
            asleep=self._regard_sleep,
        )
        self._residents = Residents(config, world, self._broker, news, world.engine)
        self._idle_watch = IdleWatch(self._broker, time.monotonic, self._residents.unload_idle)
        self._keeper = ConnectionKeeper(store, left)
        self._service = Service(
            self._broker,
            config.limits,
            Access.of(config.socket, os.geteuid()),
            self.status,
            self._administer,
            self._carry_out,
            lambda: self._resident.welcome(),
            self._keeper.keep,
            pulls=Pulls(Fetcher(world.paths.pull_socket, world.paths.models, world.environ)),
        )
        self._clients = Clients(self._service, config.limits)
        self._system_prompt = SystemPrompt(self._broker, self._prefilling)
        self._was_ready = False
        self._needs_restart: tuple[str, ...] = ()
        self._reload_asked = False
        self._stop = asyncio.Event()
        self._cut = asyncio.Event()

    async def run(self) -> None:
        """Start, serve, drain; undo in reverse.

        Raises: QwendError if it cannot start; nothing is left behind then.
        """
        async with AsyncExitStack() as undo:
            undo.callback(self._notifier.close)
            undo.callback(self._keeper.close)
            undo.callback(self._kept_requests.close)
            undo.push_async_callback(self._service.pulls.close)
            if self._conversations is not None:
                undo.push_async_callback(self._conversations.close)
            self._watch(undo)
            self._take_signals()
            if await self._unless_stopped(self._start(undo)):
                if self._reload_asked:
                    self._reload()
                await self._stop.wait()
                await self._drain()

    async def _start(self, undo: AsyncExitStack) -> None:
        """Tune, warm, load, calibrate, pre-fill, listen."""
        host_undo = undo.enter_context(ExitStack())
        socket_path = self._claim_socket(host_undo)
        claim_state(self._world.paths.state, host_undo)
        tuning = tune(self._config, self._world.host, self._world.paths, host_undo)
        self._state.degraded += [*tuning.degraded, *failpoint.in_force()]
        self._state.move(Condition.WARMING, "reading the model")
        undo.push_async_callback(self._residents.close)
        await self._residents.begin(tuning)
        self._watch_machine(tuning, undo)
        await self._prefill()
        await self._listen(socket_path, undo)
        self._become_ready()
        if self._conversations is not None:
            self._conversations.look()
        undo.callback(self._idle_watch.stop)
        self._idle_watch.set(self._config.model.unload_after_s)
        self._keep_status(undo)

    def _keeper_of_conversations(self) -> ConversationThread | None:
        if not self._config.sessions.enabled:
            return None
        try:
            from qwend.daemon.conversation_file import ConversationFile
            from qwend.daemon.conversation_thread import ConversationThread
        except ModuleNotFoundError as error:
            self._state.degraded.append(
                f"no sessions are kept: this Python is without {error.name}"
            )
            return None
        loop = asyncio.get_running_loop()

        def degraded(reason: str) -> None:
            log.error(reason)
            loop.call_soon_threadsafe(self._state.degraded.append, reason)

        directory = self._world.paths.state / "sessions"
        return ConversationThread(ConversationFile(directory, time.time, degraded))

    async def _unless_stopped(self, start: Coroutine[Any, Any, None]) -> bool:
        """True once the start is through; False if a signal to stop came first."""
        starting = asyncio.ensure_future(start)
        stopping = asyncio.ensure_future(self._stop.wait())
        await asyncio.wait((starting, stopping), return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if not starting.done():
            log.info("stopping before the start is through")
            starting.cancel()
        with suppress(asyncio.CancelledError):
            await starting
        return not starting.cancelled()

    def status(self, of_uid: int | None) -> dict[str, object]:
        """of_uid: whose counts are told; None: everybody's."""
        assert self._resident.supervisor is not None
        engine = engine_status(self._resident.supervisor, self._broker, self._config.engine.backend)
        train_context = int(self._resident.supervisor.description.get("train_context", 0))
        return daemon_status(
            state=self._state,
            uptime_s=time.monotonic() - self._begin,
            socket=str(self._socket_shown),
            connections=len(self._clients),
            users=user_counts(
                self._clients.of_each_uid(), self._broker.admission.of_each_uid(), of_uid
            ),
            broker=self._broker,
            engine=engine,
            model=model_status(self._resident.model, self._resident.name, train_context),
            models=models_status(self._residents),
            switching=switching_status(self._residents),
            needs_restart=self._needs_restart,
            host={
                **host_status(self._residents.tuning, self._world.host, self._config.host),
                **self._host_watch.status(),
            },
        )

    @property
    def _resident(self) -> Resident:
        """The one that takes new requests."""
        return self._residents.current

    @property
    def _socket_shown(self) -> Path:
        configured = self._config.socket.path
        return Path(configured) if configured else self._world.paths.socket

    def _take_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._ask_to_stop, number)
        loop.add_signal_handler(signal.SIGHUP, self._ask_to_reload)

    def _ask_to_stop(self, number: int) -> None:
        if self._stop.is_set():
            log.info("%s again: stopping at once", signal.Signals(number).name)
            self._cut.set()
        self._stop.set()

    def _ask_to_reload(self) -> None:
        if self._was_ready and not self._stop.is_set():
            self._reload()
        else:  # once the start is through; a stop needs none
            self._reload_asked = True

    async def _carry_out(self, asked: Errand, tell: Tell) -> Done:
        """What an administrator wants that takes time. Raises: QwendError."""

        def told(arrival: Arrival) -> None:
            tell(arrival.stage, arrival.done, arrival.total)

        if isinstance(asked, Load):
            await self._residents.load(asked.model, told)
            return Done(asked.id, "loaded", Usage(0, 0, 0), model=self._resident.name)
        await self._residents.unload(told)
        return Done(asked.id, "unloaded", Usage(0, 0, 0), model=self._resident.name)

    def _administer(self, asked: Drain | ReloadRequest) -> None:
        if isinstance(asked, Drain):
            self._take_requests(False)
        elif self._stop.is_set():
            raise ConfigError("the daemon is stopping; the next one reads the configuration")
        else:
            self._read_again()

    def _take_requests(self, taking: bool) -> None:
        self._broker.drained = self._state.drained = not taking
        self._notifier.status(self._status_line())

    def _reload(self) -> None:
        with suppress(QwendError):  # nobody to tell but the log
            self._read_again()

    def _read_again(self) -> None:
        """Read the configuration again, and take requests again; one that is bad changes nothing.

        Raises: QwendError.
        """
        self._notifier.reloading("reading the configuration again")
        try:
            self._apply(reload(self._in_force, self._world.reread()))
            self._take_requests(True)
        except QwendError as error:
            log.error("the configuration stays as it was: %s (%s)", error, error.code)
            raise
        finally:
            self._notifier.ready(self._status_line())

    def _apply(self, found: Reload) -> None:
        assert self._resident.supervisor is not None
        access = Access.of(found.in_force.socket, os.geteuid())
        config = self._config = self._residents.config = found.in_force
        self._idle_watch.set(config.model.unload_after_s)
        self._needs_restart = found.pending
        self._broker.reconfigure(config)
        self._service.limits, self._service.access = config.limits, access
        self._clients.reconfigure(config.limits)
        self._resident.supervisor.hang_after(config.engine.hung_after_s)
        logging.getLogger().setLevel(config.log.level.upper())
        if "chat.system_prompt" in found.applied:
            self._system_prompt.prefill()
        log.info("configuration read again; applied: %s", ", ".join(found.applied) or "nothing new")
        if found.pending:
            log.warning("these need a restart: %s", ", ".join(found.pending))

    @property
    def _in_force(self) -> Config:
        """The configuration as it would have to be to be what is."""
        return replace(self._config, model=self._resident.config.model)

    def _watch(self, undo: AsyncExitStack) -> None:
        watchdog = Watchdog(self._notifier, self._world.environ, os.getpid(), self._gets_on)
        undo.callback(watchdog.stop)
        watchdog.start()

    def _gets_on(self) -> bool:
        return not self._residents.wedged

    def _claim_socket(self, undo: ExitStack) -> SocketPath | None:
        """Early, so that a second daemon on the same path ends within a second."""
        self._systemd_socket = systemd_listener(self._world.environ, os.getpid())
        if self._systemd_socket is not None:
            undo.callback(self._systemd_socket.close)
            return None
        claimed = SocketPath.claim(self._socket_shown)
        undo.callback(claimed.close)
        return claimed

    def _watch_machine(self, tuning: Tuning, undo: AsyncExitStack) -> None:
        undo.callback(tuning.watch.stop)
        tuning.watch.start(asyncio.get_running_loop().call_later, self._residents.replan)
        watching = asyncio.ensure_future(self._host_watch.run(self._prefix_bytes))
        undo.callback(watching.cancel)

    def _serving(self) -> None:
        """The engine that takes new requests is ready: it knows nothing yet."""
        send = self._resident.line.send
        assert send is not None
        self._thread_limit.attach(send)
        self._host_watch.attach(send)
        if self._was_ready:
            self._state.asleep = ""
            if self._state.condition is Condition.FAILED:
                self._broker.accept()
            self._system_prompt.prefill()
            self._become_ready()

    def _regard(self, resident: Resident) -> None:
        """What of this model, and of its engine, could be better."""
        self._thread_limit.set("cpus", resident.cpu_limit)
        for kind, reasons in resident.reasons.items():
            self._state.regard(kind, reasons)

    def _regard_sleep(self, why: str) -> None:
        self._state.asleep = why
        self._notifier.status(self._status_line())

    def _prefix_bytes(self) -> int:
        return 0 if self._broker.gauges is None else self._broker.gauges.prefix_bytes

    def _engine_lost(self, reason: str) -> None:
        self._broker.lines.lost(reason)
        self._state.move(Condition.WARMING, f"engine lost: {reason}")
        self._notifier.status(self._status_line())

    def _engine_failed(self, reason: str) -> None:
        message = (
            f"the engine keeps dying: {reason}; see qwenctl status, then restart qwend or load "
            "another model (qwenctl load)"
        )
        self._state.move(Condition.FAILED, message)
        self._broker.refuse(ErrorCode.MODEL_ERROR, message)
        self._broker.fail_all(None, ErrorCode.ENGINE_LOST, message)
        self._notifier.status(self._status_line())

    def _loading(self, stage: str, fraction: float) -> None:
        shown = f"{stage} {fraction:.0%}" if fraction else stage
        self._state.move(Condition.WARMING, shown)
        if not self._was_ready:
            self._notifier.starting(shown)

    async def _prefill(self) -> None:
        self._loading(PREFILLING, 0.0)
        await self._system_prompt.prefilled()

    def _prefilling(self, fraction: float) -> None:
        if not self._was_ready:
            self._loading(PREFILLING, fraction)

    async def _listen(self, claimed: SocketPath | None, undo: AsyncExitStack) -> None:
        listener = self._systemd_socket
        if claimed is not None:
            settings = self._config.socket
            listener = claimed.listen(mode=int(settings.mode, 8), group=settings.group)
        assert listener is not None
        undo.callback(self._clients.close_listener)
        self._kept_requests.model = self._resident.identity
        await self._clients.take_over(self._keeper)
        self._broker.continuity.reopen_parked()
        self._clients.listen(listener)

    def _become_ready(self) -> None:
        """Raises: EngineLost if the first engine died while we got ready: that start has failed,
        and whoever waits for it is to hear so now."""
        assert self._resident.supervisor is not None
        if self._resident.supervisor.state is not EngineState.READY:
            raise EngineLost(self._resident.supervisor.reason)
        self._was_ready = True
        self._state.move(Condition.READY, "")
        log.info(
            "ready: %s on %s", f"{self._resident.name}, {self._state.word}", self._socket_shown
        )
        for reason in self._state.degraded:
            log.warning("degraded: %s", reason)
        self._notifier.ready(self._status_line())

    def _keep_status(self, undo: AsyncExitStack) -> None:
        """Keep systemd's status line as things are."""
        if not self._notifier:
            return

        async def keep() -> None:
            while True:
                self._notifier.status(self._status_line())
                await asyncio.sleep(STATUS_S)

        undo.callback(asyncio.ensure_future(keep()).cancel)

    def _status_line(self) -> str:
        return status_line(
            self._resident.name,
            self._state,
            self._broker.gauges,
            self._host_watch.temperature_c,
            self._needs_restart,
        )

    async def _drain(self) -> None:
        """Take no more, let what runs end within the drain, end the rest with an error."""
        self._state.move(Condition.DRAINING, f"{len(self._broker.journal)} requests were open")
        self._notifier.stopping(self._status_line())
        self._clients.close_listener()
        message = "the daemon is stopping: connect again once it is back"
        self._broker.refuse(ErrorCode.SHUTTING_DOWN, message)
        self._service.pulls.refuse(ErrorCode.SHUTTING_DOWN, message)
        self._clients.drain("shutting_down", message)
        self._broker.continuity.leave_parked()
        await self._drained()
        self._residents.stopping = True
        self._broker.fail_all(None, ErrorCode.SHUTTING_DOWN, message)
        await self._clients.close(LAST_WORDS_S)

    async def _drained(self) -> None:
        """Until no request is open, the drain is over, or a second signal cuts it short."""
        cut = asyncio.ensure_future(self._cut.wait())
        empty = asyncio.ensure_future(self._broker.emptied())
        await asyncio.wait(
            (cut, empty),
            timeout=self._config.limits.drain_s,
            return_when=asyncio.FIRST_COMPLETED,
        )
        cut.cancel()
        empty.cancel()
