"""`qwenctl status`: how the daemon is, on one screen."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping

import click

from qwend.cli.amounts import (
    context_tokens,
    count,
    counted,
    duration,
    number,
    part,
    plural,
    size,
)
from qwend.cli.connection import connect, socket_option
from qwend.cli.machine import machine_lines
from qwend.cli.report import is_coloured

# What each word means to a person, and its colour. The words are the protocol's.
_MEANINGS = {
    "starting": ("the daemon comes up", "yellow"),
    "warming": ("the model is being loaded", "yellow"),
    "ready": ("it answers at once", "green"),
    "degraded": ("it answers, but less well than it could", "yellow"),
    "draining": ("it finishes what it has begun, and takes nothing new", "yellow"),
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
    return "\n".join(f"{name:<10}{text}" for name, text in lines(status, coloured))


def lines(status: Mapping[str, object], coloured: bool) -> Iterator[tuple[str, str]]:
    """Labels and texts from top to bottom; a line without a label belongs to the one above."""
    word = str(status.get("state", "unknown"))
    meaning, colour = _MEANINGS.get(word, (str(status.get("stage", "")), "yellow"))
    is_unloaded = part(status, "engine").get("state") == "unloaded"
    if word == "ready" and is_unloaded:
        meaning = "the next request loads the model, and waits for it"
    elif word == "ready" and part(status, "switching").get("stage") == "waiting":
        meaning = "what is asked now waits for another model"
    yield "state", f"{click.style(word, fg=colour) if coloured else word}: {meaning}"
    if word not in ("ready", "degraded") and status.get("stage"):
        yield "", f"- {status['stage']}"
    reasons = status.get("degraded")
    for reason in reasons if isinstance(reasons, list) else ():
        yield "", f"- {reason}"
    for sentence in not_in_force(status):
        yield "", f"- {sentence}"
    yield from _switch(status)
    yield from _model(part(status, "model"), context_tokens(status))
    if is_unloaded:
        yield "engine", str(status.get("stage") or "unloaded")
    else:
        yield from _engine(part(status, "engine"))
    yield "speed", _speed(part(status, "speed"))
    memory = part(status, "memory")
    yield (
        "memory",
        f"daemon {size(memory, 'front_rss_bytes')}, engine {size(memory, 'engine_rss_bytes')}",
    )
    yield from _weights(part(part(status, "model"), "memory"), part(status, "engine"))
    for at, line in enumerate(machine_lines(part(status, "host"))):
        yield "" if at else "machine", line
    requests = part(status, "requests")
    yield (
        "requests",
        f"{count(requests, 'accepted')} accepted, {count(requests, 'done')} done, "
        f"{count(requests, 'failed')} failed; {plural(status, 'connections')}",
    )
    yield (
        "daemon",
        f"{status.get('server')}, pid {status.get('pid')}, "
        f"up {duration(number(status, 'uptime_s'))}",
    )
    yield "socket", str(status.get("socket"))


def not_in_force(status: Mapping[str, object]) -> Iterator[str]:
    """What the configuration says, and the daemon that runs does not do."""
    changed = status.get("needs_restart")
    settings = [str(one) for one in changed] if isinstance(changed, list) else []
    others = [one for one in settings if one != "model.name"]
    if others:
        yield f"changed, and needs a restart: {', '.join(others)}"
    if len(others) < len(settings):
        yield "another model is the default; to have it answer now: qwenctl load NAME"


def _weights(plan: Mapping[str, object], engine: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    """How the weights are kept in memory, and whether they can be swapped."""
    if plan.get("policy"):
        yield "", f"weights: {plan['policy']}, {plan.get('reason')}"
    memory = part(engine, "memory")
    if memory.get("lock_refused"):
        yield "", f"weights not locked against swap: {memory['lock_refused']}"
    elif number(memory, "locked_bytes"):
        yield "", "weights locked against swap"


def _switch(status: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    """The model that comes, and the one that goes."""
    coming = part(status, "switching")
    if coming.get("stage") == "waiting":
        yield "", f"- {coming.get('model')} is loaded once the answers under way have ended"
    elif coming:
        yield "", f"- {coming.get('model')} is being loaded: {count(coming, 'percent')} %"
    models = status.get("models")
    for one in models if isinstance(models, list) else ():
        if isinstance(one, dict) and one.get("role") == "leaving":
            yield "", f"- {one.get('name')} still ends the answers that it has begun"


def _model(model: Mapping[str, object], tokens: float) -> Iterator[tuple[str, str]]:
    kind = [str(model[key]) for key in ("architecture", "quantization") if model.get(key)]
    if number(model, "bytes"):
        kind.append(size(model, "bytes"))
    if model.get("warm") is True:
        in_memory = part(model, "memory").get("copy_in_memory") is not False
        kind.append("copy kept in memory" if in_memory else "copy kept on the disk")
    details = f" ({', '.join(kind)})" if kind else ""
    context = f", context {tokens:,.0f} tokens" if tokens else ""
    yield "model", f"{model.get('name')}{details}{context}"
    if model.get("path"):
        yield "", str(model["path"])


def _engine(engine: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    yield (
        "engine",
        f"{engine.get('backend')}, pid {engine.get('pid')}, {_threads(engine)}, "
        f"flash attention {_on_or_off(engine.get('flash_attention'))}, "
        f"{count(engine, 'restarts')} restarts",
    )
    if engine.get("company") is True:
        yield "", _company(engine)
    yield (
        "",
        f"{count(engine, 'running')} running, {count(engine, 'waiting')} waiting; "
        f"{count(engine, 'used_cells')} tokens in use",
    )
    without = engine.get("without")
    if isinstance(without, list) and without:
        yield "", f"this model goes without {', '.join(map(str, without))}"
    calibrated = _calibration(part(engine, "calibration"))
    if calibrated:
        yield "", calibrated
    yield (
        "prefixes",
        f"{size(engine, 'prefix_bytes')} in memory, {size(engine, 'disk_bytes')} on disk",
    )


def _threads(engine: Mapping[str, object]) -> str:
    """Those that compute; a small CPU may be quicker with fewer than there could be."""
    return counted(number(engine, "threads_now") or number(engine, "threads"), "threads")


def _company(engine: Mapping[str, object]) -> str:
    alone = counted(number(engine, "threads_alone"), "threads")
    used = f"{count(engine, 'threads_now')} of {alone}"
    if number(engine, "running"):
        since = duration(number(engine, "threads_since_s"))
        return f"{used}: another program uses the CPU (since {since})"
    # Nothing is computed now, so nothing is known of now.
    return f"{used}: another program used the CPU when it last answered"


def _calibration(calibration: Mapping[str, object]) -> str:
    """How the engine knows what a step costs; empty from one that does not say."""
    if "took_s" not in calibration:
        return ""
    took = f"{number(calibration, 'took_s'):.1f} s"
    if calibration.get("kept") is True:
        return f"calibration of an earlier start confirmed in {took}"
    return f"calibrated in {took}"


def _speed(speed: Mapping[str, object]) -> str:
    """As measured while it answers; a daemon that has not answered yet knows nothing."""
    decode, prefill = number(speed, "decode_tok_s"), number(speed, "prefill_tok_s")
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
