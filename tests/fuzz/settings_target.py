"""The configuration: any file and any variable is settings in range, or one sentence.

Byte 0: a file, or the variable of one of the settings. The rest is what is in it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from qwend.config import Config, load_config, render
from qwend.config.option import rule_of
from qwend.config.schema import tables
from qwend.config.sources import variable
from qwend.errors import ConfigError

SETTINGS = [
    (section, declared.name, declared) for section, _, items in tables() for declared in items
]
FILE = 0
SAID_CHARS = 5_000
"""The longest sentence names all the settings there are."""


def run(data: bytes) -> None:
    if not data:
        return
    which, content = data[0], data[1:]
    environ: dict[str, str] = {}
    if which != FILE:
        section, key, _ = SETTINGS[which % len(SETTINGS)]
        # As Python takes it from a process that may have any bytes there but 0.
        environ[variable(section, key)] = content.replace(b"\0", b"").decode(
            "utf-8", "surrogateescape"
        )
        content = b""
    try:
        with file_of(content) as path:
            loaded = load_config(path, environ)
    except ConfigError as error:
        said = str(error)
        assert said
        assert "\n" not in said
        assert len(said) < SAID_CHARS
        return
    check_in_range(loaded.config)
    with file_of(render(loaded).encode()) as path:
        assert load_config(path, {}).config == loaded.config


@contextmanager
def file_of(content: bytes) -> Iterator[Path]:
    """A file that has a path and is nowhere."""
    fd = os.memfd_create("qwend.toml")
    try:
        os.write(fd, content)
        yield Path(f"/proc/self/fd/{fd}")
    finally:
        os.close(fd)


def check_in_range(config: Config) -> None:
    for section, key, declared in SETTINGS:
        value = getattr(getattr(config, section), key)
        rule = rule_of(declared)
        assert type(value) is type(declared.default)
        for number in value if isinstance(value, tuple) else (value,):
            assert rule.low is None or number >= rule.low
            assert rule.high is None or number <= rule.high
        assert not rule.choices or value in rule.choices


def seeds() -> list[bytes]:
    with file_of(b"") as path:
        shown = render(load_config(path, {}))
    sections = [f"[{part}" for part in shown.split("\n[")]
    return [
        b"\0" + shown.encode(),
        *(b"\0" + section.encode() for section in sections[1:]),
        b"\0[model]\nname = 'x'\ncontext = 0x200\n",
        b"\0sampling.temperature = 1e0\n[sampling]\n",
        b'\0[chat]\nsystem_prompt = """a\nb\\u00e9"""\n',
        *(bytes((place, *b"1")) for place in range(1, len(SETTINGS))),
        *(bytes((place, *b'"auto"')) for place in range(1, len(SETTINGS))),
    ]
