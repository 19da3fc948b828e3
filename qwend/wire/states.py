"""The states of a connection, and what each allows.

Rule 1: both sides follow the same tables, so each knows what the other may do.
Rule 2: this file does not know bytes, nor why a step was taken.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, auto
from typing import Final

from qwend.wire.messages import DAEMON_MESSAGES, DaemonMessage
from qwend.wire.notices import Error, GoAway
from qwend.wire.replies import Welcome
from qwend.wire.requests import CLIENT_MESSAGES, ClientMessage, Hello

Message = ClientMessage | DaemonMessage


class Side(Enum):
    CLIENT = auto()
    DAEMON = auto()


class State(Enum):
    EXPECT_HELLO = auto()
    EXPECT_WELCOME = auto()
    OPEN = auto()
    CLOSING = auto()
    """One side broke the protocol or said so: nothing is read, a last error may be sent."""
    CLOSED = auto()


class Step(Enum):
    """What moves a connection from one state to another, whichever side does it."""

    HELLO = auto()
    WELCOME = auto()
    FAULT = auto()
    """A fatal fault of the peer was found, or a fatal error was sent or received."""
    END = auto()
    """The peer sends nothing more, or the owner has closed."""


TRANSITIONS: Final[Mapping[tuple[State, Step], State]] = {
    (State.EXPECT_HELLO, Step.HELLO): State.EXPECT_WELCOME,
    (State.EXPECT_HELLO, Step.FAULT): State.CLOSING,
    (State.EXPECT_HELLO, Step.END): State.CLOSED,
    (State.EXPECT_WELCOME, Step.WELCOME): State.OPEN,
    (State.EXPECT_WELCOME, Step.FAULT): State.CLOSING,
    (State.EXPECT_WELCOME, Step.END): State.CLOSED,
    (State.OPEN, Step.FAULT): State.CLOSING,
    (State.OPEN, Step.END): State.CLOSED,
    (State.CLOSING, Step.FAULT): State.CLOSING,
    (State.CLOSING, Step.END): State.CLOSED,
    (State.CLOSED, Step.END): State.CLOSED,
}

_OPEN_CLIENT = tuple(kind for kind in CLIENT_MESSAGES if kind is not Hello)
_OPEN_DAEMON = tuple(kind for kind in DAEMON_MESSAGES if kind is not Welcome)

SENDABLE: Final[Mapping[tuple[Side, State], tuple[type[Message], ...]]] = {
    (Side.CLIENT, State.EXPECT_HELLO): (Hello,),
    (Side.CLIENT, State.OPEN): _OPEN_CLIENT,
    (Side.DAEMON, State.EXPECT_HELLO): (Error, GoAway),
    (Side.DAEMON, State.EXPECT_WELCOME): (Welcome, Error, GoAway),
    (Side.DAEMON, State.OPEN): _OPEN_DAEMON,
    (Side.DAEMON, State.CLOSING): (Error, GoAway),
}
"""What each side may send; a pair that is missing may send nothing. The other side may receive
exactly that, for both are in the same state once all bytes have arrived."""
