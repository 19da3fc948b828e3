"""`qwenctl status`: how the daemon is, on one screen."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping

import click

from qwend.cli.connection import connect, socket_option
from qwend.cli.report import is_coloured

# What each word means to a person, and its colour. The words are the protocol's.
_MEANINGS = {
    "starting": ("the daemon comes up", "yellow"),
    "warming": ("the model is being loaded", "yellow"),
    "ready": ("it answers at once", "green"),
    "degraded": ("it answers, but less well than it could", "yellow"),
    "draining": ("it finishes what it has begun, then stops", "yellow"),
    "failed": ("it cannot answer", "red"),
}


@click.command("status")
@click.option("--json", "as_json", is_flag=True, help="Print all of it as one JSON object.")
@click.option("--watch", is_flag=True, help="Show it again each second, until Ctrl-C.")
@socket_option
def command(as_json: bool, watch: bool, socket_path: str | None) -> None:
    """Show how the daemon is: state, model, engine, speed, memory, requests."""
    if watch:
        _watch(socket_path, as_json)
        return
    with connect(socket_path) as client:
        status = client.status()
    click.echo(json.dumps(status, ensure_ascii=False, indent=2) if as_json else _screen(status))


def _watch(socket_path: str | None, as_json: bool) -> None:
    if as_json or not sys.stdout.isatty():
        raise click.UsageError("--watch draws on a terminal: take --json, or status alone, here")
    # Imported only here: it takes longer than the rest of the command.
    from qwend.cli.watch import watch

    watch(lambda: connect(socket_path), _screen)


def _screen(status: Mapping[str, object]) -> str:
    coloured = is_coloured(sys.stdout, os.environ)
    return "\n".join(f"{name:<10}{text}" for name, text in _lines(status, coloured))


def _lines(status: Mapping[str, object], coloured: bool) -> Iterator[tuple[str, str]]:
    word = str(status.get("state", "unknown"))
    meaning, colour = _MEANINGS.get(word, (str(status.get("stage", "")), "yellow"))
    yield "state", f"{click.style(word, fg=colour) if coloured else word}: {meaning}"
    if word not in ("ready", "degraded") and status.get("stage"):
        yield "", f"- {status['stage']}"
    reasons = status.get("degraded")
    for reason in reasons if isinstance(reasons, list) else ():
        yield "", f"- {reason}"
    yield from _model(_map(status, "model"), _map(status, "engine"))
    yield from _engine(_map(status, "engine"))
    yield "speed", _speed(_map(status, "speed"))
    memory = _map(status, "memory")
    yield (
        "memory",
        f"daemon {_size(memory, 'front_rss_bytes')}, engine {_size(memory, 'engine_rss_bytes')}",
    )
    requests = _map(status, "requests")
    yield (
        "requests",
        f"{_count(requests, 'accepted')} accepted, {_count(requests, 'done')} done, "
        f"{_count(requests, 'failed')} failed; {_plural(status, 'connections')}",
    )
    yield (
        "daemon",
        f"{status.get('server')}, pid {status.get('pid')}, "
        f"up {_duration(_number(status, 'uptime_s'))}",
    )
    yield "socket", str(status.get("socket"))


def _model(model: Mapping[str, object], engine: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    kind = [str(model[key]) for key in ("architecture", "quantization") if model.get(key)]
    if _number(model, "bytes"):
        kind.append(_size(model, "bytes"))
    if model.get("warm") is True:
        kind.append("copy kept in memory")
    details = f" ({', '.join(kind)})" if kind else ""
    # One request can have what fits in memory and what the model was made for.
    known = [_number(engine, "context_cells"), _number(model, "train_context")]
    tokens = min((each for each in known if each), default=0.0)
    context = f", context {tokens:,.0f} tokens" if tokens else ""
    yield "model", f"{model.get('name')}{details}{context}"
    if model.get("path"):
        yield "", str(model["path"])


def _engine(engine: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    yield (
        "engine",
        f"{engine.get('backend')}, pid {engine.get('pid')}, {_plural(engine, 'threads')}, "
        f"flash attention {_on_or_off(engine.get('flash_attention'))}, "
        f"{_count(engine, 'restarts')} restarts",
    )
    yield (
        "",
        f"{_count(engine, 'running')} running, {_count(engine, 'waiting')} waiting; "
        f"{_count(engine, 'used_cells')} tokens in use, "
        f"{_size(engine, 'prefix_bytes')} of prefixes kept",
    )
    without = engine.get("without")
    if isinstance(without, list) and without:
        yield "", f"this model goes without {', '.join(map(str, without))}"


def _speed(speed: Mapping[str, object]) -> str:
    """As measured while it answers; a daemon that has not answered yet knows nothing."""
    decode, prefill = _number(speed, "decode_tok_s"), _number(speed, "prefill_tok_s")
    parts = [
        f"{rate:,.{digits}f} tokens/s {doing}"
        for rate, digits, doing in (
            (decode, 1 if decode < 100 else 0, "answering"),
            (prefill, 0, "reading"),
        )
        if rate
    ]
    return ", ".join(parts) or "not measured yet"


def _on_or_off(value: object) -> str:
    return value if isinstance(value, str) else "on" if value else "off"


def _map(fields: Mapping[str, object], key: str) -> Mapping[str, object]:
    value = fields.get(key)
    return value if isinstance(value, dict) else {}


def _number(fields: Mapping[str, object], key: str) -> float:
    """The number under `key`; 0 from a daemon that does not know it."""
    value = fields.get(key)
    return float(value) if isinstance(value, int | float) else 0.0


def _count(fields: Mapping[str, object], key: str) -> str:
    return f"{_number(fields, key):,.0f}"


def _plural(fields: Mapping[str, object], key: str) -> str:
    """The number under `key`, and the key, a plural, as its unit."""
    return f"{_count(fields, key)} {key if _number(fields, key) != 1 else key[:-1]}"


def _size(fields: Mapping[str, object], key: str) -> str:
    size = _number(fields, key)
    return f"{size / 2**20:,.0f} MiB" if size >= 2**20 else f"{size / 2**10:.0f} KiB"


def _duration(seconds: float) -> str:
    minutes, _ = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours} h"
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min" if minutes else f"{seconds:.0f} s"
