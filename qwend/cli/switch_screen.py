"""What a person, or a script, sees while the daemon changes its model: a bar, lines, or JSON.

Rule 1: progress goes to standard error, a bar on a terminal and a line for each stage elsewhere;
with JSON it is one object a line on standard output.
Rule 2: this file does not know what was ordered, nor how it ends.
"""

from __future__ import annotations

import json
import os
import sys
from types import TracebackType
from typing import TYPE_CHECKING, Self

import click

from qwend.cli.amounts import counted
from qwend.cli.report import fitted, say
from qwend.wire import Progress

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

# Percent between two lines of JSON: a script wants to see that it goes on, not each step.
_JSON_STEP = 5


class SwitchScreen:
    """A context: the bar is taken away at its end. model: name or path of what is loaded."""

    def __init__(self, model: str, *, quiet: bool, as_json: bool) -> None:
        self._model, self._quiet, self._as_json = model.rpartition("/")[2], quiet, as_json
        self._told = ""
        self._told_done = 0
        self._bar: Bar | None = None
        can_redraw = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
        if can_redraw and not (quiet or as_json):
            self._bar = _bar()
            self._task = self._bar.add_task("asking the daemon", total=None, amount="")

    @property
    def has_told(self) -> bool:
        """There was something to wait for."""
        return bool(self._told)

    def progress(self, progress: Progress) -> None:
        text = stage_text(progress, self._model)
        is_news = text != self._told
        if self._as_json:
            if is_news or progress.done - self._told_done >= _JSON_STEP:
                self._told_done = progress.done
                stage, done, total = progress.stage, progress.done, progress.total
                self.tell("progress", stage=stage, done=done, total=total)
        elif self._bar is not None:
            is_measured = progress.stage == "loading"
            self._bar.update(
                self._task,
                description=text,
                completed=progress.done,
                total=progress.total if is_measured else None,
                amount=f"{progress.done} %" if is_measured else "",
            )
        elif is_news and not self._quiet:
            say(text)
        self._told = text

    def tell(self, event: str, **fields: object) -> None:
        """For scripts; nothing where none reads."""
        if self._as_json:
            click.echo(json.dumps({"event": event, **fields}))

    def say(self, sentence: str) -> None:
        """The result, for people."""
        if not (self._quiet or self._as_json):
            click.echo(fitted(sentence, sys.stdout))

    def remark(self, sentence: str) -> None:
        if not (self._quiet or self._as_json):
            say(sentence)

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
            self._bar = None


def stage_text(progress: Progress, model: str) -> str:
    """What is waited for. model: its name, or words for it."""
    if progress.stage == "waiting":
        return f"waiting for {counted(progress.total, 'answers')} to end"
    return f"loading {model}"


def _bar() -> Bar:
    # 80 ms that only a terminal needs.
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    return Progress(
        TextColumn("{task.description}", markup=False),  # the name of a file may look like some
        BarColumn(),
        TextColumn("{task.fields[amount]}", markup=False),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        refresh_per_second=5,
        transient=True,
    )
