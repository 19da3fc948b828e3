"""The options that say how an answer is generated, shared by `ask` and `chat`.

Rule 1: what is not given is left to the daemon's configuration.
Rule 2: this file does not check ranges: the protocol does, in words that name the field.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click

if TYPE_CHECKING:
    from qwend.client.options import GenerationOptions

Command = TypeVar("Command", bound=Callable[..., object])


def common_options(command: Command) -> Command:
    """--system, --max-tokens, --temperature, --seed."""
    for option in (
        click.option("--seed", type=int, help="Repeat an answer: same seed, same text."),
        click.option("--temperature", type=float, help="0: always the likeliest token."),
        click.option("--max-tokens", type=int, help="Longest answer, in tokens."),
        click.option("--system", metavar="TEXT", help="System prompt instead of the daemon's."),
    ):
        command = option(command)
    return command


def further_options(command: Command) -> Command:
    """--top-k, --top-p, --min-p, --stop, --ignore-eos."""
    for option in (
        click.option("--ignore-eos", is_flag=True, default=None, help="Go on at the end token."),
        click.option(
            "--stop", multiple=True, metavar="TEXT", help="End before this text; may be repeated."
        ),
        click.option("--min-p", type=float, help="Share of the likeliest token's probability."),
        click.option("--top-p", type=float, help="Share of probability to choose from; 1: off."),
        click.option("--top-k", type=int, help="Number of tokens to choose from; 0: off."),
    ):
        command = option(command)
    return command


def session_option(command: Command) -> Command:
    """--session."""
    return click.option(
        "--session",
        metavar="NAME",
        help="Go on with this conversation, which the daemon keeps; a new name begins one.",
    )(command)


def think_option(command: Command) -> Command:
    """--think, --no-think."""
    return click.option(
        "--think/--no-think",
        "thinking",
        default=None,
        help="Have the model reason first, or not; shown dimmed, on a terminal.",
    )(command)


def background_option(command: Command) -> Command:
    """--background."""
    return click.option(
        "--background",
        "priority",
        flag_value="background",
        help="Let what other people and programs ask go first.",
    )(command)


def chosen(**options: Any) -> GenerationOptions:
    """Return the options that were given, by the client library's names."""
    given = {name: value for name, value in options.items() if value not in (None, ())}
    # The names are those of the options above, which are the library's.
    return cast("GenerationOptions", given)
