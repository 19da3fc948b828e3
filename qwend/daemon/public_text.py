"""What an error may say to a client: what is wrong, and not where the daemon keeps its things.

Owns the one rule: directories are for administrators. Errors that come from the machine name files
for the operator's sake; a home directory or a mount in one is nobody else's business. The log and
the administrators see them whole.
"""

from __future__ import annotations

import re
from dataclasses import replace

from qwend.wire.codes import ErrorCode
from qwend.wire.notices import Error

# Errors of the daemon's side; the others say what is wrong with what the client itself has sent.
OF_THE_MACHINE = frozenset(
    {
        ErrorCode.ENGINE_LOST,
        ErrorCode.MODEL_ERROR,
        ErrorCode.NO_SPACE,
        ErrorCode.STORAGE_ERROR,
        ErrorCode.SHUTTING_DOWN,
        ErrorCode.INTERNAL,
    }
)
# As `repr` shows a name, in which there may be spaces; and as it stands in a sentence.
_QUOTED = re.compile(r"""(['"])/(?:[^'"]*/)?([^'"/]*)\1""")
_BARE = re.compile(r"""(?<![\w.~/<-])/(?:[^\s'"/]+/)*([^\s'"/,;:()]*)""")


def for_client(error: Error, *, administers: bool) -> Error:
    """The error as this client may read it."""
    if administers or error.code not in OF_THE_MACHINE:
        return error
    return replace(error, message=without_directories(error.message))


def without_directories(text: str) -> str:
    """Of each absolute path the last part alone."""
    return _BARE.sub(r"\1", _QUOTED.sub(r"\2", text))
