"""Whether somebody waits for a request: a field that `chat`, `complete` and `prefill` share.

Rule 1: None means that the daemon decides, by the kind of request.
Rule 2: this file does not know who goes before whom.
"""

from __future__ import annotations

from typing import Literal, get_args

from qwend.wire.fields import Fields

Priority = Literal["interactive", "background"]
PRIORITIES: tuple[Priority, ...] = get_args(Priority)


def priority_field(priority: Priority | None) -> dict[str, object]:
    return {} if priority is None else {"priority": priority}


def read_priority(source: Fields) -> Priority | None:
    return source.choice("priority", PRIORITIES) if source.has("priority") else None
