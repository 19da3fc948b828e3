"""`qwenctl logs`: the daemon's log, where systemd keeps it; else where it goes.

Rule 1: nothing is read and shown here: under systemd it is journalctl that runs, with its options.
Rule 2: the daemon need not be up, for then its log is wanted most.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import click

from qwend import __version__
from qwend.cli.connection import socket_option
from qwend.cli.exits import Exit
from qwend.client import Client
from qwend.client.errors import ClientError
from qwend.errors import HostError, QwendError
from qwend.host.root import HostRoot
from qwend.paths import SYSTEM_SOCKET, find_socket

UNIT = "qwend.service"
# Where a distribution, an administrator, scripts/install and a user have units (systemd.unit(5)).
SYSTEM_UNITS = ("/etc/systemd/system", "/usr/local/lib/systemd/system", "/usr/lib/systemd/system")
USER_UNITS = ("/etc/systemd/user", "/usr/local/lib/systemd/user", "/usr/lib/systemd/user")
# A daemon that is there answers in milliseconds, and whoever asks for its log will not wait for
# one that hangs.
PATIENCE_S = 3.0
LINES = 50

START_ONE = """\
To keep its log, start it with one:
  qwend serve 2>>qwend.log
or as a service, whose log is in the journal (docs/install.md):
  sudo scripts/install"""


@dataclass(frozen=True, slots=True)
class Journal:
    """which: what chooses the daemon's lines, as arguments of journalctl(1)."""

    which: tuple[str, ...]


@click.command(
    "logs", context_settings={"ignore_unknown_options": True, "allow_interspersed_args": True}
)
@click.option("-f", "--follow", is_flag=True, help="Go on with what is logged from now on.")
@click.option(
    "-n",
    "--lines",
    type=click.IntRange(min=0),
    help=f"Show that many of the last lines; {LINES} where nothing else is said.",
)
@socket_option
@click.argument("options", nargs=-1, type=click.UNPROCESSED, metavar="[JOURNALCTL OPTIONS]...")
def command(
    follow: bool, lines: int | None, socket_path: str | None, options: tuple[str, ...]
) -> int:
    """Show the daemon's log.

    A daemon that systemd runs logs to the journal: this runs journalctl for its unit, the
    machine's or your own, and hands on what it does not know itself. Without systemd it says where
    the log of the running daemon goes, and how to start one that keeps it.

    \b
    qwenctl logs -f                  what happens now
    qwenctl logs -n 500
    qwenctl logs -p warning          warnings and errors alone
    qwenctl logs --since -1h
    """
    root, socket = HostRoot(), find_socket(os.environ, socket_path)
    pid = _daemon_pid(socket)
    # A socket of another name is of a daemon that somebody has started, and of no service.
    if pid or socket in (SYSTEM_SOCKET, find_socket({**os.environ, "QWEND_SOCKET": ""})):
        journal = journal_of(root, pid, Path.home())
        if journal is not None:
            _run_journalctl(arguments(journal, follow=follow, lines=lines, options=options))
    click.echo("\n".join(elsewhere(root, pid, socket)))
    return Exit.DONE if pid else Exit.UNREACHABLE


def journal_of(root: HostRoot, pid: int, home: Path) -> Journal | None:
    """The journal that has the daemon's lines, None if none has.

    pid: the daemon's; 0 for none that answers: then the one that is installed.
    """
    if not pid:
        if any(root.exists(f"{place}/{UNIT}") for place in SYSTEM_UNITS):
            return Journal(("-u", "qwend"))
        own = f"{home}/.config/systemd/user"
        if any(root.exists(f"{place}/{UNIT}") for place in (own, *USER_UNITS)):
            return Journal(("--user", "-u", "qwend"))
        return None
    group = ""
    with suppress(HostError):
        group = root.read_text(f"/proc/{pid}/cgroup")
    if f"/{UNIT}" in group:
        return Journal(("--user", "-u", "qwend") if "/user@" in group else ("-u", "qwend"))
    # Under a unit of another name (systemd-run), standard error is a socket of the journal's.
    if "socket:" in (_standard_error(root, pid) or "") and ".service" in group:
        return Journal((f"_PID={pid}",))
    return None


def arguments(
    journal: Journal, *, follow: bool, lines: int | None, options: Sequence[str]
) -> list[str]:
    """The command line of journalctl."""
    if lines is None and not options:
        lines = LINES
    return [
        "journalctl",
        *journal.which,
        *(() if lines is None else ("-n", str(lines))),
        *(("-f",) if follow else ()),
        *options,
    ]


def elsewhere(root: HostRoot, pid: int, socket: Path) -> Iterator[str]:
    """Where the log goes without a journal, in words, and how to start a daemon that keeps it."""
    if not pid:
        yield f"No daemon answers on {socket}, and no service of qwend is there to have a log."
        yield START_ONE
        return
    target = _standard_error(root, pid)
    if target is None:
        yield f"The daemon (pid {pid}) runs without systemd, as another user."
        yield "Where its log goes can be seen by that user: sudo qwenctl logs"
    elif target == "/dev/null":
        yield f"The daemon (pid {pid}) runs without systemd, and its log goes nowhere (/dev/null)."
        yield START_ONE
    elif target.startswith(("/dev/pts/", "/dev/tty", "/dev/console")):
        yield f"The daemon (pid {pid}) runs without systemd; its log is on the terminal {target}."
        yield START_ONE
    elif target.startswith("/"):
        yield f"The daemon (pid {pid}) runs without systemd; its log is the file"
        yield f"  {target}"
        yield f"To see it: tail -n {LINES} -f {target}"
    else:
        yield f"The daemon (pid {pid}) runs without systemd; whoever started it reads its log."
        yield START_ONE


def _standard_error(root: HostRoot, pid: int) -> str | None:
    """What it is, as proc(5) says: a path, or "pipe:[...]"; None if that may not be seen."""
    try:
        return os.readlink(root.at(f"/proc/{pid}/fd/2"))
    except OSError:
        return None


def _daemon_pid(socket: Path) -> int:
    try:
        with Client(socket, timeout_s=PATIENCE_S, name=f"qwenctl {__version__}") as client:
            pid = client.status().get("pid")
    except ClientError:
        return 0
    return pid if isinstance(pid, int) else 0


def _run_journalctl(command_line: list[str]) -> None:
    """Become journalctl. Raises: QwendError if there is none."""
    if shutil.which(command_line[0]) is None:
        raise QwendError(
            "the daemon's log is in the journal, and there is no journalctl to show it; "
            "it comes with systemd",
            code="unsupported",
        )
    os.execvp(command_line[0], command_line)
