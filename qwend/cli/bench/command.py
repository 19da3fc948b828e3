"""The `bench` subcommand: its options, what is shown while it runs, and what at its end."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from random import SystemRandom

import click

from qwend.cli.bench.plan import OPENING_TOKENS, Bench
from qwend.cli.bench.results import Results
from qwend.cli.connection import connecting, socket_option


@click.command("bench")
@click.option(
    "--tokens",
    type=click.IntRange(2, 100_000),
    default=64,
    show_default=True,
    help="Length of each answer.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@socket_option
def command(tokens: int, as_json: bool, socket_path: str | None) -> None:
    """Measure how fast the daemon is here, in about 10 seconds for a small model.

    It reads a new prompt and the same one again, gives one answer and four answers at once. A gap
    is the time between two tokens of an answer: half of them are not above p50, 95 of 100 not
    above p95.
    """
    progress = Progress()
    try:
        results = asyncio.run(_measure(socket_path, tokens, progress))
    finally:
        progress.clear()
    if as_json:
        click.echo(json.dumps(results.to_map(), ensure_ascii=False, indent=2))
        return
    click.echo(f"{results.model} on {results.server}, answers of {results.one.tokens} tokens")
    click.echo(f"\n{results.table()}")
    for note in results.notes:
        click.echo(f"\nNote: {note}.")


async def _measure(socket_path: str | None, tokens: int, progress: Progress) -> Results:
    async with connecting(socket_path) as client:
        context = client.welcome.context
        if context and OPENING_TOKENS + tokens > context:
            raise click.UsageError(
                f"--tokens {tokens}: this daemon has a context of {context:,} tokens, which leaves "
                f"{max(context - OPENING_TOKENS, 0):,} for an answer"
            )
        return await Bench(client, time.perf_counter, SystemRandom(), progress.show).run(tokens)


class Progress:
    """One line on stderr while nothing else is to be seen; only on a terminal."""

    def __init__(self) -> None:
        self._can_show = sys.stderr.isatty()

    def show(self, text: str) -> None:
        if self._can_show:
            sys.stderr.write(f"\r\x1b[K({text})")
            sys.stderr.flush()

    def clear(self) -> None:
        if self._can_show:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
