"""The exit codes of `qwenctl`, in one table.

Rule 1: a script may rely on these numbers; docs/cli.md lists them for people.
Rule 2: this file does not know how an error is shown.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import Final

from qwend.errors import QwendError


class Exit(IntEnum):
    DONE = 0
    REQUEST_FAILED = 1
    USAGE = 2
    UNREACHABLE = 3
    REFUSED = 4
    INTERRUPTED = 130
    """128 + SIGINT, as shells report it."""


# By the error's code, which is stable; the class would have to be imported, with all it needs.
# Every other code is about the one request.
_BY_CODE: Final[Mapping[str, Exit]] = {
    "config": Exit.USAGE,
    "unreachable": Exit.UNREACHABLE,
    "forbidden": Exit.REFUSED,
}


def exit_for(error: QwendError) -> Exit:
    return _BY_CODE.get(error.code, Exit.REQUEST_FAILED)
