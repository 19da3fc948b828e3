"""The codes an `error` message may carry, and what each asks of the reader.

Rule 1: a code is never renamed and never changes its meaning within qwend/1.
Rule 2: this file does not know who raises them.
"""

from __future__ import annotations

from enum import StrEnum


class ErrorCode(StrEnum):
    """One code: its value is the word on the wire.

    closes: the sender closes the connection after it, whether or not a request id is given.
    advice: what the receiver should do.
    """

    closes: bool
    advice: str

    def __new__(cls, value: str, closes: bool, advice: str) -> ErrorCode:
        member = str.__new__(cls, value)
        member._value_ = value
        member.closes = closes
        member.advice = advice
        return member

    FRAME_TOO_LARGE = "frame_too_large", True, "Send less in one message; connect again."
    TOO_COMPLEX = "too_complex", True, "Send fewer or flatter values; connect again."
    BAD_FRAME = "bad_frame", True, "Fix the client: framing or MessagePack is broken."
    HELLO_FIRST = "hello_first", True, "Fix the client: send hello before anything else."
    PROTOCOL_MISMATCH = "protocol_mismatch", True, "Update the older of client and daemon."
    HELLO_TIMEOUT = "hello_timeout", True, "Connect again and send hello at once."
    UNEXPECTED_MESSAGE = "unexpected_message", False, "Fix the client: not allowed at this point."
    UNKNOWN_OP = "unknown_op", False, "Fix the client: no such op in qwend/1."
    UNSUPPORTED = "unsupported", False, "Not in this daemon; see the capabilities in welcome."
    INVALID_MESSAGE = "invalid_message", False, "Fix the client: a key is unknown or missing."
    INVALID_VALUE = "invalid_value", False, "Change the field that the message names."
    DUPLICATE_ID = "duplicate_id", False, "Use an id that no unfinished request has."
    CONTEXT_EXCEEDED = "context_exceeded", False, "Shorten the prompt, or ask for fewer tokens."
    BUSY = "busy", False, "Try again after retry_after_s seconds."
    FORBIDDEN = "forbidden", False, "Ask the operator for access."
    SHUTTING_DOWN = "shutting_down", False, "Connect again once the daemon is back."
    ENGINE_LOST = "engine_lost", False, "Send the request again."
    UNKNOWN_REQUEST = "unknown_request", False, "Ask again from the start."
    POISON_REQUEST = "poison_request", False, "Change the request: the engine died of it twice."
    SLOW_CONSUMER = "slow_consumer", False, "Read faster, or give credit as you read."
    DEADLINE_EXCEEDED = "deadline_exceeded", False, "Allow more time, or ask for fewer tokens."
    UNKNOWN_SESSION = "unknown_session", False, "Choose one of those that sessions lists."
    SESSION_EXISTS = "session_exists", False, "Choose another name, or delete that session first."
    NO_SPACE = "no_space", False, "Delete sessions, or free space on the disk; then send it again."
    STORAGE_ERROR = "storage_error", False, "The operator must look at the disk; see the log."
    FETCH_FAILED = (
        "fetch_failed",
        False,
        "Do what the message says, then pull again: what came is kept.",
    )
    MODEL_ERROR = "model_error", False, "The operator must change the model; see qwenctl status."
    INTERNAL = "internal", False, "Report it: a fault of the daemon, not of the request."


CLOSING_CODES = frozenset(code.value for code in ErrorCode if code.closes)
