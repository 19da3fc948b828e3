from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from scripts.bench_support.cache import cache_dir, written_whole


def test_the_cache_is_below_xdg_cache_home(tmp_path: Path) -> None:
    assert cache_dir({"XDG_CACHE_HOME": str(tmp_path)}) == tmp_path / "qwend" / "bench"
    assert (tmp_path / "qwend" / "bench").is_dir()


@pytest.mark.parametrize("unusable", ["", "relative/path"])
def test_without_a_usable_xdg_cache_home_it_is_below_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unusable: str
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_dir({"XDG_CACHE_HOME": unusable}) == tmp_path / ".cache" / "qwend" / "bench"


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "model"
    with contextlib.suppress(RuntimeError), written_whole(target) as temporary:
        temporary.write_bytes(b"half")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []
    with written_whole(target) as temporary:
        temporary.write_bytes(b"whole")
        assert not target.exists()
    assert target.read_bytes() == b"whole"
    assert list(tmp_path.iterdir()) == [target]
