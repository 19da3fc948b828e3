"""One setting: its rule, and the check of one value against it.

Rule 1: a rule is data (`Rule`, kept as dataclass field metadata); `check` is the only code that
judges a value.
Rule 2: this file does not know which settings exist, nor where a value came from: its errors are
plain ValueErrors that say what is wrong with the value, and the reader adds the place.
"""

from __future__ import annotations

import re
from dataclasses import Field, dataclass, field
from typing import Any, TypeAlias, TypeVar, cast

Value: TypeAlias = bool | int | float | str | tuple[int, ...]
T = TypeVar("T", bool, int, float, str, tuple[int, ...])

_RULE = "rule"
# Room for the value in a message; a file may hold a megabyte in one.
_SHOWN_CHARACTERS = 60
_KINDS = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    tuple: "a list of whole numbers",
}


@dataclass(frozen=True, slots=True)
class Rule:
    """What a setting is for and which values it may have. Bounds are inclusive."""

    doc: str
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    pattern: str | None = None
    pattern_says: str = ""
    max_bytes: int | None = None


def option(
    default: T,
    doc: str,
    *,
    low: float | None = None,
    high: float | None = None,
    choices: tuple[str, ...] = (),
    pattern: str | None = None,
    pattern_says: str = "",
    max_bytes: int | None = None,
) -> T:
    """Declare a dataclass field for a setting. The type of `default` is the setting's type.

    low, high: of a number, of each number in a list. pattern: must match the whole text;
    pattern_says completes "expected ...".
    """
    rule = Rule(doc, low, high, choices, pattern, pattern_says, max_bytes)
    return field(default=default, metadata={_RULE: rule})


def rule_of(declared: Field[Any]) -> Rule:
    """Return the rule that `option` attached to this dataclass field."""
    return cast(Rule, declared.metadata[_RULE])


def check(declared: Field[Any], given: object) -> Value:
    """Return `given` (as TOML gave it) as the setting's own type.

    Raises: ValueError saying what was expected and what was given.
    """
    rule = rule_of(declared)
    kind = type(declared.default)
    value = _as_kind(kind, given)
    if value is None:
        raise ValueError(f"expected {describe(declared)}, given {_named(given)}")
    for number in value if isinstance(value, tuple) else (value,):
        if not isinstance(number, (str, bool)) and not _in_range(rule, number):
            raise ValueError(f"expected {describe(declared)}, given {shown(number)}")
    if isinstance(value, str):
        _check_text(rule, value, describe(declared))
    return float(value) if kind is float and isinstance(value, int) else value


def describe(declared: Field[Any]) -> str:
    """Say which values the setting may have, to complete "expected ..."."""
    rule = rule_of(declared)
    if rule.choices:
        return "one of " + ", ".join(f'"{choice}"' for choice in rule.choices)
    if rule.pattern_says:
        return rule.pattern_says
    text = _KINDS[type(declared.default)]
    if rule.low is not None and rule.high is not None:
        return f"{text} from {rule.low:g} to {rule.high:.12g}"
    return f"{text} of at least {rule.low:g}" if rule.low is not None else text


def _as_kind(kind: type, given: object) -> Value | None:
    # bool is an int to Python, not to a person: `threads = true` is a mistake.
    if isinstance(given, bool):
        return given if kind is bool else None
    if kind is tuple:
        if isinstance(given, list) and all(type(item) is int for item in given):
            return tuple(given)
        return None
    if kind is float and isinstance(given, (int, float)):
        return given
    return cast(Value, given) if type(given) is kind else None


def _in_range(rule: Rule, number: float) -> bool:
    # Written so that NaN, which compares false with everything, is out of every range.
    at_least = rule.low is None or number >= rule.low
    return at_least and (rule.high is None or number <= rule.high)


def _check_text(rule: Rule, value: str, expected: str) -> None:
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        # The environment can carry any bytes; Python hands the odd ones on as surrogates.
        raise ValueError(f"expected {expected}, given text that is not UTF-8") from None
    if "\0" in value:
        raise ValueError(f"expected {expected}, given text with a NUL character")
    if rule.choices and value not in rule.choices:
        raise ValueError(f"expected {expected}, given {shown(value)}")
    if rule.pattern is not None and not re.fullmatch(rule.pattern, value):
        raise ValueError(f"expected {expected}, given {shown(value)}")
    if rule.max_bytes is not None and size > rule.max_bytes:
        raise ValueError(f"expected at most {rule.max_bytes} bytes of text, given {size}")


def _named(given: object) -> str:
    if isinstance(given, list):
        return f"a list, {shown(given)}"
    if isinstance(given, dict):
        return "a table"
    named = _KINDS.get(type(given), "a date or time")
    return f"{named} ({shown(given)})" if type(given) in _KINDS else named


def shown(given: object) -> str:
    """Return the value as one short line for a message."""
    try:
        text = _toml_like(given)
    except (ValueError, RecursionError):
        # Python refuses to print integers beyond 4300 digits, which hexadecimal TOML can hold,
        # and dotted keys nest tables deeper than Python can follow.
        return "a value too long to show"
    return text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "..."


def _toml_like(given: object) -> str:
    if isinstance(given, bool):
        return "true" if given else "false"
    return repr(given)
