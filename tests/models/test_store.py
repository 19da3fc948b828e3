from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from qwend.errors import ModelError
from qwend.models.store import guide_path, installed_models, open_model, resolve_model


@pytest.fixture
def models_dir(tmp_path: Path) -> Path:
    directory = tmp_path / "models"
    directory.mkdir()
    for name in ("qwen-0.5b", "qwen-3b", "other"):
        (directory / f"{name}.gguf").write_bytes(b"GGUF")
    (directory / "notes.txt").write_text("not a model")
    return directory


def refusal_to_open(path: Path) -> str:
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(ModelError) as caught:
        open_model(path)
    assert len(os.listdir("/proc/self/fd")) == before, "a refused file must not stay open"
    assert str(path) in str(caught.value)
    return str(caught.value)


def test_a_name_is_a_file_of_the_models_directory(models_dir: Path) -> None:
    found = resolve_model("qwen-0.5b", models_dir)
    assert (found.name, found.path) == ("qwen-0.5b", models_dir / "qwen-0.5b.gguf")


@pytest.mark.row("E5")
def test_guide_is_the_model_of_the_package_even_if_a_file_has_its_name(
    models_dir: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    built_in = tmp_path / "guide.gguf"
    built_in.write_bytes(b"GGUF")
    monkeypatch.setattr("qwend.models.store.guide_path", lambda: built_in)
    (models_dir / "guide.gguf").write_bytes(b"GGUF")
    assert resolve_model("guide", models_dir).path == built_in
    assert installed_models(models_dir).count("guide") == 1


def test_a_missing_built_in_model_is_said_to_be_missing(
    models_dir: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("qwend.models.store.guide_path", lambda: tmp_path / "guide.gguf")
    with pytest.raises(ModelError, match="install qwend again"):
        resolve_model("guide", models_dir)


def test_the_built_in_model_lies_beside_the_code() -> None:
    import qwend.models

    assert guide_path().parent == Path(qwend.models.__file__).parent


def test_a_slash_or_the_ending_makes_a_path(
    models_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine").write_bytes(b"GGUF")
    (tmp_path / "here.gguf").write_bytes(b"GGUF")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for given, path in (
        (f"{tmp_path}/mine", "mine"),
        ("./mine", "mine"),
        ("here.gguf", "here.gguf"),
        ("~/here.gguf", "here.gguf"),
    ):
        found = resolve_model(given, models_dir)
        assert found.path == tmp_path / path
        assert found.name == path.removesuffix(".gguf")
        assert found.path.is_absolute()


@pytest.mark.parametrize("name", ["", "a" * 65, "a b", "qwen\n", "ä", "a:b", "a\0"])
def test_what_cannot_be_a_name_is_refused(models_dir: Path, name: str) -> None:
    with pytest.raises(ModelError, match="cannot be the name of a model"):
        resolve_model(name, models_dir)


@pytest.mark.row("E5")
def test_a_missing_model_is_refused_with_what_there_is_and_how_to_install(
    models_dir: Path,
) -> None:
    with pytest.raises(ModelError) as caught:
        resolve_model("qwen-0.5", models_dir)
    message = str(caught.value)
    assert "there is no model 'qwen-0.5'" in message
    assert "Did you mean 'qwen-0.5b'?" in message
    assert "Installed: guide, other, qwen-0.5b, qwen-3b." in message
    assert f"into {models_dir} as NAME.gguf" in message


def test_a_missing_model_of_the_catalogue_is_one_to_pull(models_dir: Path) -> None:
    for name in ("qwen3-0.6b", "qwen3-0.6b:Q8_0"):
        with pytest.raises(ModelError, match=f"does not exist. `qwenctl pull {name}` gets it$"):
            resolve_model(name, models_dir)
    with pytest.raises(ModelError, match=r"which `qwenctl pull qwen2\.5-coder-3b-instruct` gets\?"):
        resolve_model("qwen2.5-coder-3b-instrukt", models_dir)


def test_a_missing_path_is_refused_in_the_same_way(models_dir: Path) -> None:
    with pytest.raises(ModelError, match="Did you mean 'qwen-3b'"):
        resolve_model("/nowhere/qwen-3b.gguf", models_dir)
    with pytest.raises(ModelError, match=r"These have a name: guide, other, qwen-0\.5b, qwen-3b$"):
        resolve_model("/nowhere/qwen3-0.6b.gguf", models_dir)


def test_a_missing_models_directory_has_no_models(tmp_path: Path) -> None:
    assert installed_models(tmp_path / "none") == ["guide"]
    with pytest.raises(ModelError, match="Installed: guide\\."):
        resolve_model("qwen", tmp_path / "none")


def test_an_opened_model_is_not_inherited_and_can_be_read(models_dir: Path) -> None:
    descriptor = open_model(models_dir / "other.gguf")
    try:
        assert not os.get_inheritable(descriptor)
        assert os.read(descriptor, 8) == b"GGUF"
    finally:
        os.close(descriptor)


def test_a_link_to_a_model_is_followed(models_dir: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.gguf"
    link.symlink_to(models_dir / "other.gguf")
    os.close(open_model(link))


@pytest.mark.row("E5")
def test_what_is_not_a_file_has_its_own_sentence(tmp_path: Path) -> None:
    pipe, empty, dangling = tmp_path / "pipe", tmp_path / "empty", tmp_path / "dangling"
    os.mkfifo(pipe)
    empty.touch()
    dangling.symlink_to(tmp_path / "gone")
    assert "is a directory" in refusal_to_open(tmp_path)
    assert "is a named pipe" in refusal_to_open(pipe)
    assert "is empty" in refusal_to_open(empty)
    assert "is a link to nothing" in refusal_to_open(dangling)
    assert "is not there any more" in refusal_to_open(tmp_path / "gone")
    assert "is a device" in refusal_to_open(Path("/dev/null"))


def test_a_socket_has_its_own_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # a socket's path is limited to 108 bytes
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("s")
        assert "cannot be opened" in refusal_to_open(Path("s"))


@pytest.mark.row("E5")
def test_an_unreadable_model_says_who_may_not_read_it(
    models_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)  # root may read everything: the kernel would not
    assert f"may not be read by uid {os.geteuid()}" in refusal_to_open(models_dir / "other.gguf")
