"""The configuration: defaults, the file over them, the environment over both, nothing skipped."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from qwend.config import Config, LoadedConfig, load_config
from qwend.errors import ConfigError


def load(tmp_path: Path, text: str | bytes = "", **environ: str) -> LoadedConfig:
    path = tmp_path / "qwend.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return load_config(path, environ)


def refusal(tmp_path: Path, text: str | bytes = "", **environ: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text, **environ)
    return str(caught.value)


def test_the_default_file_may_be_missing(tmp_path: Path) -> None:
    loaded = load_config(None, {"CONFIGURATION_DIRECTORY": str(tmp_path)}, euid=0)
    assert loaded.config == Config()
    assert loaded.file is None
    assert set(loaded.origins.values()) == {"default"}


def test_the_default_file_is_read_where_it_exists(tmp_path: Path) -> None:
    (tmp_path / "qwend.toml").write_text("[model]\ncontext = 4096\n")
    loaded = load_config(None, {"CONFIGURATION_DIRECTORY": str(tmp_path)}, euid=0)
    assert loaded.config.model.context == 4096
    assert loaded.file == tmp_path / "qwend.toml"


def test_a_named_file_must_exist(tmp_path: Path) -> None:
    missing = tmp_path / "missing.toml"
    with pytest.raises(ConfigError, match=r"no configuration file .*missing\.toml"):
        load_config(missing, {})
    with pytest.raises(ConfigError, match=r"no configuration file .*missing\.toml"):
        load_config(None, {"QWEND_CONFIG": str(missing)})


def test_each_value_says_where_it_came_from(tmp_path: Path) -> None:
    text = "[model]\ncontext = 2048\ngpu_layers = 3\n"
    loaded = load(tmp_path, text, QWEND_MODEL_CONTEXT="4096")
    assert loaded.config.model.context == 4096
    assert loaded.config.model.gpu_layers == 3
    assert loaded.origins["model.context"] == "QWEND_MODEL_CONTEXT"
    assert loaded.origins["model.gpu_layers"] == str(tmp_path / "qwend.toml")
    assert loaded.origins["model.name"] == "default"


def test_an_integer_is_good_enough_for_a_float_and_becomes_one(tmp_path: Path) -> None:
    value = load(tmp_path, "[limits]\ndrain_s = 5\n").config.limits.drain_s
    assert (value, type(value)) == (5.0, float)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[modle]\n", "unknown section 'modle'; did you mean model?"),
        ("[model]\ncontxt = 1\n", "unknown setting 'contxt' under [model]; did you mean context?"),
        ("[model]\nzzz = 1\n", "; known are allow_any_architecture, context,"),
        ("[model]\nthreads = 1\n", "threads does not belong under [model]; put it under [engine]"),
        ("threads = 1\n", "threads stands outside its section; put it under [engine]"),
        ("model = 1\n", "model is a section: write [model] on its own line"),
        ("[[model]]\n", "model is a section"),
    ],
)
def test_what_is_unknown_or_misplaced_is_refused_by_name(
    tmp_path: Path, text: str, said: str
) -> None:
    message = refusal(tmp_path, text)
    assert said in message
    assert message.startswith(str(tmp_path / "qwend.toml"))


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("[model]\ncontext = '8k'", "expected a whole number from 64 to 1048576, given text"),
        ("[model]\ncontext = 8.5", "given a number (8.5)"),
        ("[engine]\nthreads = true", "given true or false (true)"),
        ("[model]\nallow_any_architecture = 1", "expected true or false, given a whole number (1)"),
        ("[model]\nname = 7", "expected the name of a model"),
        ("[model]\nname = 2026-01-01", "given a date or time"),
        ("[host]\naffinity = 1", "expected a list of whole numbers"),
        ("[host]\naffinity = [0, true]", "given a list, [0, True]"),
        ("[host]\naffinity = [0, -1]", "given -1"),
        ("[chat.system_prompt]\nx = 1", "expected text, given a table"),
        ('[chat]\nthinking = "maybe"', 'expected one of "auto", "on", "off"'),
        ("[chat]\nthinking = true", 'expected one of "auto", "on", "off"'),
        ("[socket]\nmode = 0o660", 'expected octal permissions as text, such as "0660"'),
        ("[socket]\nmode = '0668'", "given '0668'"),
        ("[socket]\nmode = '4660'", "given '4660'"),
        ("[socket]\npath = 'qwend.sock'", "expected an absolute path, or nothing"),
        ("[socket]\ngroup = 'a:b'", "expected the name of a group"),
        ("[host]\ngovernor = 'Performance'", "given 'Performance'"),
        ("[host]\ngovernor = '../x'", "given '../x'"),
        ("[host]\nenergy_preference = '../x'", "given '../x'"),
        ("[engine]\nflash_attention = 'yes'", 'expected one of "on", "off", "auto", given \'yes\''),
        ("[sampling]\ntop_p = 1.01", "expected a number from 0 to 1, given 1.01"),
        ("[sampling]\ntop_p = nan", "given nan"),
        ("[limits]\ndrain_s = inf", "given inf"),
        ("[sampling]\ntop_k = 2147483648", "from 0 to 2147483647"),
        ("[model]\nname = ''", "expected the name of a model"),
        ('[chat]\nsystem_prompt = "a\\u0000"', "a NUL character"),
    ],
)
def test_a_bad_value_names_its_place_what_was_expected_and_what_was_given(
    tmp_path: Path, line: str, said: str
) -> None:
    message = refusal(tmp_path, line)
    assert said in message
    assert message.startswith(str(tmp_path / "qwend.toml") + ": [")


def test_a_socket_path_is_limited_to_what_the_kernel_takes(tmp_path: Path) -> None:
    assert load(tmp_path, f"[socket]\npath = '/{'a' * 106}'").config.socket.path
    assert "at most 107 bytes" in refusal(tmp_path, f"[socket]\npath = '/{'a' * 107}'")


def test_a_value_too_long_to_print_is_refused_in_one_short_line(tmp_path: Path) -> None:
    for text in (
        "[model]\ncontext = 0x" + "f" * 9000,
        "[model]\nname = [{" + "a." * 3000 + "a=1}]",
    ):
        assert len(refusal(tmp_path, text)) < 400


def test_a_quantized_cache_without_flash_attention_is_refused_before_the_engine_does(
    tmp_path: Path,
) -> None:
    text = "[engine]\nkv_type = 'q8_0'\n"
    off = text + "flash_attention = 'off'\n"
    assert 'set [engine] flash_attention = "on"' in refusal(tmp_path, off)
    assert load(tmp_path, text).config.engine.kv_type == "q8_0"


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("QWEND_HOST_AFFINITY", "[0, 2]", (0, 2)),
        ("QWEND_LIMITS_DRAIN_S", "0.5", 0.5),
        ("QWEND_MODEL_ALLOW_ANY_ARCHITECTURE", "true", True),
        ("QWEND_ENGINE_FLASH_ATTENTION", "on", "on"),
        ("QWEND_SOCKET_MODE", "0600", "0600"),
        ("QWEND_SOCKET_MODE", "600", "600"),
        ("QWEND_MODEL_NAME", "2024", "2024"),
        ("QWEND_MODEL_NAME", '"2024"', "2024"),
        ("QWEND_CHAT_SYSTEM_PROMPT", "1\nx = 2", "1\nx = 2"),
        ("QWEND_CHAT_SYSTEM_PROMPT", "", ""),
        ("QWEND_CHAT_SYSTEM_PROMPT", "你好，guide", "你好，guide"),
    ],
)
def test_a_variable_is_a_toml_value_or_else_plain_text(
    tmp_path: Path, name: str, text: str, expected: object
) -> None:
    section, key = name.removeprefix("QWEND_").lower().split("_", 1)
    config = load(tmp_path, **{name: text}).config
    assert getattr(getattr(config, section), key) == expected


def test_a_bad_variable_is_named(tmp_path: Path) -> None:
    message = refusal(tmp_path, QWEND_MODEL_CONTEXT="lots")
    assert message.startswith("environment variable QWEND_MODEL_CONTEXT: expected a whole number")
    assert "not UTF-8" in refusal(tmp_path, QWEND_MODEL_NAME="a\udcff")
    assert "given text" in refusal(tmp_path, QWEND_MODEL_CONTEXT="4096\nx = 2")


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("QWEND_MODEL_CONTXT", "QWEND_MODEL_CONTEXT"),
        ("QWEND_MODEL", "QWEND_MODEL_NAME"),
        ("QWEND_SOKET", "QWEND_SOCKET"),
    ],
)
def test_an_unknown_variable_is_refused_naming_the_nearest(
    tmp_path: Path, name: str, near: str
) -> None:
    assert f"'{name}'; did you mean {near}?" in refusal(tmp_path, **{name: "1"})


def test_reserved_and_foreign_variables_are_no_settings(tmp_path: Path) -> None:
    environ = {"QWEND_SOCKET": "/s", "QWEND_CONFIG": "/c", "QWEND_FAIL": "x", "QWENDER": "y"}
    assert load(tmp_path, **environ).config == Config()


def test_broken_toml_says_line_and_column(tmp_path: Path) -> None:
    message = refusal(tmp_path, "[model]\ncontext == 1\n")
    assert "qwend.toml is not valid TOML" in message
    assert "at line 2, column 10" in message


def test_an_integer_beyond_what_python_parses_is_broken_toml(tmp_path: Path) -> None:
    assert "not valid TOML" in refusal(tmp_path, "[model]\ncontext = " + "9" * 5000)


def test_a_deep_nest_is_broken_toml(tmp_path: Path) -> None:
    assert "not valid TOML" in refusal(tmp_path, "x = " + "[" * 100_000)


def test_the_encoding_is_utf8_with_or_without_a_mark(tmp_path: Path) -> None:
    assert load(tmp_path, b"\xef\xbb\xbf[model]\ncontext = 99\n").config.model.context == 99
    assert "is UTF-16" in refusal(tmp_path, "[model]".encode("utf-16"))
    assert "byte 0xff in line 2" in refusal(tmp_path, b"[chat]\nsystem_prompt = '\xff'")


def test_a_file_of_more_than_a_mebibyte_is_refused(tmp_path: Path) -> None:
    assert load(tmp_path, b"#" * 2**20).config == Config()
    assert "larger than 1048576 bytes" in refusal(tmp_path, b"#" * (2**20 + 1))


def test_what_is_no_file_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read the configuration .*: Is a directory"):
        load_config(tmp_path, {})
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ConfigError, match="is a pipe"):
        load_config(tmp_path / "pipe", {})


def test_the_null_device_is_an_empty_configuration() -> None:
    assert load_config(Path("/dev/null"), {}).config == Config()
