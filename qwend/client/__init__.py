"""Use the daemon from a program: `Client` blocks, `AsyncClient` is for asyncio.

    with Client() as client:
        for token in client.chat("Why is the sky blue?", max_tokens=200):
            print(token.text, end="", flush=True)

Rule 1: what is named here is the public interface; the modules are not.
Rule 2: importing this imports no asyncio, which costs a command-line program 50 ms.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qwend.client.answering import AskedAgain
from qwend.client.blocking import Client
from qwend.client.errors import (
    ClientError,
    ConnectionLost,
    DaemonUnreachable,
    PermissionDenied,
    RequestFailed,
)
from qwend.client.sessions import KeptSession
from qwend.client.stream import TokenStream
from qwend.wire import (
    Accepted,
    ChatMessage,
    Done,
    Progress,
    SessionFacts,
    SessionMessage,
    Timings,
    Token,
    Usage,
    Welcome,
)

if TYPE_CHECKING:
    from qwend.client.aio import AsyncClient
    from qwend.client.aio_stream import AsyncTokenStream

__all__ = [
    "Accepted",
    "AskedAgain",
    "AsyncClient",
    "AsyncTokenStream",
    "ChatMessage",
    "Client",
    "ClientError",
    "ConnectionLost",
    "DaemonUnreachable",
    "Done",
    "KeptSession",
    "PermissionDenied",
    "Progress",
    "RequestFailed",
    "SessionFacts",
    "SessionMessage",
    "Timings",
    "Token",
    "TokenStream",
    "Usage",
    "Welcome",
]


def __getattr__(name: str) -> Any:
    if name == "AsyncClient":
        from qwend.client.aio import AsyncClient

        return AsyncClient
    if name == "AsyncTokenStream":
        from qwend.client.aio_stream import AsyncTokenStream

        return AsyncTokenStream
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
