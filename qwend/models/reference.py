"""What a person may name to `pull` and `import`: a name, an address on a hub, a URL, a path.

Rule 1: what is no name of the catalogue says by its form what it is; nothing is guessed. Rule 2: no
part of a name ever becomes a path in the store unless it passes `store_name`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from urllib.parse import unquote, urlsplit

from qwend.errors import ConfigError
from qwend.models.ggml_types import FILE_TYPES

NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
DIGEST = re.compile(r"[0-9a-f]{64}")
SUFFIX = ".gguf"
# Owner and repository as the hubs allow them (huggingface_hub, validate_repo_id), a revision as git
# does, and a file without a way up.
_PART = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}")
_REVISION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,254}")
_MAX_FILE_CHARACTERS = 512
_SPLIT = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf")
MAX_PARTS = 512  # of a split file; Qwen's largest has 19
QUANTIZATIONS = frozenset(FILE_TYPES.values())


@dataclass(frozen=True, slots=True)
class CatalogueName:
    """quantization: empty where none was named."""

    name: str
    quantization: str = ""


@dataclass(frozen=True, slots=True)
class HubFile:
    """A file of a repository, by its path in it."""

    repository: str
    file: str
    revision: str = "main"


@dataclass(frozen=True, slots=True)
class WebFile:
    url: str
    sha256: str


@dataclass(frozen=True, slots=True)
class LocalFile:
    path: str


Reference = CatalogueName | HubFile | WebFile | LocalFile


def read_reference(text: str, sha256: str = "") -> Reference:
    """sha256: what --sha256 says. Raises: ConfigError saying what would be right."""
    sha256 = sha256.lower()
    if sha256 and not DIGEST.fullmatch(sha256):
        raise ConfigError(f"--sha256 takes 64 hexadecimal digits, not {sha256!r}")
    if text.startswith("hf:"):
        return _hub_file(text)
    if re.match(r"https?://", text, re.IGNORECASE):
        if not sha256:
            raise ConfigError(
                f"nobody vouches for what {text} gives: say what its SHA-256 must be, with --sha256"
            )
        return WebFile(text, sha256)
    if "://" in text:
        raise ConfigError(f"{text!r} is no address of a model: https:// or hf: is possible")
    if "/" in text or text.endswith(SUFFIX):
        return LocalFile(text)
    name, quantization = split_name(text)
    return CatalogueName(name, quantization)


def split_name(text: str) -> tuple[str, str]:
    """NAME or NAME:QUANT, the second part empty or in capitals. Raises: ConfigError."""
    name, colon, quantization = text.partition(":")
    quantization = quantization.upper()
    if not NAME.fullmatch(name) or (colon and quantization not in QUANTIZATIONS):
        raise ConfigError(
            f"{text!r} cannot be the name of a model: 1 to 64 of A-Z a-z 0-9 . _ -, and behind a "
            "colon a quantization such as Q4_0"
        )
    return name, quantization


def store_name(text: str) -> str:
    """The name as it may be a file's in the store. Raises: ConfigError."""
    # A name of dots alone would be a directory; one that begins with a dot is a temporary file's.
    if not NAME.fullmatch(text) or text.startswith("."):
        raise ConfigError(
            f"{text!r} cannot be the name of a model in the store: 1 to 64 of A-Z a-z 0-9 . _ -, "
            "not beginning with a dot; give another with --name"
        )
    return text


def parts_of(file: str) -> list[str]:
    """The paths of all parts of a split file, given any of them; of a whole one itself.

    Raises: ConfigError for numbers that cannot be.
    """
    head, slash, name = file.rpartition("/")
    found = _SPLIT.fullmatch(name)
    if found is None:
        return [file]
    number, count = int(found["number"]), int(found["count"])
    if not 1 <= number <= count <= MAX_PARTS:
        raise ConfigError(f"{file}: part {number} of {count} cannot be")
    stem = f"{head}{slash}{found['stem']}"
    return [f"{stem}-{part:05d}-of-{count:05d}.gguf" for part in range(1, count + 1)]


def stem_of(reference: HubFile | WebFile | LocalFile) -> str:
    """The file's name without ending and number: what it is called unless told otherwise."""
    if isinstance(reference, HubFile):
        name = PurePosixPath(reference.file).name
    elif isinstance(reference, WebFile):
        name = PurePosixPath(unquote(urlsplit(reference.url).path)).name
    else:
        name = PurePosixPath(reference.path).name
    found = _SPLIT.fullmatch(name)
    return found["stem"] if found else name.removesuffix(SUFFIX)


def _hub_file(text: str) -> HubFile:
    address, _, revision = text.removeprefix("hf:").partition("@")
    owner, repository, file = [*address.split("/", 2), "", ""][:3]
    revision = revision or "main"
    steps = file.split("/")
    bad = (
        not _PART.fullmatch(owner)
        or not _PART.fullmatch(repository)
        or not _REVISION.fullmatch(revision)
        or ".." in revision
        or not file.endswith(SUFFIX)
        or len(file) > _MAX_FILE_CHARACTERS
        or not file.isprintable()
        or any(step in ("", ".", "..") for step in steps)
        or "\\" in file
    )
    if bad:
        raise ConfigError(
            f"{text!r} is no file of a hub: hf:OWNER/REPOSITORY/FILE.gguf, "
            "with @REVISION behind it where another than main is meant"
        )
    return HubFile(f"{owner}/{repository}", file, revision)
