"""`qwenctl models list`: what is there, where it lies, and which one the daemon answers with."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from qwend.cli.connection import socket_option
from qwend.cli.models import place
from qwend.cli.models.shown import mebi, say_table
from qwend.cli.report import say_dim
from qwend.errors import ModelError
from qwend.models.store import GUIDE, installed_models, is_path, resolve_model

# What a model is to the daemon, for people.
_WORDS = {
    "resident": "loaded",
    "unloaded": "loaded again at the next request",
    "loading": "being loaded",
    "leaving": "ends its answers",
}


@click.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON array.")
@socket_option
def command(as_json: bool, socket_path: str | None) -> None:
    """List the models of this machine."""
    held = place.held(place.daemon_status(socket_path))
    installed = models(held)
    # What another store has is no business of this one, and its names are not known here.
    more = [] if place.is_for_me_alone(socket_path) else elsewhere(installed, held)
    found = [*installed, *more]
    if as_json:
        click.echo(json.dumps(found))
        return
    say_table(
        ("NAME", "QUANT", "SIZE", "FROM", ""),
        [
            (
                row["name"],
                row["quantization"],
                mebi(row["size_bytes"]),
                row["origin"],
                _to_the_daemon(row),
            )
            for row in found
        ],
        right="SIZE",
    )
    if len(installed) == 1:
        say_dim("Only the guide is here; `qwenctl pull` gets a real Qwen.")


def _to_the_daemon(row: Mapping[str, Any]) -> str:
    words = ("default" if row["default"] else "", _WORDS.get(row["role"], ""))
    return ", ".join(word for word in words if word)


def models(held: Mapping[Path, str]) -> list[dict[str, Any]]:
    """Every model that has a name, the built-in one first. held: by the daemon, and as what."""
    models_dir, store = place.paths().models, place.store()
    default = place.configured_name()
    found = []
    for name in installed_models(models_dir):
        try:
            path = resolve_model(name, models_dir).path
            manifest = store.manifest(name) if path.parent != models_dir else None
            trouble = "" if path.exists() else "its file is missing: pull it again"
        except ModelError as error:
            path, manifest, trouble = Path(), None, str(error)
        built_in = "built in" if name == GUIDE else "a file in the models directory"
        found.append(
            {
                "name": name,
                "quantization": manifest.quantization if manifest else "",
                "size_bytes": path.stat().st_size if not trouble else 0,
                "origin": trouble or (manifest.origin if manifest else built_in),
                "path": str(path),
                "default": name == default,
                "loaded": held.get(path) == "resident",
                "role": held.get(path, ""),
            }
        )
    return found


def elsewhere(installed: Sequence[Mapping[str, Any]], held: Mapping[Path, str]) -> list[Any]:
    """What the daemon holds, or is to load, by its path alone; the path is its name here."""
    default = place.configured_name()
    named = {Path(default)} if is_path(default) else set()
    known = {row["path"] for row in installed}
    return [
        {
            "name": str(path),
            "quantization": "",
            "size_bytes": path.stat().st_size if path.is_file() else 0,
            "origin": "a file elsewhere" if path.is_file() else "a file that is not there",
            "path": str(path),
            "default": path in named,
            "loaded": held.get(path) == "resident",
            "role": held.get(path, ""),
        }
        for path in sorted(named | set(held))
        if str(path) not in known
    ]
