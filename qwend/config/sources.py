"""What the operator wrote: the file and the environment, as raw values by section and key.

Rule 1: nothing is skipped in silence. What is not known is refused by name, with the nearest name
that is, for a misspelt limit must not mean "no limit".
Rule 2: this file judges names, not values, and does not know which of two sources wins.
"""

from __future__ import annotations

import difflib
import os
import stat
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import Field, dataclass
from pathlib import Path
from typing import Any, TypeAlias

from qwend.config.option import shown
from qwend.config.schema import tables
from qwend.errors import ConfigError

PREFIX = "QWEND_"
# Variables that are not settings: where clients connect, which file to read, injected faults.
RESERVED = frozenset({"QWEND_SOCKET", "QWEND_CONFIG", "QWEND_FAIL"})
# A full file with comments has 4 KiB; a megabyte is a wrong path, not a configuration.
LIMIT_BYTES = 2**20


@dataclass(frozen=True, slots=True)
class Given:
    """A value as TOML gave it, the name of its source, and its place in words for an error."""

    value: object
    origin: str
    where: str


RawSettings: TypeAlias = dict[tuple[str, str], Given]


def read_text(path: Path) -> str:
    """Return the text of a file. Raises: FileNotFoundError, for the caller to judge."""
    try:
        with open(path, "rb", opener=_open_at_once) as stream:
            if stat.S_ISFIFO(os.fstat(stream.fileno()).st_mode):
                raise ConfigError(f"configuration {path} is a pipe; give a file")
            data = stream.read(LIMIT_BYTES + 1)
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ConfigError(f"cannot read the configuration {path}: {reason}") from error
    if len(data) > LIMIT_BYTES:
        raise ConfigError(f"configuration {path} is larger than {LIMIT_BYTES} bytes; wrong file?")
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise ConfigError(f"configuration {path} is UTF-16; save it as UTF-8")
    try:
        # Some editors put a byte order mark before UTF-8 as well; it says nothing.
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(
            f"configuration {path} is not UTF-8: byte 0x{data[error.start]:02x} in line {line}"
        ) from error


def _open_at_once(path: str, flags: int) -> int:
    # O_NONBLOCK: a FIFO without a writer must not hold up the start.
    return os.open(path, flags | os.O_NONBLOCK)


def variable(section: str, key: str) -> str:
    """Return the name of the environment variable that overrides a setting."""
    return f"{PREFIX}{section}_{key}".upper()


def from_file(text: str, file: str) -> RawSettings:
    """Return what the text of `file` sets. Raises: ConfigError for broken TOML, unknown names."""
    try:
        document = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        # TOMLDecodeError says line and column; a bare ValueError is an integer of over 4300 digits.
        raise ConfigError(f"{file} is not valid TOML: {error}") from error
    found: RawSettings = {}
    known = {section: [item.name for item in settings] for section, _, settings in tables()}
    for section, table in document.items():
        if section not in known:
            raise ConfigError(f"{file}: {_unknown_section(section, known)}")
        if not isinstance(table, dict):
            raise ConfigError(f"{file}: {section} is a section: write [{section}] on its own line")
        for key, value in table.items():
            if key not in known[section]:
                raise ConfigError(f"{file}: {_unknown_key(section, key, known)}")
            found[section, key] = Given(value, file, f"{file}: [{section}] {key}")
    return found


def from_environment(environ: Mapping[str, str]) -> RawSettings:
    """Return what the environment sets. Raises: ConfigError for an unknown QWEND_ name."""
    known = {
        variable(section, declared.name): (section, declared)
        for section, _, settings in tables()
        for declared in settings
    }
    found: RawSettings = {}
    for name in sorted(environ):
        if not name.startswith(PREFIX) or name in RESERVED:
            continue
        if name not in known:
            hint = _nearest(name, [*known, *RESERVED])
            raise ConfigError(f"unknown environment variable {shown(name)}{hint}")
        section, declared = known[name]
        value = _parse_variable(declared, environ[name])
        found[section, declared.name] = Given(value, name, f"environment variable {name}")
    return found


def _parse_variable(declared: Field[Any], text: str) -> object:
    """Return the TOML value that `text` spells, or `text` itself where it spells none.

    For a text setting only a quoted string is TOML: a model called 2024 is not a number.
    """
    try:
        parsed = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):
        return text
    value: object = parsed["value"]
    # More than one key: the text held line breaks and was never meant as one value.
    if len(parsed) != 1 or (isinstance(declared.default, str) and not isinstance(value, str)):
        return text
    return value


def _unknown_section(section: str, known: Mapping[str, list[str]]) -> str:
    for owner, keys in known.items():
        if section in keys:
            return f"{section} stands outside its section; put it under [{owner}]"
    return f"unknown section {shown(section)}{_nearest(section, known)}"


def _unknown_key(section: str, key: str, known: Mapping[str, list[str]]) -> str:
    for owner, keys in known.items():
        if key in keys:
            return f"{key} does not belong under [{section}]; put it under [{owner}]"
    return f"unknown setting {shown(key)} under [{section}]{_nearest(key, known[section])}"


def _nearest(word: str, known: Iterable[str]) -> str:
    names = list(known)
    near = difflib.get_close_matches(word[:80], names, n=1, cutoff=0.5)
    return f"; did you mean {near[0]}?" if near else f"; known are {', '.join(sorted(names))}"
