"""What a client is told of what it has not said that it knows.

A client refuses a field or a word that it does not know, so what came to the protocol later is left
out unless its hello named the capability. Owns nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from qwend.wire.messages import DaemonMessage
from qwend.wire.replies import Done, Progress, Token


def as_understood(message: DaemonMessage, capabilities: Sequence[str]) -> DaemonMessage | None:
    """The message as this client may get it; None: not at all."""
    match message:
        case Token() if message.reasoning and "reasoning" not in capabilities:
            plain = replace(message, reasoning="")
            return plain if plain.ids or plain.text else None
        case Progress(stage="recovering") if "recovering" not in capabilities:
            return None
        case Progress(stage="waiting" | "loading") if "loading" not in capabilities:
            return None
        case Done() if "energy" not in capabilities:
            return replace(message, usage=replace(message.usage, energy_j=None))
    return message
