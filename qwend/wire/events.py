"""What a connection reports besides messages.

Rule 1: an event that is no message is one of these three.
Rule 2: this file does not know how the owner answers.
"""

from __future__ import annotations

from dataclasses import dataclass

from qwend.errors import RemoteProtocolError
from qwend.wire.messages import DaemonMessage
from qwend.wire.notices import Error
from qwend.wire.requests import ClientMessage


@dataclass(frozen=True, slots=True)
class BadMessage:
    """The peer sent a message that is refused; the connection goes on."""

    error: RemoteProtocolError

    def answer(self) -> Error:
        """What a daemon sends back."""
        return Error(self.error.code, str(self.error), id=self.error.request_id)


@dataclass(frozen=True, slots=True)
class ProtocolFailure:
    """The peer broke the protocol; nothing more will be read. Answer, then close."""

    error: RemoteProtocolError

    def answer(self) -> Error:
        """What a daemon sends back before it closes."""
        return Error(self.error.code, str(self.error), id=self.error.request_id)


@dataclass(frozen=True, slots=True)
class EndOfStream:
    """The peer sends nothing more, and ended between two frames."""


Event = ClientMessage | DaemonMessage | BadMessage | ProtocolFailure | EndOfStream
