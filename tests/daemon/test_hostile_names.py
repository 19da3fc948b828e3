"""Names that people and programs give: none leads out of the directory of models, and no group's
name is more than a name."""

from __future__ import annotations

import random
from contextlib import ExitStack
from pathlib import Path

import pytest

from qwend.daemon.listener import SocketPath
from qwend.errors import ConfigError, ModelError
from qwend.models.store import resolve_model

pytestmark = pytest.mark.row("G3")
HOSTILE = 200
PIECES = (
    *("..", ".", "-rf", "--", "~", "~root", "$HOME", "`id`", "$(id)", "|", ";", "&", ">", "*"),
    *("\0", "\n", "\r", "\t", " ", "\x1b[2J", "\x7f", "\\", "'", '"', "%00", "%2e%2e%2f", "%s%n"),
    *(
        "\u2024\u2024",
        "\u2025",
        "\uff0e\uff0e",
        "\u2215",
        "\u202e",
        "\u200b",
        "\ufeff",
        "é",
        "模型",
    ),
    *("\udcff", "con", "nul:", "a" * 65, "b" * 256, "c" * 5000, "x"),
)


def hostile_names() -> list[str]:
    """Each piece alone, and random joins; none with a slash, which means a path by intent."""
    draw = random.Random(3)
    names = list(dict.fromkeys(PIECES))
    while len(names) < HOSTILE:
        name = "".join(draw.choices(PIECES, k=draw.randint(2, 5)))
        if "/" not in name and name not in names:
            names.append(name)
    return names


def test_a_models_name_is_refused_or_means_a_file_in_the_directory(tmp_path: Path) -> None:
    models = tmp_path / "models"
    models.mkdir()
    (tmp_path / "outside.gguf").write_bytes(b"GGUF")
    for name in hostile_names():
        with pytest.raises(ModelError) as refused:
            resolve_model(name, models)
        assert "outside" not in str(refused.value)
    for name in ("..", "../outside", "./../outside", f"{tmp_path}/outside"):
        with pytest.raises(ModelError):
            resolve_model(name, models)


def test_a_link_in_the_directory_is_the_owners_and_followed_by_intent(tmp_path: Path) -> None:
    """Downloaders keep the bytes elsewhere and link to them; the directory is its owner's."""
    (tmp_path / "blob").write_bytes(b"GGUF")
    (tmp_path / "linked.gguf").symlink_to(tmp_path / "blob")
    assert resolve_model("linked", tmp_path).path == tmp_path / "linked.gguf"


def test_a_groups_name_is_looked_up_and_nothing_else(tmp_path: Path) -> None:
    for name in hostile_names():
        with ExitStack() as undo:
            claimed = SocketPath.claim(tmp_path / "s")
            undo.callback(claimed.close)
            with pytest.raises(ConfigError):
                claimed.listen(mode=0o660, group=name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["", "\0", "a\0b", "x" * 200, "\udcff" * 60])
def test_a_path_that_no_socket_can_have_is_refused_in_words(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError):
        SocketPath.claim(Path(f"{tmp_path}/{name}") if name else Path("/"))
    assert list(tmp_path.iterdir()) == []
