"""What the store knows of one model: its name, which blob it is, and where it came from.

Rule 1: a manifest is read from a disk that anybody may have written to: every field is checked,
and the digest is the only thing that ever becomes a path. Rule 2: keys may be added, so that an
older program reads what a newer one wrote; `format` changes when that is not enough.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

from qwend.errors import ModelError
from qwend.models.reference import DIGEST, NAME

FORMAT = 1
MOST_BYTES = 64 * 1024  # one of ours has about 600


@dataclass(frozen=True, slots=True)
class Manifest:
    """sha256: of the blob, the one file that the daemon opens. origin: where from, for people.

    parts: the SHA-256 of each file at the origin, where several were joined into the blob.
    added_at: seconds since the epoch.
    """

    name: str
    sha256: str
    size_bytes: int
    origin: str
    added_at: float
    revision: str = ""
    licence: str = ""
    quantization: str = ""
    architecture: str = ""
    parameters: int = 0
    context: int = 0
    parts: tuple[str, ...] = ()

    def encode(self) -> bytes:
        return json.dumps({"format": FORMAT, **asdict(self)}, indent=1).encode()


def decode(data: bytes, name: str) -> Manifest:
    """name: the one that it was found under. Raises: ModelError saying what is wrong with it."""
    try:
        fields = json.loads(data)
        if not isinstance(fields, dict) or fields.get("format") != FORMAT:
            raise ValueError(f"not of format {FORMAT}")
        return _checked(fields, name)
    except (ValueError, TypeError, KeyError, RecursionError, OverflowError) as error:
        raise ModelError(
            f"what the store says of {name!r} cannot be used ({error}); "
            f"`qwenctl models rm {name}` takes it away, `qwenctl pull` gets the model again",
            code="store_damaged",
        ) from error


def _checked(fields: dict[str, Any], name: str) -> Manifest:
    sha256, size = fields["sha256"], fields["size_bytes"]
    if fields["name"] != name or not NAME.fullmatch(name):
        raise ValueError(f"it is of {fields['name']!r}")
    if not isinstance(sha256, str) or not DIGEST.fullmatch(sha256):
        raise ValueError("its digest is none")
    if not isinstance(size, int) or isinstance(size, bool) or size <= 0:
        raise ValueError("its size is none")
    parts = fields.get("parts", [])
    return Manifest(
        name=name,
        sha256=sha256,
        size_bytes=size,
        origin=_text(fields, "origin"),
        added_at=float(fields["added_at"]),
        revision=_text(fields, "revision"),
        licence=_text(fields, "licence"),
        quantization=_text(fields, "quantization"),
        architecture=_text(fields, "architecture"),
        parameters=int(fields.get("parameters", 0)),
        context=int(fields.get("context", 0)),
        parts=tuple(part for part in parts if isinstance(part, str) and DIGEST.fullmatch(part)),
    )


def _text(fields: dict[str, Any], key: str) -> str:
    value = fields.get(key, "")
    if not isinstance(value, str):
        raise TypeError(f"{key} is no text")
    # It is shown to people, on terminals.
    return "".join(character if character.isprintable() else "?" for character in value[:1024])
