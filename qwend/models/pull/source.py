"""What a source says of one file before its bytes are fetched.

Values and what all sources share; each source itself is a file of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from qwend.models.pull.failure import Again, Never
from qwend.models.pull.web import Answer, wait_asked_for

MOST_METADATA_BYTES = 4 << 20


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """url: where its bytes are. sha256: what they must be. size_bytes: None if nobody said.

    secret: headers for the first origin only. plain_http: the operator named it so.
    """

    url: str
    sha256: str
    size_bytes: int | None = None
    revision: str = ""
    secret: Mapping[str, str] = field(default_factory=dict)
    plain_http: bool = False


class Source(Protocol):
    """name: for messages."""

    @property
    def name(self) -> str: ...

    def find(self, file: str) -> RemoteFile:
        """Ask what it has under this path. Raises: Again, Never."""
        ...


def check_status(answer: Answer, what: str) -> None:
    """Nothing if it is an answer to be used. Raises: Again, Never."""
    host, status = answer.address.host, answer.status
    if status in (200, 206):
        return
    if status in (408, 425, 429) or status >= 500:
        raise Again(f"{host} answers {status} for {what}", wait_s=wait_asked_for(answer))
    if status in (401, 403):
        raise Never(
            f"{host} does not give {what} ({status}); if its licence must be accepted, do that on "
            "its page, and give a token of yours in HF_TOKEN",
            code="forbidden",
        )
    if status in (404, 410):
        raise Never(f"{host} has no {what}", code="not_found")
    raise Never(f"{host} answers {status} for {what}")
