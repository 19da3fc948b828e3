"""Changing one setting of a configuration file, and nothing else of it.

Rule 1: everything stays as it is written, comments too; what cannot be changed so is refused.
Rule 2: the result is read again before it is written, and must differ in this one setting.
"""

from __future__ import annotations

import os
import re
import tempfile
import tomllib
from contextlib import suppress
from pathlib import Path
from typing import Any

from qwend.errors import ConfigError


def set_text(file: Path, table: str, key: str, value: str) -> None:
    """Make `key` under [table] this text; the file is made if there is none.

    Raises: ConfigError naming the line to write by hand.
    """
    by_hand = f'write {key} = "{value}" under [{table}] of {file}'
    try:
        text = file.read_text("utf-8") if file.exists() else ""
        changed = with_text(text, table, key, value)
        if changed is None:
            raise ConfigError(f"{file} cannot be changed by a program; {by_hand}")
        _replace(file, changed)
    except OSError as error:
        raise ConfigError(f"{file} cannot be changed: {error.strerror}; {by_hand}") from error


def with_text(text: str, table: str, key: str, value: str) -> str | None:
    """The file's text with that setting; None if it is too unusual."""
    before = _parsed(text)
    if before is None or not isinstance(before.get(table, {}), dict) or '"' in value:
        return None
    wanted = {**before, table: {**before.get(table, {}), key: value}}
    setting = f'{key} = "{value}"'
    head = rf"(?m)^([ \t]*\[{re.escape(table)}\][^\n]*\n"
    for pattern, written in (
        (head + rf"(?:(?![ \t]*\[)[^\n]*\n)*?[ \t]*){re.escape(key)}[ \t]*=[^\n]*", setting),
        (head + ")", setting + "\n"),
        (r"(?s)^(.*?)\s*\Z", f"\n\n[{table}]\n{setting}\n"),
    ):
        found = re.search(pattern, text)
        if found is None:
            continue
        changed = text[: found.start()] + found[1] + written + text[found.end() :]
        if _parsed(changed) == wanted:
            return changed.lstrip("\n")
    return None


def _parsed(text: str) -> dict[str, Any] | None:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return None


def _replace(file: Path, text: str) -> None:
    """With the mode and the owner of the one before it. Raises: OSError."""
    file = file.resolve()
    file.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(prefix=f".{file.name}.", dir=file.parent)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            before = file.stat() if file.exists() else None
            os.fchmod(descriptor, before.st_mode & 0o7777 if before else 0o644)
            if before and os.geteuid() == 0:
                os.fchown(descriptor, before.st_uid, before.st_gid)
            os.fsync(descriptor)
        os.replace(temporary, file)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise
