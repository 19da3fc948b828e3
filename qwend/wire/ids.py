"""Ids: of a request, as every message about one carries it, and nonces. Owns nothing."""

from __future__ import annotations

from qwend.wire import limits
from qwend.wire.fields import Fields


def read_id(source: Fields) -> int:
    return source.integer("id", 0, limits.ID_MAX)


def read_nonce(source: Fields) -> int | None:
    return source.integer("nonce", 0, limits.ID_MAX) if source.has("nonce") else None
