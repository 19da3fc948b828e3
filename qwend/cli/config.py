"""`qwenctl config`: what the daemon would read, without starting it."""

from __future__ import annotations

import os
from pathlib import Path

import click

from qwend.config import load_config, render

file_option = click.option(
    "--config",
    "file",
    type=click.Path(path_type=Path),
    help="The TOML file; without it the one that a daemon of yours would read.",
)


@click.group("config")
def command() -> None:
    """Check the configuration, or show all of it."""


@command.command("check")
@file_option
def check(file: Path | None) -> None:
    """Say whether the configuration can be used."""
    loaded = load_config(file, os.environ)
    changed = sum(origin != "default" for origin in loaded.origins.values())
    place = loaded.file or "no file, all defaults"
    click.echo(f"The configuration is good ({place}; {changed} settings changed).")


@command.command("show")
@file_option
def show(file: Path | None) -> None:
    """Show every setting, its origin and its meaning; the output is itself a valid file."""
    click.echo(render(load_config(file, os.environ)), nl=False)
