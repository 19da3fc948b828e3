"""The wire protocol qwend/1, without input or output: bytes to messages and back.

Rule 1: client and daemon both speak through this package; docs/protocol.md describes the same.
Rule 2: nothing here knows asyncio, sockets, threads or the engine.
"""

from qwend.wire.codes import CLOSING_CODES, ErrorCode
from qwend.wire.connection import Connection
from qwend.wire.events import BadMessage, EndOfStream, Event, ProtocolFailure
from qwend.wire.generation import Generation
from qwend.wire.limits import PROTOCOL
from qwend.wire.messages import DaemonMessage, parse_client, parse_daemon
from qwend.wire.notices import Error, GoAway, Pong, StatusReply
from qwend.wire.orders import Drain, Load, Pull, Reload, Unload
from qwend.wire.priority import Priority
from qwend.wire.prompt import ChatMessage, Prompt, Role
from qwend.wire.replies import Accepted, Done, FinishReason, Progress, Stage, Token, Welcome
from qwend.wire.requests import (
    Cancel,
    Chat,
    ClientMessage,
    Complete,
    Credit,
    Hello,
    Ping,
    Prefill,
    Status,
    Tokenize,
)
from qwend.wire.resume import Resume
from qwend.wire.sessions import (
    SessionFacts,
    SessionMessage,
    Sessions,
    SessionsReply,
    is_session_name,
)
from qwend.wire.states import Message, Side, State
from qwend.wire.usage import Timings, Usage

__all__ = [
    "CLOSING_CODES",
    "PROTOCOL",
    "Accepted",
    "BadMessage",
    "Cancel",
    "Chat",
    "ChatMessage",
    "ClientMessage",
    "Complete",
    "Connection",
    "Credit",
    "DaemonMessage",
    "Done",
    "Drain",
    "EndOfStream",
    "Error",
    "ErrorCode",
    "Event",
    "FinishReason",
    "Generation",
    "GoAway",
    "Hello",
    "Load",
    "Message",
    "Ping",
    "Pong",
    "Prefill",
    "Priority",
    "Progress",
    "Prompt",
    "ProtocolFailure",
    "Pull",
    "Reload",
    "Resume",
    "Role",
    "SessionFacts",
    "SessionMessage",
    "Sessions",
    "SessionsReply",
    "Side",
    "Stage",
    "State",
    "Status",
    "StatusReply",
    "Timings",
    "Token",
    "Tokenize",
    "Unload",
    "Usage",
    "Welcome",
    "is_session_name",
    "parse_client",
    "parse_daemon",
]
