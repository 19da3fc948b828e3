"""The configuration in force: the environment over the file over the defaults.

Rule 1: all of a configuration is good or none of it is used.
Rule 2: this file does not know the settings; it follows `schema`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qwend.config.option import Value, check
from qwend.config.schema import Config, tables
from qwend.config.sources import Given, from_environment, from_file, read_text
from qwend.errors import ConfigError
from qwend.paths import paths_for

DEFAULT = "default"


@dataclass(frozen=True, slots=True)
class LoadedConfig:
    """The configuration and where each value came from.

    origins: "section.key" -> "default", the file's name, or the environment variable's name.
    file: what was read, or None where the default file does not exist.
    """

    config: Config
    origins: Mapping[str, str]
    file: Path | None


def load_config(
    path: Path | None, environ: Mapping[str, str], *, euid: int | None = None
) -> LoadedConfig:
    """Return the configuration of `path`, else of QWEND_CONFIG, else of the default file.

    Only the default file may be missing.
    Raises: ConfigError naming the file or variable, the setting, and what was expected.
    """
    named = path or (Path(environ["QWEND_CONFIG"]) if environ.get("QWEND_CONFIG") else None)
    wanted = named or paths_for(environ, os.geteuid() if euid is None else euid).config
    try:
        file: Path | None = wanted
        text = read_text(wanted)
    except FileNotFoundError as error:
        if named is not None:
            raise ConfigError(f"there is no configuration file {named}") from error
        file, text = None, ""
    given = from_file(text, str(file)) | from_environment(environ)
    return _build(given, file)


def _build(given: Mapping[tuple[str, str], Given], file: Path | None) -> LoadedConfig:
    sections: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for section, kind, settings in tables():
        values: dict[str, Value] = {}
        for declared in settings:
            here = given.get((section, declared.name))
            origins[f"{section}.{declared.name}"] = here.origin if here else DEFAULT
            if here is not None:
                try:
                    values[declared.name] = check(declared, here.value)
                except ValueError as error:
                    raise ConfigError(f"{here.where}: {error}") from error
        sections[section] = kind(**values)
    config = Config(**sections)
    _check_together(config, origins)
    return LoadedConfig(config, origins, file)


def _check_together(config: Config, origins: Mapping[str, str]) -> None:
    # llama_init_from_model refuses it: "V cache quantization requires flash_attn" (llama.cpp
    # 0c1e57098, llama-context.cpp). Said here, before a model is read for nothing.
    if config.engine.kv_type == "q8_0" and config.engine.flash_attention == "off":
        raise ConfigError(
            f'[engine] kv_type = "q8_0" ({origins["engine.kv_type"]}) needs flash attention: '
            'set [engine] flash_attention = "on", or kv_type = "f16"'
        )
