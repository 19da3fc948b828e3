"""Talk to a daemon of one's own: start it, open the chat or ask one question, take it away.

Rule 1: nothing is left: no process, and no file outside the clone's .venv.
Rule 2: this file does not know how the environment was made; it runs in it.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import NoReturn

VENV = Path(sys.prefix)
HERE = Path(__file__).resolve().parent
# sockaddr_un.sun_path holds 108 bytes with its NUL (unix(7)).
SOCKET_PATH_BYTES = 107
# A model on a memory card takes its time; a person wants to know that something happens.
SLOW_START_S = 2.0
LOG_LINES = 15
PR_SET_PDEATHSIG = 1  # linux/prctl.h


class StartFailure(Exception):
    """The daemon did not start; the text is what it said."""


def main() -> int:
    options = _arguments()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _stop)
    what = "its built-in guide model" if options.model == "guide" else Path(options.model).name
    _say(f"Starting a private qwend with {what}; nothing of it stays on this machine.")
    try:
        with _daemon(options.model) as (socket, environ):
            return _client(socket, environ, options.prompt)
    except StartFailure as failure:
        _say(f"{failure}\nThe daemon did not start; what it said is above.")
        return 1
    except KeyboardInterrupt:
        return 130


@contextlib.contextmanager
def _daemon(model: str) -> Iterator[tuple[Path, dict[str, str]]]:
    """Yield the socket of a running daemon and the environment to talk to it in."""
    directory = _private_directory()
    socket = directory / "qwend.sock"
    environ = _environment(directory, socket)
    command = [sys.executable, str(HERE / "keeper.py"), str(directory), str(socket)]
    command += [str(VENV / "bin" / "qwend"), "serve", "--model", model, "--socket", str(socket)]
    # A session of its own: Ctrl-C in the chat is not meant for the daemon.
    keeper = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environ,
        start_new_session=True,
        text=True,
    )
    assert keeper.stdin is not None
    try:
        if _wait_for_word(keeper) != "ready":
            raise StartFailure(_tail(directory / "daemon.log"))
        yield socket, environ
    finally:
        keeper.stdin.close()
        _wait_whatever_comes(keeper)


def _client(socket: Path, environ: dict[str, str], prompt: str | None) -> int:
    command = [str(VENV / "bin" / "qwenctl"), "--socket", str(socket)]
    # "--": a prompt may begin with a dash.
    command += ["chat"] if prompt is None else ["ask", "--", prompt]
    # A question is complete as it is: `ask` would wait for more from a pipe that nobody closes.
    stdin = None if prompt is None else subprocess.DEVNULL
    client = subprocess.Popen(command, env=environ, stdin=stdin, preexec_fn=_end_with_parent)
    while True:
        try:
            # Popen says -15 for a client that SIGTERM ended; shells say 143.
            code = client.wait()
            return code if code >= 0 else 128 - code
        except KeyboardInterrupt:
            continue  # the terminal sent it to the client as well, which decides what it means
        except BaseException:
            client.terminate()
            client.wait()
            raise


def _end_with_parent() -> None:
    # If we are killed outright the keeper ends the daemon, and nobody else the client.
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _private_directory() -> Path:
    directory = Path(tempfile.mkdtemp(prefix="qwend-quickstart-"))
    if len(os.fsencode(directory / "qwend.sock")) > SOCKET_PATH_BYTES:
        directory.rmdir()
        directory = Path(tempfile.mkdtemp(prefix="qwend-quickstart-", dir="/tmp"))
    return directory


def _environment(directory: Path, socket: Path) -> dict[str, str]:
    """The environment of daemon and client: every path of theirs lies in the private directory."""
    (directory / "qwend.toml").write_text("# all defaults\n", encoding="utf-8")
    return {
        **os.environ,
        "QWEND_CONFIG": str(directory / "qwend.toml"),
        "QWEND_SOCKET": str(socket),
        # In the page cache the model is warm enough, and memory is not ours to fill.
        "QWEND_MODEL_WARM_COPY": "off",
        # What systemd would hand over; it wins over the defaults of root and user alike.
        "RUNTIME_DIRECTORY": str(directory),
        "STATE_DIRECTORY": str(directory / "state"),
        "XDG_STATE_HOME": str(directory / "state"),
        # Modules of the clone are compiled too, but not into the clone.
        "PYTHONPYCACHEPREFIX": str(VENV / "pycache"),
    }


def _wait_for_word(keeper: subprocess.Popen[str]) -> str:
    assert keeper.stdout is not None
    began = time.monotonic()
    live = sys.stderr.isatty()
    while not select.select([keeper.stdout], [], [], SLOW_START_S)[0]:
        if live:
            print(
                f"\r\x1b[Kloading the model: {time.monotonic() - began:.0f} s",
                end="",
                file=sys.stderr,
                flush=True,
            )
    if live:
        print("\r\x1b[K", end="", file=sys.stderr, flush=True)
    return keeper.stdout.readline().strip()


def _wait_whatever_comes(keeper: subprocess.Popen[str]) -> None:
    """Wait for the keeper; an impatient second Ctrl-C does not leave it half way."""
    interrupted: BaseException | None = None
    while True:
        try:
            keeper.wait()
            break
        except (KeyboardInterrupt, SystemExit) as error:
            interrupted = error
    if interrupted is not None:
        raise interrupted


def _tail(log: Path) -> str:
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return "  (it said nothing)"
    return "\n".join(f"  | {line}" for line in lines[-LOG_LINES:]) or "  (it said nothing)"


def _say(text: str) -> None:
    # stderr: stdout carries the answer and nothing else.
    print(text, file=sys.stderr, flush=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/quickstart")
    parser.add_argument("--prompt")
    parser.add_argument("--model", default="guide")
    return parser.parse_args()


def _stop(number: int, _frame: FrameType | None) -> NoReturn:
    raise SystemExit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
