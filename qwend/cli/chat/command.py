"""The `chat` subcommand: its options, and its parts put together."""

from __future__ import annotations

import os
import sys
from typing import Any

import click

from qwend.cli.answer import Screen
from qwend.cli.chat.battery import on_battery
from qwend.cli.chat.conversation import Conversation
from qwend.cli.chat.lines import PipedLines, Questions
from qwend.cli.chat.link import Link
from qwend.cli.chat.prefiller import Prefiller
from qwend.cli.chat.session import resumed, show_last_turn
from qwend.cli.chat.slash import HELP, KEYS, Leave, SlashCommands
from qwend.cli.chat.turn import Settings, Turns
from qwend.cli.chat.typeahead import TypeAhead
from qwend.cli.connection import connect, socket_option
from qwend.cli.exits import Exit
from qwend.cli.generation import chosen, common_options, session_option, think_option
from qwend.cli.report import say, say_dim


@click.command("chat")
@common_options
@think_option
@session_option
@click.option("--timings", is_flag=True, help="Show times and token counts after each answer.")
@click.option("--no-typeahead", is_flag=True, help="Compute nothing before Enter is pressed.")
@socket_option
def command(
    system: str | None,
    session: str | None,
    timings: bool,
    no_typeahead: bool,
    socket_path: str | None,
    **generation: Any,
) -> int:
    """Talk with the model, turn by turn.

    Enter sends, Alt-Enter begins a new line, Ctrl-C stops an answer, Ctrl-D leaves; /help lists
    more. Without a terminal, each line of standard input is one question.
    """
    at_terminal = sys.stdin.isatty() and sys.stdout.isatty() and os.environ.get("TERM") != "dumb"
    settings = Settings(chosen(**generation), timings)
    link = Link(lambda: connect(socket_path, patient=True), say_dim)
    welcome = link.client().welcome
    conversation = Conversation(system)
    if session is not None:
        conversation = resumed(link.client(), session, system)
    turns = Turns(link, conversation, settings, Screen(sys.stdout), say_dim)
    if at_terminal:
        say_dim(f"{welcome.model} on {welcome.server}, {welcome.context:,} tokens of context.")
        say_dim(KEYS)
        show_last_turn(conversation, Screen(sys.stdout))
    prefiller = Prefiller(
        lambda: connect(socket_path),
        lambda: not on_battery(),
        thinking=generation.get("thinking"),
        session=session,
    )
    try:
        questions = _questions(at_terminal, None if no_typeahead else prefiller, conversation)
        return _talk(questions, SlashCommands(conversation, settings, say), turns)
    finally:
        prefiller.close()
        link.drop()


def _questions(
    at_terminal: bool, prefiller: Prefiller | None, conversation: Conversation
) -> Questions:
    if not at_terminal:
        return PipedLines()
    # Imported only here: it takes longer than the rest of qwenctl together.
    from qwend.cli.chat.terminal import TerminalLines, call_later

    watcher = None if prefiller is None else TypeAhead(prefiller, conversation, call_later)
    return TerminalLines(HELP, say_dim, watcher)


def _talk(questions: Questions, commands: SlashCommands, turns: Turns) -> int:
    """Answer until the questions end; at a terminal no failed answer is the program's failure."""
    all_answered = True
    try:
        for question in questions:
            if question.strip() and not commands.run(question):
                all_answered &= turns.take(question)
    except Leave:
        pass
    return Exit.DONE if all_answered or sys.stdin.isatty() else Exit.REQUEST_FAILED
