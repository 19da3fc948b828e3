"""Descriptors: how many connections the process may hold open, and still do everything else.

Owns the soft limit of open files. Knows nothing of connections.
"""

from __future__ import annotations

import resource

# What the front has open besides connections: 14 (the epoll, the listener and its lock, the model's
# copy, hop and pidfd of the engine, the standard three), and what starting another engine, reading
# the configuration and looking at the machine take for a moment.
RESERVED = 32


def room_for(wanted: int) -> int:
    """How many of `wanted` connections there is room for, after raising the soft limit to fit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = wanted + RESERVED
    if soft != resource.RLIM_INFINITY and soft < needed:
        soft = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return wanted if soft == resource.RLIM_INFINITY else max(1, min(wanted, soft - RESERVED))
