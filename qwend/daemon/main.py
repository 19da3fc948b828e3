"""The `qwend` command: arguments, configuration, logging; then the daemon."""

from __future__ import annotations

import asyncio
import errno
import json
import logging
import os
import resource
import sys
from collections.abc import Mapping
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import Any

import click

from qwend import __version__, failpoint
from qwend.config import load_config
from qwend.errors import HostError, QwendError
from qwend.host.root import HostRoot
from qwend.journal_stream import goes_to_journal
from qwend.paths import paths_for

# What a script for the scripted backend is called in the environment: JSON, for tests only.
SCRIPT_VARIABLE = "QWEND_SCRIPT"


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="qwend")
def main() -> None:
    """Keep a small Qwen model hot and stream its tokens over a Unix socket."""


@main.command()
@click.option("--config", "config_file", type=click.Path(path_type=Path), help="TOML file to read.")
@click.option("--model", metavar="NAME|PATH", help="Model to load instead of the configured one.")
@click.option("--socket", "socket_path", metavar="PATH", help="Socket to listen on.")
def serve(config_file: Path | None, model: str | None, socket_path: str | None) -> None:
    """Run the daemon in the foreground until SIGTERM or Ctrl-C."""
    _open_standard_streams()
    try:
        _serve(dict(os.environ), config_file, _overrides(model, socket_path))
    except QwendError as error:
        _tell_systemd(error)
        _say_error(f"qwend: {error}")
        sys.exit(1)


@main.command("pull-worker", hidden=True)
@click.option("--models", required=True, type=click.Path(path_type=Path), help="Where it goes.")
def pull_worker(models: Path) -> None:
    """Pull one model, as whoever holds the other end of standard input asks."""
    from qwend.daemon.pull_worker import work

    try:
        work(models, os.environ)
    except QwendError as error:
        _say_error(f"qwend pull-worker: {error}")
        sys.exit(1)


@main.group()
def host() -> None:
    """Set what needs root on this machine, such as the CPU governor, and put it back."""


@host.command("apply")
@click.option("--config", "config_file", type=click.Path(path_type=Path), help="TOML file to read.")
@click.option("--governor", default="", help="Instead of the configured one.")
@click.option("--energy-preference", default="", help="Instead of the configured one.")
def host_apply(config_file: Path | None, governor: str, energy_preference: str) -> None:
    """Set the governor of [host], and remember what was before."""
    from qwend.daemon import host_command

    environ = dict(os.environ)
    try:
        failpoint.set_points(environ)
        wish = host_command.wish_of(environ, config_file, governor, energy_preference)
    except QwendError as error:
        _say_error(f"qwend host: {error}")
        sys.exit(host_command.WRONG_CONFIG)
    record = host_command.record_path(environ)
    sys.exit(host_command.apply_settings(HostRoot(), wish, record, click.echo, _warn))


@host.command("restore")
def host_restore() -> None:
    """Put back what `qwend host apply` has changed."""
    from qwend.daemon import host_command

    record = host_command.record_path(dict(os.environ))
    sys.exit(host_command.restore_settings(HostRoot(), record, click.echo, _warn))


def _warn(text: str) -> None:
    _say_error(f"qwend host: {text}")


def _say_error(text: str) -> None:
    """To the journal as an error, so that `journalctl -p err` has why there is no daemon."""
    click.echo(f"<3>{text}" if goes_to_journal(os.environ) else text, err=True)


def _open_standard_streams() -> None:
    """A standard stream that is closed would be the number of the next socket, and what llama.cpp
    writes to standard error would go into it."""
    while (fd := os.open(os.devnull, os.O_RDWR)) < 3:
        os.set_inheritable(fd, True)
    os.close(fd)


def _tell_systemd(error: QwendError) -> None:
    """Why there is no daemon, where `systemctl status` shows it."""
    from qwend.daemon.notify import Notifier

    with closing(Notifier(os.environ)) as notifier:
        cause = error.__cause__
        number = cause.errno if isinstance(cause, OSError) else None
        notifier.failed(f"failed: {error}", number or errno.EINVAL)


def _overrides(model: str | None, socket_path: str | None) -> dict[str, str]:
    """Options of the command line, as the environment variables they stand for."""
    given = {}
    if model is not None:
        given["QWEND_MODEL_NAME"] = json.dumps(model)
    if socket_path is not None:
        given["QWEND_SOCKET_PATH"] = json.dumps(str(Path(socket_path).absolute()))
    return given


def _serve(
    environ: Mapping[str, str], config_file: Path | None, overrides: Mapping[str, str]
) -> None:
    from qwend.daemon.waiting_engine import WaitingEngine

    # A core would hold what clients have asked and were told; the units say the same.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    points = failpoint.set_points(environ)
    paths = paths_for(environ, os.geteuid())
    script: dict[str, Any] = json.loads(environ.get(SCRIPT_VARIABLE, "{}"))
    settings = {key: value for key, value in environ.items() if key != SCRIPT_VARIABLE}
    loaded = load_config(config_file, {**settings, **overrides})
    with ExitStack() as undo:
        engine = None
        with suppress(OSError):  # the supervisor tries again, and says what is missing
            engine = WaitingEngine.start(environ, loaded.config.engine.backend)
            undo.callback(engine.abandon)
        # Imported late: the engine imports meanwhile, and `qwend --help` needs none of it.
        from qwend.daemon.daemon import Daemon
        from qwend.daemon.log import set_up_logging
        from qwend.daemon.world import World

        set_up_logging(loaded.config.log.level, environ)
        for reason in points:
            logging.getLogger(__name__).warning("%s", reason)
        world = World(
            paths=paths,
            environ=environ,
            host=HostRoot(),
            script=script,
            reread=lambda: load_config(config_file, {**settings, **overrides}).config,
            engine=engine,
        )

        served = False

        async def run() -> None:
            nonlocal served
            await Daemon(loaded.config, world).run()
            served = True

        try:
            asyncio.run(run())
        except RuntimeError as error:
            if "new thread" not in str(error):  # as threading.Thread.start says it
                raise
            if served:
                return  # asyncio wants one more to end the others, when all has been undone
            cause = f"{error}; raise TasksMax= of the unit, or `ulimit -u`"
            raise HostError("qwend", "starting the threads of", cause) from error


if __name__ == "__main__":
    main()
