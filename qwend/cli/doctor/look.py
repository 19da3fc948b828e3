"""Gathering the scene: the only file of the doctor that touches the machine.

Rule 1: whatever cannot be seen is left out, never an error; looking takes at most a few seconds.
Rule 2: this file judges nothing.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import platform
import pwd
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from importlib import metadata
from pathlib import Path

from qwend import __version__
from qwend.cli.doctor.scene import DiskRead, Scene
from qwend.client import Client
from qwend.client.errors import ClientError
from qwend.errors import QwendError
from qwend.host.root import HostRoot
from qwend.models.store import SUFFIX, guide_path
from qwend.paths import find_socket, paths_for

# A daemon that is there answers in milliseconds; one that systemd is starting may take minutes,
# and nobody waits for that here.
PATIENCE_S = 3.0
READ_BYTES = 64 * 2**20
READ_S = 1.0
# Less is over before a card is at its speed.
ENOUGH_BYTES = 4 * 2**20
_BLOCK = 2**20
# adjtimex(2): what it returns while the clock is not synchronised.
_TIME_ERROR = 5
# Larger than struct timex of any architecture; all zero it asks and sets nothing.
_TIMEX_BYTES = 512


def look(environ: Mapping[str, str], explicit: str | None, *, read_disk: bool) -> Scene:
    """Raises: ConfigError if the socket's path is none."""
    socket = find_socket(environ, explicit)
    status, trouble, said = _ask(socket)
    euid = os.geteuid()
    return Scene(
        root=HostRoot(),
        socket=socket,
        status=status,
        trouble=trouble,
        said=said,
        named_by="--socket" if explicit else "QWEND_SOCKET" if environ.get("QWEND_SOCKET") else "",
        socket_gid=_gid(socket),
        user=_user_name(euid),
        euid=euid,
        gids=frozenset({os.getegid(), *os.getgroups()}),
        qwend=__version__,
        python=platform.python_version(),
        llama=_installed("llama-cpp-python"),
        now_s=time.time(),
        synchronised=_is_synchronised(),
        disk=_read_a_model(status, socket, environ, euid) if read_disk else None,
    )


def timed_read(path: Path, clock: Callable[[], float] = time.monotonic) -> DiskRead:
    """Read the beginning of the file past the page cache, for a second at most."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECT)
    except OSError as error:
        return DiskRead(str(path), trouble=f"{path}: {error.strerror}")
    # O_DIRECT wants aligned memory; a mapping begins at a page.
    with mmap.mmap(-1, _BLOCK) as block:
        read, began = 0, clock()
        took = 0.0
        try:
            while read < READ_BYTES and took < READ_S:
                count = os.readv(fd, [block])
                read, took = read + count, clock() - began
                if count < _BLOCK:
                    break
        except OSError as error:
            return DiskRead(str(path), trouble=f"{path}: {error.strerror}")
        finally:
            os.close(fd)
    if read < ENOUGH_BYTES and took < READ_S:
        return DiskRead(str(path), trouble=f"{path.name} is too small to tell")
    return DiskRead(str(path), read, took)


def _ask(socket: Path) -> tuple[Mapping[str, object], str, str]:
    began = time.monotonic()
    try:
        with Client(socket, timeout_s=PATIENCE_S, name=f"qwenctl {__version__}") as client:
            return client.status(), "", ""
    except ClientError as error:
        was_silent = time.monotonic() - began >= PATIENCE_S
        return {}, "silent" if was_silent else error.code, str(error)


def _read_a_model(
    status: Mapping[str, object], socket: Path, environ: Mapping[str, str], euid: int
) -> DiskRead:
    """The model that runs, or the biggest one there is."""
    model = status.get("model")
    named = model.get("path") if isinstance(model, dict) else None
    if isinstance(named, str) and Path(named) != guide_path() and not _is_guide(named):
        return timed_read(Path(named))
    places = [Path("/var/lib/qwend/models")]
    with suppress(QwendError):
        places.append(paths_for(environ, euid).models)
    found = _biggest(file for place in places for file in _files(place))
    if found is None:
        return DiskRead(trouble="the only model here is the built-in one")
    return timed_read(found)


def _is_guide(path: str) -> bool:
    return path.endswith("/qwend/models/guide.gguf")


def _files(directory: Path) -> list[Path]:
    with suppress(OSError):
        return [*directory.glob(f"*{SUFFIX}"), *directory.glob("store/blobs/*")]
    return []


def _biggest(files: Iterable[Path]) -> Path | None:
    sized = []
    for file in files:
        with suppress(OSError):
            sized.append((file.stat().st_size, file))
    return max(sized)[1] if sized else None


def _gid(socket: Path) -> int | None:
    # The directory is closed to strangers, its group is not secret.
    for path in (socket, socket.parent):
        with suppress(OSError):
            return path.stat().st_gid
    return None


def _user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _installed(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def _is_synchronised() -> bool | None:
    with suppress(OSError, AttributeError):
        state = ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(_TIMEX_BYTES))
        return None if state < 0 else bool(state != _TIME_ERROR)
    return None
