"""`qwenctl models available`: what `pull` knows, what of it fits here, and about how fast it is."""

from __future__ import annotations

import json
import os
from typing import Any

import click

from qwend.cli.connection import socket_option
from qwend.cli.models import place
from qwend.cli.models.bandwidth import known_bandwidth
from qwend.cli.models.shown import mebi, say_table
from qwend.cli.report import say_dim
from qwend.config import load_config
from qwend.host.cpu_flags import cpu_flags
from qwend.host.memory import available_bytes
from qwend.host.root import HostRoot
from qwend.host.space import MEMORY_RESERVE_BYTES
from qwend.models.catalogue import DEFAULT_QUANTIZATION, catalogue
from qwend.models.ggml_types import repacked_types


@click.command("available")
@click.option("--quant", default=DEFAULT_QUANTIZATION, show_default=True, help="Which files.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON array.")
@socket_option
def command(quant: str, as_json: bool, socket_path: str | None) -> None:
    """List the models that `pull` knows, what of them fits here, and about how fast they are."""
    status = place.daemon_status(socket_path)
    rows = models(quant.upper(), status, HostRoot())
    if as_json:
        click.echo(json.dumps(rows))
        return
    say_table(
        ("NAME", "SIZE", "MEMORY", "FITS", "TOKENS/S", "LICENCE", ""),
        [
            (
                row["name"],
                mebi(row["size_bytes"]),
                mebi(row["memory_bytes"]),
                row["fits"],
                f"{row['tokens_s']:.0f}" if row["tokens_s"] else "?",
                row["licence"],
                "installed" if row["installed"] else row["title"],
            )
            for row in rows
        ],
        right="SIZE MEMORY TOKENS/S",
    )
    if rows and not rows[0]["tokens_s"]:
        say_dim(
            "How fast they are is known once qwend has measured itself with one of them; "
            "the guide is too small to tell."
        )


def models(quantization: str, status: Any, root: HostRoot) -> list[dict[str, Any]]:
    """Those that there are in this quantization. Raises: HostError, ConfigError."""
    context = load_config(None, os.environ).config.model.context
    repacked = repacked_types(cpu_flags(root))
    at_hand = memory_at_hand(status, root)
    bandwidth = known_bandwidth(status, place.paths().state)
    installed = place.store().names()
    rows = []
    for model in catalogue().models.values():
        if quantization not in model.files:
            continue
        need = model.need(quantization, context=context, repacked=repacked)
        fits = "yes" if need.quickest_bytes <= at_hand else "slower"
        rows.append(
            {
                "name": model.name,
                "title": model.title,
                "quantization": quantization,
                "size_bytes": model.size_bytes(quantization),
                "memory_bytes": need.quickest_bytes,
                "least_memory_bytes": need.least_bytes,
                "fits": fits if need.least_bytes <= at_hand else "no",
                "tokens_s": bandwidth / model.shape.step_bytes(quantization),
                "licence": model.licence,
                "installed": model.name in installed,
            }
        )
    return rows


def memory_at_hand(status: Any, root: HostRoot) -> int:
    """What another model could have: what is free now, and what the running daemon would give."""
    memory, model = status.get("memory"), status.get("model")
    ours = 0
    if isinstance(memory, dict) and isinstance(model, dict):
        ours = int(memory.get("engine_rss_bytes", 0)) + int(memory.get("front_rss_bytes", 0))
    return available_bytes(root) + ours - MEMORY_RESERVE_BYTES
