"""Figures and tables of models as a person reads them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import click


def mebi(count: float) -> str:
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:,.0f} MiB"


def parameters(count: int) -> str:
    if not count:
        return ""
    return f"{count / 1e9:.1f} B" if count >= 1e8 else f"{count / 1e6:.0f} M"


def say_table(heads: Sequence[str], rows: Iterable[Sequence[str]], right: str = "") -> None:
    """right: heads of columns that stand at the right, such as numbers."""
    rows = [heads, *rows]
    widths = [max(len(row[at]) for row in rows) for at in range(len(heads))]
    for row in rows:
        cells = [
            text.rjust(width) if head in right.split() else text.ljust(width)
            for head, text, width in zip(heads, row, widths, strict=True)
        ]
        click.echo("  ".join(cells).rstrip())


def say_fields(fields: Iterable[tuple[str, str]]) -> None:
    """Those that have a value, a line each."""
    shown = [(name, value) for name, value in fields if value]
    width = max((len(name) for name, _ in shown), default=0)
    for name, value in shown:
        click.echo(f"{name.ljust(width)}  {value}")
