"""How a subcommand reaches the daemon: the socket it was told, and its name for the daemon's log.

Rule 1: every subcommand that talks to the daemon gets its client here.
Rule 2: this file does not know what is asked.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

import click

from qwend import __version__
from qwend.cli.report import say_dim
from qwend.client import Client

if TYPE_CHECKING:
    from qwend.client import AsyncClient

# TimeoutStartSec of qwend.service: until then a connection to the socket, which systemd listens on
# already, is answered once the model is loaded.
PATIENCE_S = 180.0
SLOW_S = 2.0

Command = TypeVar("Command", bound=Callable[..., object])


def connect(socket_path: str | None, *, patient: bool = False) -> Client:
    """Open a connection; a patient one waits for a daemon that systemd is just starting.

    Raises: DaemonUnreachable, PermissionDenied, ConfigError, RequestFailed.
    """
    name = f"qwenctl {__version__}"
    if not patient:
        return Client(socket_path, name=name)
    notice = threading.Timer(SLOW_S, say_dim, ["The daemon is slow to answer; it may be starting."])
    notice.daemon = True
    notice.start()
    try:
        return Client(socket_path, timeout_s=PATIENCE_S, name=name)
    finally:
        notice.cancel()


def connecting(socket_path: str | None) -> AsyncClient:
    """Return a client for `async with`. Raises, then: as `connect`."""
    from qwend.client.aio import AsyncClient  # with asyncio: 50 ms that few subcommands need

    return AsyncClient(socket_path, name=f"qwenctl {__version__}")


def socket_option(command: Command) -> Command:
    """Accept --socket behind the subcommand too, and hand the path over as `socket_path`."""
    return click.option(
        "--socket",
        "socket_path",
        metavar="PATH",
        callback=_own_or_common,
        help="The daemon's socket, as in `qwenctl --socket PATH`.",
    )(command)


def _own_or_common(ctx: click.Context, _param: click.Parameter, value: str | None) -> str | None:
    common = ctx.find_root().obj
    return value if value is not None or not isinstance(common, str) else common
