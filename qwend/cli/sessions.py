"""`qwenctl sessions`: the conversations that the daemon keeps for whoever asks."""

from __future__ import annotations

import sys
import time
from dataclasses import asdict
from pathlib import Path

import click

from qwend.cli.amounts import counted, duration
from qwend.cli.answer import Screen
from qwend.cli.connection import connect, socket_option
from qwend.cli.exits import Exit
from qwend.cli.report import say, say_dim
from qwend.cli.transcript import as_json, as_markdown, is_json, write_new
from qwend.client import KeptSession, SessionFacts
from qwend.errors import ConfigError

json_option = click.option("--json", "as_object", is_flag=True, help="Print one JSON object.")
CUT = {"length": "cut off", "cancelled": "stopped"}


@click.group("sessions", invoke_without_command=True)
@click.pass_context
def command(ctx: click.Context) -> None:
    """List, show, rename, delete or export the conversations that the daemon keeps.

    \b
    A conversation is begun, and gone on with, by its name:
      qwenctl chat --session trip
      qwenctl ask --session trip "And what about the weather?"
    """
    if ctx.invoked_subcommand is None:
        ctx.invoke(list_command, as_object=False, socket_path=ctx.find_root().obj)


@command.command("list")
@json_option
@socket_option
def list_command(as_object: bool, socket_path: str | None) -> None:
    """List your sessions, the one that was used last first."""
    with connect(socket_path) as client:
        found = sorted(client.sessions(), key=lambda one: one.changed_s, reverse=True)
    if as_object:
        _print(as_json({"sessions": [asdict(one) for one in found]}))
    elif not found:
        say_dim("There are no sessions; 'qwenctl chat --session NAME' begins one.")
    else:
        _table(found)


@command.command("show")
@click.argument("name")
@json_option
@socket_option
def show_command(name: str, as_object: bool, socket_path: str | None) -> None:
    """Show what was said in a session."""
    with connect(socket_path) as client:
        kept = client.session(name)
    if as_object:
        _print(as_json(_as_map(kept)))
        return
    screen = Screen(sys.stdout)
    for message in kept.messages:
        first = {"user": "> ", "system": "(system) "}.get(message.role, "")
        screen.write(first + message.content)
        screen.end_line()
        if message.finish_reason in CUT:
            say_dim(f"({CUT[message.finish_reason]})")
        if message.role == "assistant":
            screen.write("\n")


@command.command("rename")
@click.argument("name")
@click.argument("to")
@socket_option
def rename_command(name: str, to: str, socket_path: str | None) -> None:
    """Give a session another name."""
    with connect(socket_path) as client:
        client.rename_session(name, to)
    say_dim(f"{name} is {to} now.")


@command.command("delete")
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@click.option("--yes", is_flag=True, help="Do not ask.")
@socket_option
def delete_command(names: tuple[str, ...], yes: bool, socket_path: str | None) -> int:
    """Delete sessions for good; asks before each, unless --yes is given."""
    if not (yes or sys.stdin.isatty()):
        raise click.UsageError("Nobody can be asked here; --yes deletes without asking.")
    with connect(socket_path) as client:
        for name in names:
            if not yes:
                turns = counted(client.session(name).facts.turns, "turns")
                if not click.confirm(f"Delete {name} ({turns}) for good?", err=True):
                    return Exit.REQUEST_FAILED
            client.delete_session(name)
            say_dim(f"{name} is deleted.")
    return Exit.DONE


@command.command("export")
@click.argument("name")
@click.argument("file", type=click.Path(path_type=Path), required=False)
@json_option
@socket_option
def export_command(name: str, file: Path | None, as_object: bool, socket_path: str | None) -> None:
    """Write a session to FILE, or to standard output: Markdown, or JSON for *.json and --json.

    A file that is there already is never overwritten.
    """
    with connect(socket_path) as client:
        kept = client.session(name)
    wants_json = as_object or (file is not None and is_json(file))
    text = as_json(_as_map(kept)) if wants_json else as_markdown(kept.messages)
    if file is None:
        _print(text)
        return
    try:
        write_new(file, text)
    except OSError as error:
        raise ConfigError(f"cannot write {file}: {error.strerror}; choose another name") from error
    say(f"{counted(len(kept.messages), 'messages')} saved to {file}.")


def ago(changed_s: float, now_s: float) -> str:
    """A time in words; the clock of a small machine may have been wrong then, or be now."""
    return f"{duration(now_s - changed_s)} ago" if now_s > changed_s else "just now"


def _print(text: str) -> None:
    """As it is, but on a terminal: click.echo would leave out what looks like a colour."""
    Screen(sys.stdout).write(text)


def _table(found: list[SessionFacts]) -> None:
    widest = max(len(one.name) for one in found)
    now_s = time.time()
    for one in found:
        turns = counted(one.turns, "turns")
        size = f"{one.bytes / 2**10:,.1f} KiB"
        click.echo(f"{one.name:<{widest}}  {turns:>10}  {size:>12}  {ago(one.changed_s, now_s)}")


def _as_map(kept: KeptSession) -> dict[str, object]:
    messages = [message.to_map() for message in kept.messages]
    return {**asdict(kept.facts), "messages": messages}
