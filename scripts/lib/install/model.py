"""Which model the service runs: the file in its place, its name in the configuration.

Rule 1: of the configuration only `name` under [model] is changed; everything else stays as it is
written, comments too.
Rule 2: whether a file can be used is the daemon's to say; here only the obvious is refused.
"""

from __future__ import annotations

import filecmp
import pwd
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from actions import Actions
from problem import Problem
from target import Target

GUIDE = "guide"
STORE = "store"  # qwend/models/blob_store.py
_SUFFIX = ".gguf"
# As in qwend/models/store.py.
_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")


@dataclass(frozen=True, slots=True)
class Wanted:
    """name: for the configuration. file: to be copied; None if it is there already."""

    name: str
    file: Path | None


def find_model(given: str, target: Target) -> Wanted:
    """What --model means. Raises: Problem if there is no such model."""
    if "/" not in given and not given.endswith(_SUFFIX):
        there = installed_names(target)
        if given != GUIDE and given not in there:
            raise Problem(
                f"There is no model {given!r} in {target.models}; there are: "
                f"{', '.join([GUIDE, *there])}.\nA file elsewhere: --model /path/to/file.gguf"
            )
        return Wanted(given, None)
    file = Path(given).expanduser().resolve()
    try:
        with open(file, "rb") as stream:
            magic = stream.read(4)
    except OSError as error:
        raise Problem(f"The model {file} cannot be read: {error.strerror}") from None
    if magic != b"GGUF":
        raise Problem(f"{file} is no GGUF file, so it is no model for llama.cpp")
    if file.suffix != _SUFFIX or not _NAME.fullmatch(file.stem) or file.stem == GUIDE:
        raise Problem(f"{file.name}: rename it to 1 to 64 of A-Z a-z 0-9 . _ - and {_SUFFIX}")
    return Wanted(file.stem, file)


def installed_names(target: Target) -> list[str]:
    """Of files that were put there, and of models that were pulled (qwend/models)."""
    manifests = target.models / STORE / "manifests"
    files = [*target.models.glob(f"*{_SUFFIX}"), *manifests.glob("[!.]*.json")]
    return sorted({file.stem for file in files})


def installed_files(target: Target) -> list[Path]:
    """The weights themselves; two names may be one file."""
    blobs = target.models / STORE / "blobs"
    return [*target.models.glob(f"*{_SUFFIX}"), *blobs.glob("[!.]*")]


def configured(text: str, name: str, path: Path) -> str:
    """The configuration with this name of the model. Raises: Problem if that is not possible."""
    before = _parsed(text, path)
    model = before.get("model", {})
    setting = f'name = "{name}"'
    if isinstance(model, dict) and model.get("name", GUIDE) == name:
        return text
    for pattern, written in (
        (r"(?m)^([ \t]*\[model\][^\n]*\n(?:(?![ \t]*\[)[^\n]*\n)*?[ \t]*)name[ \t]*=[^\n]*", None),
        (r"(?m)^([ \t]*\[model\][^\n]*\n)", setting + "\n"),
        (r"(?s)^(.*?)\s*\Z", f"\n\n[model]\n{setting}\n"),
    ):
        changed = re.sub(
            pattern, lambda found, new=written or setting: found[1] + new, text, count=1
        )
        if isinstance(model, dict) and _reads_as(
            changed, {**before, "model": {**model, "name": name}}
        ):
            return changed.lstrip("\n")
    raise Problem(f"{path} is too unusual to be changed here; write {setting} under [model]")


def set_model(wanted: Wanted, target: Target, actions: Actions) -> bool:
    """Put the file and the name in place; True if something was other. Raises: Problem."""
    changed = False
    if wanted.file is not None:
        place = target.models / f"{wanted.name}{_SUFFIX}"
        if not (place.exists() and filecmp.cmp(wanted.file, place, shallow=False)):
            owner = _owner(target)
            for directory in (target.state, target.models):
                actions.directory(directory, mode=0o750, owner=owner)
            actions.copy(wanted.file, place, owner)
            changed = True
    text = target.config.read_text(encoding="utf-8") if target.config.exists() else ""
    named = configured(text, wanted.name, target.config)
    if named != text:
        changed |= actions.write(target.config, named)
    actions.say("model", wanted.name + ("" if changed else ", as before"))
    return changed


def _owner(target: Target) -> tuple[int, int] | None:
    """The service's user; None for one user, and where systemd has not made it."""
    try:
        entry = None if target.user else pwd.getpwnam("qwend")
    except KeyError:
        return None
    return (entry.pw_uid, entry.pw_gid) if entry else None


def _parsed(text: str, path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise Problem(f"{path} is no TOML: {error}") from None


def _reads_as(text: str, wanted: dict[str, Any]) -> bool:
    try:
        return tomllib.loads(text) == wanted
    except tomllib.TOMLDecodeError:
        return False
