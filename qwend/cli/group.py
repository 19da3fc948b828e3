"""A click group whose subcommands are imported only when one of them is called.

Rule 1: `--help` of the group and a misspelt command import no subcommand.
Rule 2: this file does not know which commands there are.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Mapping
from typing import Any

import click


class LazyGroup(click.Group):
    """commands are given as name -> (module with an attribute `command`, one line of help)."""

    def __init__(
        self, *args: Any, lazy: Mapping[str, tuple[str, str]] | None = None, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self._lazy = dict(lazy or {})

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self._lazy)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self._lazy:
            return None
        module = importlib.import_module(self._lazy[cmd_name][0])
        command = module.command
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0] if args else ""
        if args and name not in self._lazy and not name.startswith("-"):
            raise click.UsageError(self._unknown(name), ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in self._lazy.items()])

    def _unknown(self, name: str) -> str:
        near = difflib.get_close_matches(name, self._lazy, n=1, cutoff=0.5)
        if near:
            return f"There is no command '{name}'. Did you mean '{near[0]}'?"
        if " " in name:
            return 'To ask something, put "ask" before it: qwenctl ask "..."'
        return f"There is no command '{name}'. There are: {', '.join(self._lazy)}."
