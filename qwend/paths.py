"""Where qwend keeps its things: the socket, the configuration, the state, models, warm copies.

Rule 1: every default path is decided here, from the environment and the effective uid alone.
Rule 2: this file creates nothing and reads no configuration; who uses a path makes and checks it.

Sources: systemd.exec(5) for RUNTIME_DIRECTORY and its sisters; XDG Base Directory Specification
0.8 for the XDG_* names; unix(7) for the length of a socket path.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from qwend.errors import ConfigError

SYSTEM_RUNTIME = Path("/run/qwend")
SYSTEM_SOCKET = SYSTEM_RUNTIME / "qwend.sock"

# sockaddr_un.sun_path holds 108 bytes, the last one NUL (unix(7)).
SOCKET_PATH_BYTES = 107


class Mode(Enum):
    """Whose daemon this is: the machine's or one user's."""

    SYSTEM = "system"
    USER = "user"


@dataclass(frozen=True, slots=True)
class Paths:
    """The default paths of one daemon; `config` is a file, the others but `socket` directories.

    warm_spare: for a copy that is larger than the file system of `warm`.
    """

    mode: Mode
    socket: Path
    config: Path
    state: Path
    models: Path
    warm: Path
    warm_spare: Path | None = None

    @property
    def pull_socket(self) -> Path:
        """Of the service that pulls for a daemon without a network: qwend-pull.socket."""
        return self.socket.with_name("pull.sock")

    @property
    def warm_places(self) -> tuple[Path, ...]:
        return (self.warm,) if self.warm_spare is None else (self.warm, self.warm_spare)


def mode(environ: Mapping[str, str], euid: int) -> Mode:
    """System mode is root, or the service user whom systemd gave /run/qwend."""
    if euid == 0 or _systemd_directory(environ, "RUNTIME_DIRECTORY") == SYSTEM_RUNTIME:
        return Mode.SYSTEM
    return Mode.USER


def paths_for(environ: Mapping[str, str], euid: int) -> Paths:
    """Return the paths for this environment.

    Directories that systemd hands over win over the defaults of either mode.
    Raises: ConfigError in user mode without a usable HOME where one is needed.
    """
    chosen = mode(environ, euid)
    runtime = _systemd_directory(environ, "RUNTIME_DIRECTORY")
    state = _systemd_directory(environ, "STATE_DIRECTORY")
    etc = _systemd_directory(environ, "CONFIGURATION_DIRECTORY")
    if chosen is Mode.SYSTEM:
        runtime = runtime or SYSTEM_RUNTIME
        state = state or Path("/var/lib/qwend")
        return Paths(
            mode=chosen,
            socket=runtime / "qwend.sock",
            config=(etc or Path("/etc/qwend")) / "qwend.toml",
            state=state,
            models=state / "models",
            warm=runtime / "model",
        )
    session = _absolute(environ, "XDG_RUNTIME_DIR")
    warm = runtime or (session and session / "qwend")
    # A session's directory has a tenth of the memory (logind.conf(5), RuntimeDirectorySize), this
    # one half of it.
    shared = Path(f"/dev/shm/qwend-{euid}")
    return Paths(
        mode=chosen,
        socket=(runtime or _user_runtime(environ, euid)) / "qwend.sock",
        config=(etc or _xdg(environ, "XDG_CONFIG_HOME", ".config")) / "qwend.toml",
        state=state or _xdg(environ, "XDG_STATE_HOME", ".local/state"),
        models=_xdg(environ, "XDG_DATA_HOME", ".local/share") / "models",
        warm=warm / "model" if warm else shared,
        warm_spare=shared if warm else None,
    )


def find_socket(
    environ: Mapping[str, str],
    explicit: str | os.PathLike[str] | None = None,
    euid: int | None = None,
) -> Path:
    """Return the socket that a client should connect to.

    In order: `explicit` (--socket), QWEND_SOCKET, the user's own daemon if its socket exists, and
    the system's. The user's counts only where nobody else could have put it: without a session
    it lies below a directory that everyone may write to, and prompts are private.
    Raises: ConfigError if the path is too long for a socket.
    """
    uid = os.geteuid() if euid is None else euid
    named = explicit or environ.get("QWEND_SOCKET")
    if named:
        path = Path(named)
    else:
        path = _user_runtime(environ, uid) / "qwend.sock"
        if not (_is_private_to(path.parent, uid) and os.path.lexists(path)):
            path = SYSTEM_SOCKET
    check_socket_path(path)
    return path


def check_socket_path(path: str | os.PathLike[str]) -> None:
    """Raise ConfigError if the kernel could not bind or connect to this path."""
    raw = os.fsencode(path)
    if len(raw) > SOCKET_PATH_BYTES:
        raise ConfigError(
            f"socket path is {len(raw)} bytes long, the kernel allows {SOCKET_PATH_BYTES}: "
            f"{os.fspath(path)!r}; choose a shorter one with --socket or [socket] path"
        )
    if not raw or b"\0" in raw:
        raise ConfigError(f"not a path for a socket: {os.fspath(path)!r}")


def _user_runtime(environ: Mapping[str, str], euid: int) -> Path:
    session = _absolute(environ, "XDG_RUNTIME_DIR")
    if session:
        return session / "qwend"
    return (_absolute(environ, "TMPDIR") or Path("/tmp")) / f"qwend-{euid}"


def _xdg(environ: Mapping[str, str], name: str, below_home: str) -> Path:
    base = _absolute(environ, name)
    if base is None:
        home = _absolute(environ, "HOME")
        if home is None:
            raise ConfigError(
                f"neither {name} nor HOME is an absolute path, so there is no place for the "
                "user's files; set HOME"
            )
        base = home / below_home
    return base / "qwend"


def _absolute(environ: Mapping[str, str], name: str) -> Path | None:
    # "All paths set in these environment variables must be absolute. If an implementation
    # encounters a relative path [...] it should consider the path invalid and ignore it." (XDG)
    value = environ.get(name, "")
    return Path(value) if value.startswith("/") else None


def _systemd_directory(environ: Mapping[str, str], name: str) -> Path | None:
    # systemd joins several directories with ":"; ours come first in the unit.
    value = environ.get(name, "").split(":", 1)[0]
    return Path(value) if value.startswith("/") else None


def _is_private_to(directory: Path, uid: int) -> bool:
    try:
        info = os.lstat(directory)
    except (OSError, ValueError):
        return False
    return (
        stat.S_ISDIR(info.st_mode)
        and info.st_uid == uid
        and not info.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    )
