"""Errors, typed by who must act.

Rule 1: every error that crosses a package border is one of these classes.
Rule 2: this file does not know how an error reaches a person; `code` is the stable word that
programs read, the text says what happened, where, and what to do.
"""

from __future__ import annotations


class QwendError(Exception):
    """Base of all errors of this package. `code` is stable; the text is for people."""

    code = "internal"

    def __init__(self, message: str, *, code: str | None = None) -> None:
        super().__init__(message)
        if code is not None:
            self.code = code


class ConfigError(QwendError):
    """The operator must change the configuration or the command line."""

    code = "config"


class ModelError(QwendError):
    """The operator must give another model file, or allow this one explicitly."""

    code = "model_error"


class FetchError(QwendError):
    """The operator may try again later, from another source, or make room first."""

    code = "fetch_failed"


class HostError(QwendError):
    """The machine refused something; the operator must change the machine or accept less."""

    code = "host"

    def __init__(self, path: str, doing: str, cause: object) -> None:
        super().__init__(f"{doing} {path}: {cause}")
        self.path = path
        self.doing = doing
        self.cause = cause


class RequestError(QwendError):
    """The requester must change this one request; nothing else is affected."""

    code = "invalid_value"


class CapacityError(QwendError):
    """The requester may try again after `retry_after_s` seconds."""

    code = "busy"

    def __init__(self, message: str, *, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class RemoteProtocolError(QwendError):
    """The peer broke the protocol. After a `fatal` one the connection must be closed."""

    code = "bad_frame"

    def __init__(
        self,
        message: str,
        *,
        code: str = "bad_frame",
        request_id: int | None = None,
        fatal: bool = False,
    ) -> None:
        super().__init__(message, code=code)
        self.request_id = request_id
        self.fatal = fatal


class LocalProtocolError(QwendError):
    """We tried to send what the protocol does not allow: a bug on this side."""

    code = "internal"


class EngineBug(QwendError):
    """The engine's own accounting is wrong: a bug of ours, never the requester's."""

    code = "internal"


class EngineLost(QwendError):
    """The engine process died or was killed; the request may be sent again."""

    code = "engine_lost"
