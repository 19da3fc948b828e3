"""`qwenctl doctor`: the checks in their order, as a screen or as JSON."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict

import click

from qwend.cli.connection import socket_option
from qwend.cli.doctor import build, daemon, memory, processor, service, storage
from qwend.cli.doctor.finding import Finding, Level
from qwend.cli.doctor.look import look
from qwend.cli.doctor.machine import machine
from qwend.cli.doctor.scene import Scene
from qwend.cli.doctor.screen import COLOURS, screen
from qwend.cli.exits import Exit
from qwend.cli.report import is_coloured

Check = Callable[[Scene], Iterator[Finding]]

# From what is noticed first to what is looked up last.
CHECKS: tuple[Check, ...] = (
    daemon.check_daemon,
    daemon.check_access,
    daemon.check_version,
    build.check_features,
    build.check_openmp,
    processor.check_threads,
    processor.check_governor,
    processor.check_throttling,
    processor.check_heat,
    memory.check_memory,
    memory.check_copy,
    memory.check_swap,
    memory.check_locked,
    storage.check_disk,
    storage.check_clock,
    service.check_systemd,
    service.check_boot,
    service.check_weight,
    service.check_limits,
)
# Lines longer than this are hard to read, however wide the terminal is.
_MOST_COLUMNS = 100


@click.command("doctor")
@click.option("--json", "as_json", is_flag=True, help="Print all findings as one JSON object.")
@click.option("--quick", is_flag=True, help="Do not read the disk, which takes up to a second.")
@socket_option
def command(as_json: bool, quick: bool, socket_path: str | None) -> int:
    """Show what this machine is, what is tuned, and what would mend the rest.

    Changes nothing. Exits 1 if something is wrong.
    """
    scene = look(os.environ, socket_path, read_disk=not quick)
    findings = examine(scene)
    if as_json:
        shown = {"machine": machine(scene), "findings": [asdict(each) for each in findings]}
        click.echo(json.dumps(shown, ensure_ascii=False, indent=2))
    else:
        columns = min(_MOST_COLUMNS, shutil.get_terminal_size().columns)
        title = f"qwend {scene.qwend} on {machine(scene)}"
        for line in screen(title, findings, columns, _paint):
            click.echo(line)
    is_wrong = any(each.level is Level.WRONG for each in findings)
    return Exit.REQUEST_FAILED if is_wrong else Exit.DONE


def examine(scene: Scene) -> list[Finding]:
    return [finding for check in CHECKS for finding in check(scene)]


def _paint(text: str, level: Level) -> str:
    return click.style(text, fg=COLOURS[level]) if is_coloured(sys.stdout, os.environ) else text
