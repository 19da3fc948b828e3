"""Main of the engine process: messages in from the front, steps, events out.

Owns the process: its limits, its death with the front, and its end of the hop. The loop never
blocks on the front: what the front does not take waits here, and is bounded because a sequence
without credit produces nothing.
"""

from __future__ import annotations

import ctypes
import hashlib
import importlib
import os
import resource
import signal
import socket
import sys
import time
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from qwend import failpoint
from qwend.engine import hop
from qwend.engine.backend import Backend
from qwend.engine.calibration import Calibration, calibrate_script
from qwend.engine.company import Company
from qwend.engine.complaint import complain
from qwend.engine.drafting import PromptLookup
from qwend.engine.engine import Engine, EngineSettings
from qwend.engine.events import Alive, CannotStart, Loading, Ready
from qwend.engine.hop_socket import FrontGone, HopSocket
from qwend.engine.prefix_cache import PrefixCache
from qwend.engine.request import EngineRequest
from qwend.engine.scripted import open_scripted
from qwend.engine.settings import EngineStart
from qwend.engine.snapshot_store import SnapshotStore
from qwend.engine.snapshot_writer import SnapshotWriter
from qwend.engine.time_slice import want_long_slices
from qwend.errors import QwendError
from qwend.fault_report import fault_report

PR_SET_PDEATHSIG = 1  # prctl(2)
# Well above the front's 0: when memory runs out the kernel takes the engine, which can be started
# again without losing a client.
OOM_SCORE_ADJ = 500
# The front waits for the engine's end a little longer than this (engine_process.py): 64 MiB on an
# SD card that writes 10 MB/s.
FLUSH_S = 7.0


class Worker:
    """Dispatches messages to one engine until the front says stop or is gone."""

    def __init__(self, connection: HopSocket) -> None:
        self._hop = connection
        self._early: list[dict[str, Any]] = []  # what arrived together with the settings
        self._stopping = False
        self._told_at = time.monotonic()

    def run(self) -> None:
        settings = self._first_message()
        self._say_loading("loading", 0.0)
        failpoint.reach("engine.load")
        backend, calibration, description = self._open_backend(settings)
        store, writer = _open_store(settings, description)
        try:
            prefix_cache = PrefixCache(
                settings.prefix_bytes,
                store,
                whole_only=not backend.facts.can_trim,
                persist=writer,
            )
            engine = Engine(
                backend,
                calibration.cost,
                EngineSettings(settings.itl_budget_s, settings.prefix_bytes),
                time.monotonic,
                prefix_cache=prefix_cache,
                company=_company(calibration, settings.backend, description),
                open_drafter=PromptLookup if settings.speculation else None,
            )
            self._serve(engine, description)
            prefix_cache.flush(FLUSH_S)
        finally:
            backend.close()
            if writer is not None:
                writer.close(FLUSH_S)
            if store is not None:
                store.close()

    def _first_message(self) -> EngineStart:
        (first, *self._early), fds = self._hop.receive_start()
        settings = EngineStart.from_map(first["settings"])
        # The very file that the front has checked, whatever has become of its name.
        return replace(settings, model=f"/proc/self/fd/{fds[0]}") if fds else settings

    def _open_backend(self, settings: EngineStart) -> tuple[Backend, Calibration, dict[str, Any]]:
        """The backend, what its steps cost, and what `status` shows of both."""
        if settings.backend == "scripted":
            scripted = open_scripted(
                settings.script,
                cells=settings.cells,
                rows=settings.ubatch,
                sequences=settings.max_sequences,
            )
            self._say_loading("calibrating", 0.0)
            calibration = calibrate_script(scripted, time.monotonic)
            return scripted, calibration, _description(scripted, calibration)
        # Imported here: the scripted backend must run where llama_cpp is not installed.
        from qwend.engine.llama.start import start_llama

        started = start_llama(
            settings,
            lambda fraction: self._say_loading("loading", fraction),
            lambda: self._say_loading("calibrating", 0.0),
            self._told_clock,
        )
        description = _description(started.backend, started.calibration)
        description["flash_attention"] = started.flash_attention
        description["memory"] = asdict(started.memory)
        return started.backend, started.calibration, description

    def _serve(self, engine: Engine, description: dict[str, Any]) -> None:
        self._hop.send(hop.events([Ready(description)]))
        for message in self._early:
            self._dispatch(engine, message)
        while not self._stopping:
            for message in self._hop.receive(wait=engine.idle):
                self._dispatch(engine, message)
            events = engine.step()
            if events:
                self._hop.send(hop.events(events))

    def _dispatch(self, engine: Engine, message: dict[str, Any]) -> None:
        match message["do"]:
            case "submit":
                engine.submit(EngineRequest.from_map(message["request"]))
            case "cancel":
                engine.cancel(message["id"])
            case "grant":
                engine.grant(message["id"], message["tokens"])
            case "limit":
                engine.limit_threads(message["threads"])
            case "ping":
                self._hop.send(hop.events([Alive(working=not engine.idle)]))
            case "shrink":
                engine.shrink(message["bytes"])
                _give_back_memory()
            case "stop":
                self._stopping = True

    def _told_clock(self) -> float:
        """The clock of the calibration: read before and after each trial, so each one tells the
        front that we are alive, at most once a second."""
        now = time.monotonic()
        if now - self._told_at >= 1.0:
            self._told_at = now
            self._say_loading("calibrating", 0.0)
        return now

    def _say_loading(self, stage: str, fraction: float) -> None:
        self._hop.send(hop.events([Loading(stage, fraction)]))


def _give_back_memory() -> None:
    """Hand what was freed to the kernel: malloc keeps it for the next time (malloc_trim(3))."""
    with suppress(AttributeError):  # glibc's own; musl keeps nothing
        ctypes.CDLL(None).malloc_trim(0)


def _open_store(
    settings: EngineStart, description: dict[str, Any]
) -> tuple[SnapshotStore | None, SnapshotWriter | None]:
    """Where idle prefixes are kept over restarts, and the thread that writes them there."""
    if not (settings.kept_dir and settings.fingerprint and settings.disk_bytes):
        return None, None
    # What was computed depends on all of these; files of others stay until their room is needed.
    build = description.get("llama_cpp_python")
    layout = (settings.kv_type, description.get("flash_attention"), build)
    store = SnapshotStore(
        Path(settings.kept_dir) / "prefixes",
        settings.disk_bytes,
        hashlib.sha256(repr((settings.fingerprint, *layout)).encode()).digest(),
    )
    if store.reason is not None:
        complain(f"qwend engine: no prefixes are kept on disk: {store.reason}")
        return store, None
    try:
        return store, SnapshotWriter(store.files)
    except RuntimeError as error:  # can't start new thread: each file then costs a step its time
        complain(f"qwend engine: prefixes are written between steps: {error}")
        return store, None


def _company(calibration: Calibration, backend: str, description: dict[str, Any]) -> Company | None:
    if backend == "scripted":
        return None
    return Company(
        calibration.cost,
        calibration.by_threads,
        threads=calibration.threads,
        planned=description["threads"],
    )


def _description(backend: Backend, calibration: Calibration) -> dict[str, Any]:
    facts, cost = backend.facts, calibration.cost
    return {
        **facts.description,
        "context_cells": facts.cells,
        "train_context": facts.train_context,
        "step_ms": {rows: round(cost.seconds(rows) * 1e3, 3) for rows in (1, 4, 16, 64)},
        "calibration": {
            "took_s": round(calibration.took_s, 2),
            "kept": calibration.kept,
            "tile": cost.tile,
        },
    }


def _prepare_process(parent: int) -> None:
    """Die with the front, leave no core, be the kernel's first choice when memory runs out."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        raise FrontGone  # it died before the line above took effect
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # Not nice(0), which sets what it reads: a filter of system calls may allow reading alone.
    want_long_slices(os.getpriority(os.PRIO_PROCESS, 0))
    # Ctrl-C in a terminal reaches the whole group; the front decides when the engine ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write(str(OOM_SCORE_ADJ))


def _report(_kind: type[BaseException], error: BaseException, _where: object) -> None:
    """A fault of ours ends the process: say where it is, and not what it happened to."""
    for line in fault_report(error).splitlines():
        complain(f"qwend engine: {line}")


def main(argv: list[str]) -> int:
    """argv: the hop's file descriptor, the front's pid, and the backend there will be."""
    descriptor, parent, backend = int(argv[0]), int(argv[1]), argv[2]
    connection = HopSocket(socket.socket(fileno=descriptor))
    sys.excepthook = _report
    try:
        failpoint.set_points(os.environ)
        _prepare_process(parent)
        if backend == "llama":
            # 0.3 s of imports on two cores, while the front looks at the model.
            with suppress(ImportError):  # told when the model is to be loaded
                importlib.import_module("qwend.engine.llama.start")
        Worker(connection).run()
    except FrontGone:
        return 0
    except QwendError as error:
        with suppress(FrontGone, OSError):
            connection.send(hop.events([CannotStart(error.code, str(error))]))
            connection.drain()
        complain(f"qwend engine: {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
