"""The status map: what the daemon truthfully knows of itself, gathered when asked.

Owns nothing; every figure is read where it is kept. The keys are part of the protocol
(docs/protocol.md): they may be added to, never renamed.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import psutil

from qwend import __version__
from qwend.daemon.broker import Broker
from qwend.daemon.model import HeldModel
from qwend.daemon.residents import Residents
from qwend.daemon.state import DaemonState
from qwend.daemon.supervisor import Supervisor
from qwend.engine.request import PUBLIC_UID


def model_status(model: HeldModel | None, name: str, train_context: int) -> dict[str, Any]:
    if model is None:
        return {"name": name}
    facts = model.facts
    return {
        "name": model.file.name,
        "path": str(model.file.path),
        "sha256": model.sha256,
        "bytes": model.size_bytes,
        "warm": model.warm,
        "memory": {
            "policy": str(model.memory.policy),
            "reason": model.memory.reason,
            "copy_in_memory": model.warm and model.memory.copy_in_memory,
            "lock": model.memory.lock,
            "lock_reason": model.memory.lock_reason,
        },
        "architecture": facts.architecture,
        "quantization": facts.quantization,
        "parameters": facts.parameter_count,
        "train_context": train_context or facts.context_length,
    }


def engine_status(supervisor: Supervisor, broker: Broker, backend: str) -> dict[str, Any]:
    gauges = broker.gauges
    return {
        "state": supervisor.state.value,
        "reason": supervisor.reason,
        "pid": supervisor.pid,
        "restarts": supervisor.restarts,
        "backend": backend,
        **_with_text_keys(supervisor.description),
        "running": gauges.running if gauges else 0,
        "waiting": broker.waiting + (gauges.waiting if gauges else 0),
        "used_cells": gauges.used_cells if gauges else 0,
        "prefix_bytes": gauges.prefix_bytes if gauges else 0,
        "disk_bytes": gauges.disk_bytes if gauges else 0,
        **_threads(gauges.threads if gauges else None),
    }


def daemon_status(
    *,
    state: DaemonState,
    uptime_s: float,
    socket: str,
    connections: int,
    users: Sequence[Mapping[str, int]] = (),
    broker: Broker,
    engine: Mapping[str, Any],
    model: Mapping[str, Any],
    models: Sequence[Mapping[str, str]] = (),
    switching: Mapping[str, Any] | None = None,
    needs_restart: Sequence[str] = (),
    host: Mapping[str, Any],
) -> dict[str, object]:
    gauges = broker.gauges
    journal = broker.journal
    return {
        "server": f"qwend {__version__}",
        "pid": os.getpid(),
        "uptime_s": round(uptime_s, 3),
        "state": str(state.word),
        "stage": state.stage or state.asleep,
        "degraded": state.reasons,
        "needs_restart": list(needs_restart),
        "model": dict(model),
        "models": [dict(one) for one in models],
        "switching": switching and dict(switching),
        "engine": dict(engine),
        "host": dict(host),
        "speed": {
            "decode_tok_s": round(gauges.decode_tok_s, 2) if gauges else 0.0,
            "prefill_tok_s": round(gauges.prefill_tok_s, 2) if gauges else 0.0,
        },
        "connections": connections,
        "users": [dict(one) for one in users],
        "requests": {
            "accepted": journal.accepted,
            "done": journal.done,
            "failed": journal.failed,
            "open": len(journal) - journal.parked,
            "parked": journal.parked,
        },
        "socket": socket,
        "memory": {
            "front_rss_bytes": resident_bytes(os.getpid()),
            "engine_rss_bytes": resident_bytes(int(engine.get("pid", 0))),
        },
    }


def user_counts(
    connections: Mapping[int, int], requests: Mapping[int, tuple[int, int]], of_uid: int | None
) -> list[dict[str, int]]:
    """What each uid has open, or one of them: all that one who is no administrator is told.

    requests: those at the engine and those that wait, by uid.
    """
    known = sorted(uid for uid in {*connections, *requests} if uid != PUBLIC_UID)
    counts = []
    for uid in known if of_uid is None else (of_uid,):
        running, waiting = requests.get(uid, (0, 0))
        open_now = connections.get(uid, 0)
        if open_now or running or waiting:
            counts.append(
                {"uid": uid, "connections": open_now, "running": running, "waiting": waiting}
            )
    return counts


def models_status(models: Residents) -> list[dict[str, str]]:
    """All that are in memory, or are to be."""
    roles = [(models.current, "resident"), *((one, "leaving") for one in models.leaving)]
    if models.coming is not None:
        roles.append((models.coming, "loading"))
    return [{"name": one.name, "path": one.path, "role": role} for one, role in roles]


def switching_status(models: Residents) -> dict[str, Any] | None:
    """The model that is being loaded, and how far it is; None: none is."""
    if models.coming is None:
        return None
    arrival = models.arrival
    percent = arrival.done if arrival.stage == "loading" else 0
    return {"model": models.coming.name, "stage": arrival.stage, "percent": percent}


def _threads(controller: Mapping[str, Any] | None) -> dict[str, Any]:
    """What the controller of company says (engine/company.py); nothing until it has said it.

    `threads` stays the engine's own description: how many it was started with.
    """
    if not controller:
        return {}
    return {
        "threads_now": controller["threads"],
        "threads_alone": controller["planned"],
        "threads_since_s": controller["since_s"],
        "company": controller["company"],
    }


def _with_text_keys(description: Mapping[Any, Any]) -> dict[str, Any]:
    """The engine may count by number; the protocol's maps have text for keys (docs/protocol.md)."""
    return {
        str(key): _with_text_keys(value) if isinstance(value, Mapping) else value
        for key, value in description.items()
    }


def resident_bytes(pid: int) -> int:
    """Resident set size; 0 for a process that is not there."""
    try:
        return int(psutil.Process(pid).memory_info().rss) if pid else 0
    except psutil.Error:
        return 0
