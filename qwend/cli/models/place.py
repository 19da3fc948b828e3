"""Where this person's models are, which of them the daemon is told to load, and which it has.

Rule 1: every subcommand finds the store here, so that all mean the same one.
Rule 2: a daemon that does not answer is no reason to fail.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from qwend.client import Client
from qwend.client.errors import ClientError
from qwend.config import load_config
from qwend.errors import QwendError
from qwend.models.blob_store import BlobStore
from qwend.paths import SYSTEM_SOCKET, Mode, Paths, paths_for

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


def resident_path(status: Mapping[str, object]) -> Path | None:
    """The file of the model that the daemon has in memory."""
    model = status.get("model")
    path = model.get("path") if isinstance(model, dict) else None
    return Path(path) if isinstance(path, str) and path else None


def is_for_me_alone() -> bool:
    """A store of one's own, on a machine whose daemon reads another."""
    return paths().mode is Mode.USER and os.path.lexists(SYSTEM_SOCKET)
