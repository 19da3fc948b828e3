"""What a run leaves behind, as far as it can be seen from outside. Owns nothing."""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from .raw_connection import NotGreeted, RawConnection
from .service import Service

LOOK_S = 0.1


async def idle_status(service: Service, timeout_s: float) -> dict[str, Any]:
    """The status once nothing is open any more, or the last one that came in that time.

    Raises: TimeoutError if none came at all.
    """
    status: dict[str, Any] = {}
    with suppress(TimeoutError):
        async with asyncio.timeout(timeout_s):
            while not status or open_things(status):
                with suppress(NotGreeted, OSError):
                    status = await status_of(service)
                await asyncio.sleep(LOOK_S)
    if not status:
        raise TimeoutError
    return status


async def status_of(service: Service) -> dict[str, Any]:
    """On a connection of its own. Raises: NotGreeted, OSError."""
    with await RawConnection.open(service.socket) as connection:
        return await connection.status()


def open_things(status: dict[str, Any]) -> list[str]:
    """What is not over yet: requests, sequences, cells, connections beside the one that asks."""
    engine = status["engine"]
    counts = {
        "requests open": status["requests"]["open"],
        "sequences running": engine.get("running", 0),
        "requests waiting": engine.get("waiting", 0),
        "cells in use": engine.get("used_cells", 0),
        "connections beside ours": status["connections"] - 1,
    }
    return [f"{count} {what}" for what, count in counts.items() if count]


def was_given_back(status: dict[str, Any], service: Service) -> list[str]:
    """What should not be there any more, in words."""
    found = open_things(status)
    if status["state"] not in ("ready", "degraded"):
        found.append(f"the state is {status['state']}: {status['engine'].get('reason')}")
    return found


def processes_of(home: Path) -> list[psutil.Process]:
    """Those that run in this directory, by their environment."""
    mark = os.fsencode(f"HOME={home}")
    found = []
    for process in psutil.process_iter():
        with suppress(OSError, psutil.Error):
            environ = Path(f"/proc/{process.pid}/environ").read_bytes().split(b"\0")
            if mark in environ and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def open_files(pid: int) -> list[str]:
    """What its descriptors are (proc_pid_fd(5))."""
    found = []
    for fd in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(OSError):
            found.append(f"{fd.name} {fd.readlink()}")
    return found


def leftover_files(home: Path) -> list[Path]:
    """Temporary files of writes that were cut off: they are removed at a start."""
    return [
        path.relative_to(home)
        for path in home.rglob("*")
        if path.suffix in (".tmp", ".part") or path.name.startswith((".tmp", "tmp"))
    ]
