"""The configuration as TOML text that says of each value where it came from.

Rule 1: the text is itself a valid file that gives the same configuration.
Rule 2: this file does not know who shows it.
"""

from __future__ import annotations

import json
from typing import Any

from qwend.config.load import LoadedConfig
from qwend.config.option import Value, rule_of
from qwend.config.schema import tables


def render(loaded: LoadedConfig) -> str:
    """Return the whole configuration, every setting with its origin and meaning."""
    file = loaded.file if loaded.file is not None else "none, all from defaults and environment"
    lines = [f"# file: {_comment(str(file))}"]
    for section, _, settings in tables():
        lines += ["", f"[{section}]"]
        table: Any = getattr(loaded.config, section)
        for declared in settings:
            origin = _comment(loaded.origins[f"{section}.{declared.name}"])
            value = _toml(getattr(table, declared.name))
            lines.append(f"{declared.name} = {value}  # {origin}: {rule_of(declared).doc}")
    return "\n".join(lines) + "\n"


def _toml(value: Value) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        # A JSON string is a TOML basic string but for DEL, which TOML wants escaped.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return repr(list(value) if isinstance(value, tuple) else value)


def _comment(text: str) -> str:
    # A file's name may hold anything; a line break would end the comment.
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
