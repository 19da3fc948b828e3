"""Where this person's models are, which of them the daemon is told to load, and which it holds.

Rule 1: every subcommand finds the store here, so that all mean the same one.
Rule 2: a daemon that does not answer is no reason to fail.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from qwend.cli.amounts import part
from qwend.client import Client
from qwend.client.errors import ClientError
from qwend.config import load_config
from qwend.errors import QwendError
from qwend.models.blob_store import BlobStore
from qwend.paths import SYSTEM_SOCKET, Mode, Paths, find_socket, paths_for

# One that is up answers in milliseconds; nobody waits for a model to load before `rm`.
_PATIENCE_S = 3.0


def paths() -> Paths:
    """Raises: ConfigError without a usable HOME."""
    return paths_for(os.environ, os.geteuid())


def store() -> BlobStore:
    return BlobStore(paths().models)


def configured_name() -> str:
    """What `name` under [model] says. Raises: ConfigError."""
    return load_config(None, os.environ).config.model.name


def daemon_status(socket_path: str | None) -> Mapping[str, object]:
    """Empty if no daemon answers."""
    with suppress(ClientError, QwendError), Client(socket_path, timeout_s=_PATIENCE_S) as client:
        return client.status()
    return {}


def held(status: Mapping[str, object]) -> dict[Path, str]:
    """The files of the models that the daemon holds, and what each is to it: `resident`,
    `unloaded`, `loading`, or `leaving` while answers of it are under way."""
    roles: dict[Path, str] = {}
    during_a_switch = status.get("models")
    for one in during_a_switch if isinstance(during_a_switch, list) else ():
        if isinstance(one, dict) and isinstance(one.get("path"), str) and one["path"]:
            roles[Path(one["path"])] = str(one.get("role"))
    path = part(status, "model").get("path")
    if isinstance(path, str) and path:
        is_there = part(status, "engine").get("state") != "unloaded"
        roles.setdefault(Path(path), "resident" if is_there else "unloaded")
    return roles


def euid_behind(socket_path: str | None) -> int:
    """Whose configuration and store the daemon at this socket has: root's are the system's."""
    is_systems = find_socket(os.environ, socket_path) == SYSTEM_SOCKET
    return 0 if is_systems and os.path.lexists(SYSTEM_SOCKET) else os.geteuid()


def is_for_me_alone(socket_path: str | None) -> bool:
    """A store of one's own, where the daemon reads another."""
    return paths().mode is Mode.USER and euid_behind(socket_path) != os.geteuid()
