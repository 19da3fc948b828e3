"""How a subcommand reaches the daemon: the socket it was told, and its name for the daemon's log.

Rule 1: every subcommand that talks to the daemon gets its client here.
Rule 2: this file does not know what is asked.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import click

from qwend import __version__
from qwend.client import Client

Command = TypeVar("Command", bound=Callable[..., object])


def connect(socket_path: str | None) -> Client:
    """Raises: DaemonUnreachable, PermissionDenied, ConfigError, RequestFailed."""
    return Client(socket_path, name=f"qwenctl {__version__}")


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
