from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from qwend.config.edit import set_text, with_text
from qwend.errors import ConfigError


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", '[model]\nname = "new"\n'),
        ("# mine\n", '# mine\n\n[model]\nname = "new"\n'),
        ('[model]\nname = "old" # why\n', '[model]\nname = "new"\n'),
        ("[model]\ncontext = 4096\n", '[model]\nname = "new"\ncontext = 4096\n'),
        ('[model]\ncontext = 1\nname="old"\n', '[model]\ncontext = 1\nname = "new"\n'),
        ('[other]\nname = "x"\n', '[other]\nname = "x"\n\n[model]\nname = "new"\n'),
        (
            '[a]\nb = 1\n[model]\n[c]\nname = "x"\n',
            '[a]\nb = 1\n[model]\nname = "new"\n[c]\nname = "x"\n',
        ),
    ],
)
def test_one_setting_changes_and_nothing_else(before: str, after: str) -> None:
    assert with_text(before, "model", "name", "new") == after


@pytest.mark.parametrize(
    "unusual", ['model.name = "x"\n', 'model = { name = "x" }\n', "[model\n", "model = 3\n"]
)
def test_what_is_too_unusual_is_left_alone(unusual: str, tmp_path: Path) -> None:
    (file := tmp_path / "q.toml").write_text(unusual)

    with pytest.raises(ConfigError, match='write name = "new" under'):
        set_text(file, "model", "name", "new")
    assert file.read_text() == unusual


def test_a_value_that_would_be_two_settings_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        set_text(tmp_path / "q.toml", "model", "name", 'x"\ncontext = "1')


def test_a_file_that_is_not_there_is_made(tmp_path: Path) -> None:
    set_text(file := tmp_path / "new" / "q.toml", "model", "name", "n")

    assert tomllib.loads(file.read_text()) == {"model": {"name": "n"}}
    assert file.stat().st_mode & 0o777 == 0o644


def test_mode_and_links_stay(tmp_path: Path) -> None:
    (file := tmp_path / "real.toml").write_text("")
    file.chmod(0o600)
    (link := tmp_path / "link.toml").symlink_to(file)
    set_text(link, "model", "name", "n")

    assert link.is_symlink()
    assert file.stat().st_mode & 0o777 == 0o600
    assert "n" in file.read_text()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link.toml", "real.toml"]
