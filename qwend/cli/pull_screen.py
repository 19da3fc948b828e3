"""What a person, or a script, sees of a pull: a bar on a terminal, lines elsewhere, JSON if asked.

Rule 1: everything goes to standard error but JSON, which is one object a line on standard output.
Rule 2: this file does not know where bytes come from.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict
from types import TracebackType
from typing import Self

import click
from rich.console import Console
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as Bar

from qwend.cli.amounts import duration
from qwend.cli.models.shown import mebi
from qwend.cli.report import say, say_dim
from qwend.models.manifest import Manifest
from qwend.models.pull.progress import Listener, Progress

_JSON_EVERY_S = 1.0
_STAGES = {
    "asking": "asking",
    "fetching": "fetching",
    "waiting": "waiting for",
    "rereading": "reading again",
    "copying": "copying",
    "joining": "joining",
    "checking": "checking",
}


class PullScreen:
    """A context: the bar is taken away at its end."""

    def __init__(self, *, quiet: bool, as_json: bool) -> None:
        self._quiet, self._as_json = quiet, as_json
        self._told_at, self._stage = 0.0, ""
        self._bar: Bar | None = None
        if sys.stderr.isatty() and not (quiet or as_json):
            self._bar = Bar(
                TextColumn("{task.description}", markup=False),  # a file's name may look like some
                BarColumn(),
                TextColumn("{task.fields[amount]}"),
                console=Console(stderr=True),
                transient=True,
            )
            self._task = self._bar.add_task("", total=None, amount="")

    def listener(self) -> Listener:
        return Listener(self.progress, self.notice)

    def progress(self, progress: Progress) -> None:
        if self._as_json:
            self._tell_json(progress)
        elif self._bar is not None:
            part = f" {progress.part}/{progress.parts}" if progress.parts > 1 else ""
            self._bar.update(
                self._task,
                description=f"{_STAGES.get(progress.stage, progress.stage)} {progress.file}{part}",
                completed=progress.done_bytes,
                total=progress.total_bytes or None,
                amount=amount(progress),
            )

    def notice(self, sentence: str) -> None:
        """Something that a person should know, and that is no error."""
        if self._as_json:
            self._print({"event": "notice", "text": sentence})
        elif self._bar is not None:
            self._bar.console.print(sentence, style="dim", markup=False, highlight=False)
        elif not self._quiet:
            say_dim(sentence)

    def say(self, sentence: str) -> None:
        if self._as_json:
            return
        if self._bar is not None:
            self._bar.console.print(sentence, markup=False, highlight=False)
        elif not self._quiet:
            say(sentence)

    def done(self, model: Manifest | str, sentence: str, **more: object) -> None:
        """model: a name, where nothing else is known of it."""
        if self._as_json:
            known = {"name": model} if isinstance(model, str) else asdict(model)
            self._print({"event": "done", "model": known, **more})
        self.say(sentence)

    def _tell_json(self, progress: Progress) -> None:
        now = time.monotonic()
        if progress.stage == self._stage and now - self._told_at < _JSON_EVERY_S:
            return
        self._stage, self._told_at = progress.stage, now
        self._print({"event": "progress", **asdict(progress)})

    def _print(self, fields: dict[str, object]) -> None:
        click.echo(json.dumps(fields))

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()


def amount(progress: Progress) -> str:
    """How far, how fast, how long yet."""
    if not progress.done_bytes and not progress.total_bytes:
        return ""
    text = mebi(progress.done_bytes)
    if progress.total_bytes:
        text += f" of {mebi(progress.total_bytes)}"
    if progress.rate:
        text += f", {progress.rate / 1e6:.1f} MB/s"
    if progress.remaining_s is not None:
        text += f", {duration(progress.remaining_s)} left"
    return text
