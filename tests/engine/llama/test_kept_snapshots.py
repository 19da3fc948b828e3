"""What is kept on disk, with the real model: it goes on as if undisturbed, or is computed again.

Row C3 of the catalogue. A damaged file costs its own prefix and nobody else anything.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from random import Random

import pytest

from qwend.engine.engine import Engine, EngineSettings
from qwend.engine.llama.backend import LlamaBackend
from qwend.engine.prefix_cache import PrefixCache
from qwend.engine.snapshot_store import SnapshotStore
from qwend.engine.step_cost import StepCost
from tests.support.engine import Transcript, ask, by_request, run, user

pytestmark = [pytest.mark.llama, pytest.mark.row("C3")]
QUESTION, NEIGHBOUR = "What is qwend?", "Who are you?"


def answers(guide: LlamaBackend, directory: Path, *, flush: bool = False) -> list[Transcript]:
    """Both questions side by side, greedily, by an engine that is new but for the directory."""
    with closing(SnapshotStore(directory, 64 << 20, b"model")) as store:
        assert store.reason is None
        cache = PrefixCache(64 << 20, store)
        engine = Engine(
            guide,
            StepCost({1: 1e-9}),
            EngineSettings(0.12, 64 << 20),
            time.monotonic,
            prefix_cache=cache,
        )
        asked = [ask(user(text), max_tokens=24, uid=7) for text in (QUESTION, NEIGHBOUR)]
        told = by_request(run(engine, *asked))
        if flush:
            cache.flush()
        for seq_id in range(guide.facts.sequences):
            guide.trim(seq_id, 0)
        return [told[one.id] for one in asked]


@pytest.fixture
def kept(guide: LlamaBackend, tmp_path: Path) -> tuple[Path, list[Transcript]]:
    """A directory with the files of both conversations, and what they were."""
    directory = tmp_path / "kept"
    first = answers(guide, directory, flush=True)
    assert first[0].finished.cached_tokens == 0
    assert len(list(directory.iterdir())) >= 2
    return directory, first


def test_after_a_restart_one_token_is_computed_and_the_answer_is_the_same(
    guide: LlamaBackend, kept: tuple[Path, list[Transcript]]
) -> None:
    directory, first = kept
    for before, after in zip(first, answers(guide, directory), strict=True):
        assert after.ids == before.ids
        assert after.finished.cached_tokens == after.finished.prompt_tokens - 1


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def empty(path: Path) -> None:
    os.truncate(path, 0)


def flip(path: Path) -> None:
    """Some bits far behind the header, where only the checksum knows of them."""
    chance, data = Random(1), bytearray(path.read_bytes())
    for _ in range(4):
        data[chance.randrange(len(data) // 2, len(data))] ^= 1 << chance.randrange(8)
    path.write_bytes(data)


def make_a_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def make_a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize("damage", [cut, empty, flip, make_a_directory, make_a_pipe])
def test_damaged_files_cost_a_computation_and_change_no_answer(
    guide: LlamaBackend,
    kept: tuple[Path, list[Transcript]],
    damage: Callable[[Path], None],
    tmp_path: Path,
) -> None:
    directory, first = kept
    # One file after the other, the others whole: who reads it, and who reads beside it.
    for name in sorted(path.name for path in directory.iterdir()):
        trial = tmp_path / "trial"
        shutil.copytree(directory, trial)
        damage(trial / name)
        again = answers(guide, trial)
        assert [one.ids for one in again] == [one.ids for one in first]
        shutil.rmtree(trial)


def test_damage_after_the_scan_is_refused_at_the_read(
    guide: LlamaBackend, kept: tuple[Path, list[Transcript]]
) -> None:
    directory, first = kept
    with closing(SnapshotStore(directory, 64 << 20, b"model")) as store:
        for info in store.entries():
            flip(directory / info.name)
            assert store.read(info) is None
    again = answers(guide, directory)
    assert [one.ids for one in again] == [one.ids for one in first]
    assert again[0].finished.cached_tokens == 0
