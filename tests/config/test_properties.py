"""Any bytes are a configuration or a ConfigError, and what is shown loads as what it was."""

from __future__ import annotations

import string
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, reject, settings
from hypothesis import strategies as st

from qwend.config import Config, load_config, render
from qwend.config.option import rule_of
from qwend.config.schema import tables
from qwend.config.sources import variable
from qwend.errors import ConfigError

SETTINGS = [
    (section, declared.name, declared) for section, _, items in tables() for declared in items
]
# pytest's tmp_path is one per test, not per example; each example overwrites the same file.
SHARED_FILE = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)

words = st.one_of(
    st.sampled_from([name for section, name, _ in SETTINGS]),
    st.sampled_from(["[", "]", "=", "{", "}", ".", ",", '"', "'", "\n", "#", " ", "0x", "e9"]),
    st.sampled_from([section for section, _, _ in SETTINGS]),
    st.integers().map(str),
    st.floats().map(repr),
    st.text(alphabet=string.printable, max_size=8),
    st.sampled_from(["true", "inf", "-nan", "1979-05-27T07:32:00Z", '"""', "9" * 5000, "\x00"]),
)
values = st.one_of(
    st.integers().map(str),
    st.floats().map(repr),
    st.booleans().map(lambda b: str(b).lower()),
    st.text().map(lambda t: '"' + t.encode("unicode_escape").decode().replace('"', "") + '"'),
    st.lists(st.integers()).map(repr),
    words,
)
lines = st.one_of(
    st.sampled_from([f"[{section}]" for section, _, _ in SETTINGS]),
    st.builds(
        lambda which, value: f"{which[0]}.{which[1]} = {value}", st.sampled_from(SETTINGS), values
    ),
    st.lists(words, max_size=6).map("".join),
)


def outcome(path: Path, environ: dict[str, str]) -> Config | None:
    try:
        return load_config(path, environ).config
    except ConfigError as error:
        message = str(error)
    assert message
    assert "\n" not in message
    return None


def assert_in_range(config: Config) -> None:
    for section, key, declared in SETTINGS:
        value = getattr(getattr(config, section), key)
        rule = rule_of(declared)
        assert type(value) is type(declared.default)
        for number in value if isinstance(value, tuple) else (value,):
            if rule.low is not None:
                assert number >= rule.low
            if rule.high is not None:
                assert number <= rule.high
        assert not rule.choices or value in rule.choices


@SHARED_FILE
@given(data=st.binary())
def test_any_bytes_are_a_configuration_or_a_config_error(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "qwend.toml"
    path.write_bytes(data)
    outcome(path, {})


@SHARED_FILE
@given(text=st.lists(lines, max_size=8).map("\n".join))
@example(text="model.name." + "a." * 5000 + "a = 1")
@example(text="[model]\nname = [{" + "a." * 5000 + "a = 1}]")
@example(text="[sampling]\ntemperature = 0x" + "f" * 5000)
def test_any_toml_like_text_is_a_configuration_in_range_or_a_config_error(
    tmp_path: Path, text: str
) -> None:
    path = tmp_path / "qwend.toml"
    path.write_text(text, encoding="utf-8", newline="")
    config = outcome(path, {})
    if config is not None:
        assert_in_range(config)


@SHARED_FILE
@given(
    environ=st.dictionaries(
        st.one_of(
            st.sampled_from([variable(section, key) for section, key, _ in SETTINGS]),
            st.text(min_size=1, max_size=9).map(lambda t: "QWEND_" + t),
        ),
        st.one_of(values, st.text(alphabet=st.characters())),
        max_size=3,
    )
)
def test_any_environment_is_a_configuration_in_range_or_a_config_error(
    environ: dict[str, str],
) -> None:
    config = outcome(Path("/dev/null"), environ)
    if config is not None:
        assert_in_range(config)


def _good_value(declared: Any) -> st.SearchStrategy[str]:
    rule = rule_of(declared)
    kind = type(declared.default)
    if rule.choices:
        return st.sampled_from(rule.choices)
    if kind is str:
        if rule.pattern:
            return st.from_regex(rule.pattern, fullmatch=True)
        return st.text()
    if kind is bool:
        return st.sampled_from(["true", "false"])
    if kind is tuple:
        return st.lists(st.integers(0, 8191)).map(repr)
    assert rule.low is not None
    if kind is int:
        return st.integers(int(rule.low), int(rule.high or 2**31)).map(repr)
    return st.floats(rule.low, rule.high).map(repr)


@SHARED_FILE
@given(data=st.data())
def test_what_is_shown_loads_as_what_it_was(tmp_path: Path, data: st.DataObject) -> None:
    chosen = data.draw(st.lists(st.sampled_from(SETTINGS), max_size=6, unique_by=lambda s: s[:2]))
    environ = {
        variable(section, key): data.draw(_good_value(declared))
        for section, key, declared in chosen
    }
    try:
        loaded = load_config(Path("/dev/null"), environ)
    except ConfigError:
        reject()
    path = tmp_path / "shown.toml"
    path.write_text(render(loaded), encoding="utf-8", newline="")
    assert load_config(path, {}).config == loaded.config


@pytest.mark.parametrize(("section", "key", "declared"), SETTINGS)
def test_every_default_obeys_its_own_rule(section: str, key: str, declared: Any) -> None:
    config = load_config(Path("/dev/null"), {}).config
    value = getattr(getattr(config, section), key)
    text = repr(list(value)) if isinstance(value, tuple) else str(value)
    environ = {variable(section, key): text.lower() if isinstance(value, bool) else text}
    assert load_config(Path("/dev/null"), environ).config == config
