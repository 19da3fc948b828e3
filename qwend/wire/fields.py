"""Readers for the fields of one message: each fault names the field, what came, what is allowed.

Rule 1: whoever reads a map from the peer reads it through `Fields`; types are checked exactly
(True is no integer), an integer is accepted where a float is wanted.
Rule 2: this file does not know any message.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping
from typing import Literal, TypeVar, cast

from qwend.errors import RemoteProtocolError
from qwend.wire import limits

FaultCode = Literal["invalid_message", "invalid_value"]
Choice = TypeVar("Choice", bound=str)

_SHOWN_CHARS = 60
"""Enough to recognise a value in a terminal line; a megabyte of prompt must not come back."""


class Fields:
    """The fields of one map, taken one by one; call `refuse_others` after the last.

    `where` names the map in messages (`chat`, `chat.messages[3]`).
    Every method raises RemoteProtocolError, not fatal, with the request's id if it was readable.
    """

    __slots__ = ("_asked", "_map", "request_id", "where")

    def __init__(self, where: str, fields: Mapping[str, object], request_id: int | None) -> None:
        self.where = where
        self.request_id = request_id
        self._map = fields
        self._asked: list[str] = []

    def has(self, name: str) -> bool:
        """Is there such a field? Asking makes the name a known one."""
        self._asked.append(name)
        return name in self._map

    def value(self, name: str) -> object:
        if not self.has(name):
            raise self.fault("invalid_message", f"{self.where} needs the field '{name}'")
        return self._map[name]

    def integer(self, name: str, low: int, high: int) -> int:
        return self.integer_value(name, self.value(name), low, high)

    def number(self, name: str, low: float, high: float) -> float:
        return self.number_value(name, self.value(name), low, high)

    def boolean(self, name: str) -> bool:
        value = self.value(name)
        if type(value) is not bool:
            raise self.wrong(name, value, "true or false", "invalid_message")
        return value

    def text(self, name: str, *, max_chars: int | None = None) -> str:
        return self.text_value(name, self.value(name), max_chars=max_chars)

    def choice(self, name: str, allowed: tuple[Choice, ...]) -> Choice:
        value = self.text(name)
        if value not in allowed:
            raise self.wrong(name, value, "one of " + ", ".join(allowed), "invalid_value")
        return value

    def array(self, name: str, *, max_entries: int = limits.ARRAY_ENTRIES) -> list[object]:
        value = self.value(name)
        if type(value) is not list:
            raise self.wrong(name, value, "an array", "invalid_message")
        if len(value) > max_entries:
            raise self.wrong(name, value, f"at most {max_entries:,} entries", "invalid_value")
        return value

    def token_ids(self, name: str) -> tuple[int, ...]:
        ids = self.array(name)
        for index, value in enumerate(ids):
            # A prompt of 100,000 ids: only the wrong one is worth a call.
            if type(value) is not int or not 0 <= value <= limits.COUNT_MAX:
                self.integer_value(f"{name}[{index}]", value, 0, limits.COUNT_MAX)
        return cast("tuple[int, ...]", tuple(ids))

    def texts(
        self, name: str, *, max_entries: int, max_chars: int | None = None
    ) -> tuple[str, ...]:
        return tuple(
            self.text_value(f"{name}[{index}]", value, max_chars=max_chars)
            for index, value in enumerate(self.array(name, max_entries=max_entries))
        )

    def inside(self, name: str) -> Fields:
        """The fields of the map in field `name`."""
        return self.map_value(name, self.value(name))

    def integer_value(self, name: str, value: object, low: int, high: int) -> int:
        allowed = f"an integer from {low} to {high}"
        if type(value) is not int:
            raise self.wrong(name, value, allowed, "invalid_message")
        if not low <= value <= high:
            raise self.wrong(name, value, allowed, "invalid_value")
        return value

    def number_value(self, name: str, value: object, low: float, high: float) -> float:
        allowed = f"a number from {low:g} to {high:g}" if high < math.inf else "a finite number"
        if type(value) is not float and type(value) is not int:
            raise self.wrong(name, value, allowed, "invalid_message")
        if not low <= value <= high or math.isinf(value):  # a NaN fails the comparison
            raise self.wrong(name, value, allowed, "invalid_value")
        return float(value) + 0.0  # -0.0 becomes 0.0: "is it greedy?" must not depend on a sign

    def text_value(self, name: str, value: object, *, max_chars: int | None = None) -> str:
        if type(value) is not str:
            raise self.wrong(name, value, "a string", "invalid_message")
        if max_chars is not None and len(value) > max_chars:
            raise self.wrong(name, value, f"at most {max_chars} characters", "invalid_value")
        return value

    def map_value(self, name: str, value: object) -> Fields:
        if type(value) is not dict:
            raise self.wrong(name, value, "a map", "invalid_message")
        return Fields(f"{self.where}.{name}", value, self.request_id)

    def refuse_others(self, known: Iterable[str] = ()) -> None:
        """Refuse every field that was not asked for and is not in `known`."""
        expected = {*self._asked, *known}
        for key in self._map:
            if key not in expected:
                near = difflib.get_close_matches(str(key)[:_SHOWN_CHARS], expected, n=1)
                hint = f"; did you mean '{near[0]}'?" if near else ""
                raise self.fault(
                    "invalid_message", f"{self.where} has no field {_shown(key)}{hint}"
                )

    def wrong(self, name: str, value: object, allowed: str, code: FaultCode) -> RemoteProtocolError:
        return self.fault(code, f"{self.where}.{name} is {_shown(value)}; allowed is {allowed}")

    def fault(self, code: FaultCode, message: str) -> RemoteProtocolError:
        return RemoteProtocolError(message, code=code, request_id=self.request_id)


def _shown(value: object) -> str:
    """`value` as a person would recognise it, in one short line."""
    if isinstance(value, list | dict):
        return f"{'an array' if isinstance(value, list) else 'a map'} of {len(value):,} entries"
    if isinstance(value, str | bytes) and len(value) > _SHOWN_CHARS:
        unit = "characters" if isinstance(value, str) else "bytes"
        return f"{value[:_SHOWN_CHARS]!r}... ({len(value):,} {unit})"
    return "nil" if value is None else repr(value)
