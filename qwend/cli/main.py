"""The `qwenctl` command: its subcommands, its common options, and how it ends.

Rule 1: every error ends here, as one message and one exit code.
Rule 2: importing this imports click and no subcommand: `qwenctl --help` is quick.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Sequence
from typing import Any

import click

from qwend import __version__
from qwend.cli.exits import Exit, exit_for
from qwend.cli.group import LazyGroup
from qwend.cli.report import report
from qwend.errors import QwendError

COMMANDS = {
    "chat": ("qwend.cli.chat.command", "Talk with the model, turn by turn."),
    "ask": ("qwend.cli.ask", "Ask one question and stream the answer."),
    "sessions": ("qwend.cli.sessions", "Show and manage the conversations that are kept."),
    "status": ("qwend.cli.status", "Show how the daemon is."),
    "ping": ("qwend.cli.ping", "See whether the daemon answers, and how fast."),
    "bench": ("qwend.cli.bench.command", "Measure how fast the daemon is here."),
    "doctor": ("qwend.cli.doctor.command", "Examine the machine; say what would mend it."),
    "logs": ("qwend.cli.logs", "Show the daemon's log."),
    "tokenize": ("qwend.cli.tokenize", "Show the token ids of a text."),
    "drain": ("qwend.cli.drain", "Have the daemon take no new requests."),
    "reload": ("qwend.cli.reload", "Have the daemon read its configuration, and take requests."),
    "use": ("qwend.cli.use", "Answer with another model, now and after each start."),
    "load": ("qwend.cli.load", "Answer with another model until the next start."),
    "unload": ("qwend.cli.unload", "Let go of the model until somebody asks something."),
    "pull": ("qwend.cli.pull", "Get a model from a hub."),
    "quantize": ("qwend.cli.quantize", "Make a smaller file of a model."),
    "models": ("qwend.cli.models.command", "Look after the models of this machine."),
    "config": ("qwend.cli.config", "Check the configuration, or show all of it."),
    "version": ("qwend.cli.version", "Show the versions of qwenctl and of the daemon."),
}


class OutputClosed(Exception):
    """Whoever read our output has closed it."""


class _Commands(LazyGroup):
    def invoke(self, ctx: click.Context) -> Any:
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
        except BrokenPipeError as error:
            # click would end the program with 1, as if the request had failed.
            raise OutputClosed from error
        return result


@click.group(
    cls=_Commands,
    lazy=COMMANDS,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.option(
    "--socket",
    "socket_path",
    metavar="PATH",
    help="The daemon's socket. Without it: $QWEND_SOCKET, else your own daemon, else the system's.",
)
@click.version_option(__version__, prog_name="qwenctl")
@click.pass_context
def cli(ctx: click.Context, socket_path: str | None) -> None:
    """Talk to qwend, the daemon that keeps a small Qwen model hot on this machine."""
    ctx.obj = socket_path
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


def main(arguments: Sequence[str] | None = None) -> None:
    sys.exit(run(arguments))


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command line; return its exit code."""
    try:
        code = cli.main(arguments, prog_name="qwenctl", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return Exit.USAGE
    except (click.Abort, KeyboardInterrupt):
        return Exit.INTERRUPTED
    except OutputClosed:
        # `qwenctl ask ... | head -1`: whoever read has all that they wanted.
        _discard_output()
        return Exit.DONE
    except QwendError as error:
        report(error)
        return exit_for(error)
    return code if isinstance(code, int) else Exit.DONE


def _discard_output() -> None:
    # What is still buffered would fail again when Python flushes at its end.
    with contextlib.suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    main()
