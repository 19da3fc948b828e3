"""`qwenctl ask`: one question, one answer on standard output."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import Any

import click

from qwend.cli.answer import BEGINS_ANEW, Screen, Waiting, ending, figures
from qwend.cli.connection import connect, socket_option
from qwend.cli.exits import Exit
from qwend.cli.generation import (
    background_option,
    chosen,
    common_options,
    further_options,
    session_option,
    think_option,
)
from qwend.cli.report import say_dim
from qwend.cli.text_input import read_text
from qwend.client import AskedAgain, ChatMessage, ConnectionLost, Done, Progress, Token, TokenStream
from qwend.wire import Priority


@click.command("ask")
@click.argument("text", nargs=-1)
@common_options
@further_options
@think_option
@background_option
@session_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object at the end.")
@click.option("--no-stream", is_flag=True, help="Print the whole answer at its end.")
@click.option("--timings", is_flag=True, help="Show times and token counts on stderr.")
@socket_option
def command(
    text: tuple[str, ...],
    system: str | None,
    thinking: bool | None,
    priority: Priority | None,
    session: str | None,
    as_json: bool,
    no_stream: bool,
    timings: bool,
    socket_path: str | None,
    **generation: Any,
) -> int:
    """Ask TEXT and stream the answer.

    What is piped in is put behind TEXT; "-" reads standard input.

    \b
    Examples:
      qwenctl ask "Why is the sky blue?"
      journalctl -n 50 | qwenctl ask "What went wrong here?"
    """
    question = ChatMessage("user", read_text(text, "what to ask"))
    messages = [question] if system is None else [ChatMessage("system", system), question]
    screen = Screen(sys.stdout)
    with connect(socket_path, patient=True) as client:
        try:
            options = chosen(**generation)
            with client.chat(
                messages, thinking=thinking, priority=priority, session=session, **options
            ) as stream:
                done = _follow(stream, None if as_json or no_stream else screen)
        except KeyboardInterrupt:
            # Leaving the stream has told the daemon to stop.
            screen.end_line()
            return Exit.INTERRUPTED
        except BaseException:
            screen.end_line()
            raise
        if as_json:
            screen.write(_as_json(stream, done, client.welcome.model))
        elif no_stream:
            screen.write(stream.text)
    screen.end_line()
    if not as_json and ending(done) and sys.stderr.isatty():
        say_dim(f"({ending(done)})")
    if timings:
        say_dim(figures(done))
    return Exit.DONE


def _follow(stream: TokenStream, screen: Screen | None) -> Done:
    waiting = Waiting()
    try:
        for event in stream.events():
            if isinstance(event, Progress):
                waiting.show(event)
            elif isinstance(event, AskedAgain):
                _begin_anew(screen)
            elif isinstance(event, Token):
                waiting.clear()
                if screen is not None:
                    screen.aside(event.reasoning)
                    screen.write(event.text)
    finally:
        waiting.clear()
    return stream.wait()


def _begin_anew(screen: Screen | None) -> None:
    """Raises: ConnectionLost where a program reads along: half an answer must not precede one."""
    if screen is None:
        return
    if not sys.stdout.isatty():
        raise ConnectionLost("the daemon was restarted in the middle of the answer; ask again")
    screen.end_line()
    say_dim(BEGINS_ANEW)


def _as_json(stream: TokenStream, done: Done, model: str) -> str:
    return json.dumps(
        {
            "text": stream.text,
            "reasoning": stream.reasoning,
            "finish_reason": done.finish_reason,
            "usage": done.usage.to_map(),
            "timings": asdict(done.timings) if done.timings else None,
            "seed": done.seed,
            "model": model,
        },
        ensure_ascii=False,
    )
