"""All messages of qwend/1, and the step from a map to one of them.

Rule 1: the set of ops lives here; what one message carries is in its class.
Rule 2: this file does not know connections: any message may come at any time.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import TypeVar, get_args

from qwend.errors import RemoteProtocolError
from qwend.wire import limits
from qwend.wire.codes import ErrorCode
from qwend.wire.fields import Fields
from qwend.wire.notices import Error, GoAway, Pong, StatusReply
from qwend.wire.replies import Accepted, Done, Progress, Token, Welcome
from qwend.wire.requests import CLIENT_MESSAGES, Cancel, ClientMessage, Credit
from qwend.wire.sessions import SessionsReply

DaemonMessage = (
    Welcome
    | Accepted
    | Progress
    | Token
    | Done
    | Error
    | SessionsReply
    | StatusReply
    | Pong
    | GoAway
)
DAEMON_MESSAGES: tuple[type[DaemonMessage], ...] = get_args(DaemonMessage)

_BY_CLIENT_OP: Mapping[str, type[ClientMessage]] = {each.op: each for each in CLIENT_MESSAGES}
_BY_DAEMON_OP: Mapping[str, type[DaemonMessage]] = {each.op: each for each in DAEMON_MESSAGES}

LATER_OPS = frozenset({"embed"})
"""Reserved for later versions; until then their answer is `unsupported`."""

_ABOUT_OPEN_REQUESTS = frozenset({Cancel.op, Credit.op})
"""A fault in these must not carry their id: an error with an id ends that request."""

Kind = TypeVar("Kind")


def parse_client(fields: Mapping[str, object]) -> ClientMessage:
    """Return the client message in `fields`.

    Raises: RemoteProtocolError, not fatal, with `request_id` set if the map was to open a request
    and has a usable id.
    """
    kind, source = _identify(fields, _BY_CLIENT_OP, _BY_DAEMON_OP)
    message = kind.read(source)
    source.refuse_others()
    return message


def parse_daemon(fields: Mapping[str, object]) -> DaemonMessage:
    """Return the daemon message in `fields`. Raises as `parse_client`."""
    kind, source = _identify(fields, _BY_DAEMON_OP, _BY_CLIENT_OP)
    message = kind.read(source)
    source.refuse_others()
    return message


def _identify(
    fields: Mapping[str, object], known: Mapping[str, Kind], other_side: Mapping[str, object]
) -> tuple[Kind, Fields]:
    """Find the class for the map's op; return it with a reader that has taken `op`."""
    op = Fields("the message", fields, _request_id(fields)).text("op")
    request_id = None if op in _ABOUT_OPEN_REQUESTS else _request_id(fields)
    kind = known.get(op)
    if kind is not None:
        source = Fields(op, fields, request_id)
        source.has("op")
        return kind, source
    if op in LATER_OPS:
        code, what = ErrorCode.UNSUPPORTED, f"'{op}' is not supported by this version"
    elif op in other_side:
        code, what = ErrorCode.UNEXPECTED_MESSAGE, f"'{op}' is sent by the other side only"
    else:
        near = difflib.get_close_matches(op[: limits.NAME_CHARS], known, n=1)
        hint = f"did you mean '{near[0]}'?" if near else "known are " + ", ".join(known)
        code, what = ErrorCode.UNKNOWN_OP, f"there is no op {op[:60]!r}; {hint}"
    raise RemoteProtocolError(what, code=code.value, request_id=request_id)


def _request_id(fields: Mapping[str, object]) -> int | None:
    given = fields.get("id")
    return given if type(given) is int and 0 <= given <= limits.ID_MAX else None
