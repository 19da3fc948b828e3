"""Figures of the status map as a person reads them.

Rule 1: what a daemon does not say, or says otherwise, is 0 or empty: it may be older or newer.
Rule 2: this file does not know which figures there are.
"""

from __future__ import annotations

from collections.abc import Mapping


def part(fields: Mapping[str, object], key: str) -> Mapping[str, object]:
    """The map under `key`."""
    value = fields.get(key)
    return value if isinstance(value, dict) else {}


def number(fields: Mapping[str, object], key: str) -> float:
    value = fields.get(key)
    return float(value) if isinstance(value, int | float) else 0.0


def count(fields: Mapping[str, object], key: str) -> str:
    return f"{number(fields, key):,.0f}"


def plural(fields: Mapping[str, object], key: str) -> str:
    """The number under `key`, and the key, a plural, as its unit."""
    return counted(number(fields, key), key)


def counted(amount: float, plural_unit: str) -> str:
    return f"{amount:,.0f} {plural_unit if amount != 1 else plural_unit[:-1]}"


def size(fields: Mapping[str, object], key: str) -> str:
    amount = number(fields, key)
    return f"{amount / 2**20:,.0f} MiB" if amount >= 2**20 else f"{amount / 2**10:.0f} KiB"


def context_tokens(status: Mapping[str, object]) -> float:
    """What one request can have: what fits in memory, and what the model was made for."""
    known = [
        number(part(status, "engine"), "context_cells"),
        number(part(status, "model"), "train_context"),
    ]
    return min((each for each in known if each), default=0.0)


def duration(seconds: float) -> str:
    minutes, _ = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours} h"
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min" if minutes else f"{seconds:.0f} s"
