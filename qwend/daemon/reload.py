"""What of a configuration that is read again can be applied at once, and what needs a restart.

Owns the list of what is live. Knows nothing of how a setting is applied.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

from qwend.config import Config

# Everything else is given to the engine at its start, or was used to claim something.
LIVE_SECTIONS = frozenset({"limits", "sampling", "chat", "log"})
LIVE_SETTINGS = frozenset(
    {
        "engine.hung_after_s",
        "model.unload_after_s",
        "host.on_battery",
        "sessions.per_uid",
        "sessions.mb_per_uid",
        "socket.allow_users",
        "socket.allow_groups",
        "socket.admin_group",
    }
)


@dataclass(frozen=True, slots=True)
class Reload:
    """in_force: what the daemon is to go by from now on. applied, pending: the settings that were
    changed, as "section.key", and those that wait for a restart."""

    in_force: Config
    applied: tuple[str, ...]
    pending: tuple[str, ...]


def reload(running: Config, read: Config) -> Reload:
    """running: what is in force; read: what the file and the environment say now."""
    sections: dict[str, Any] = {}
    applied: list[str] = []
    pending: list[str] = []
    for section in (one.name for one in fields(Config)):
        before, after = getattr(running, section), getattr(read, section)
        live: dict[str, Any] = {}
        for key in (one.name for one in fields(before)):
            value = getattr(after, key)
            if value == getattr(before, key):
                continue
            name = f"{section}.{key}"
            if section in LIVE_SECTIONS or name in LIVE_SETTINGS:
                live[key] = value
                applied.append(name)
            else:
                pending.append(name)
        sections[section] = replace(before, **live)
    return Reload(Config(**sections), tuple(applied), tuple(pending))
