"""What happens to the model's file while an answer is made from it changes no answer (row E1).

A daemon with the real engine runs a copy of a file. In the middle of a greedy answer, which waits
for credit there, the file or the copy is harmed; the answer must be that of a quiet run, and so
must the next one. A copy that is cut or written to, as only its owner can, is another matter:
`test_memory_policies` shows that it is noticed and made again.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from qwend.client import Client, Token, TokenStream
from qwend.models.store import guide_path
from tests.support.daemon import RunningDaemon, running_daemon

pytestmark = [pytest.mark.llama, pytest.mark.row("E1")]
LLAMA: dict[str, Any] = {"QWEND_ENGINE_BACKEND": "llama", "QWEND_MODEL_CONTEXT": "512"}
ROUNDS = int(os.environ.get("QWEND_TEST_HARM", "2"))
"""Of each harm; a night's run sets 100."""
TOKENS = 40


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "model.gguf"
    shutil.copyfile(guide_path(), path)
    return path


@pytest.fixture(scope="module")
def daemon(source: Path) -> Iterator[RunningDaemon]:
    # Computed from the mapped copy on every CPU.
    settings = {**LLAMA, "QWEND_MODEL_MEMORY": "no-repack", "QWEND_CACHE_PREFIX_MB": "0"}
    with running_daemon("--model", str(source), **settings) as daemon:
        yield daemon


@pytest.fixture(scope="module")
def undisturbed(daemon: RunningDaemon) -> tuple[int, ...]:
    return answer(daemon)


def answer(
    daemon: RunningDaemon, in_the_middle: Callable[[], object] = lambda: None
) -> tuple[int, ...]:
    with daemon.client() as client:
        stream = begun(client)
        ids = [*taken(stream, TOKENS // 2)]
        in_the_middle()
        return (*ids, *taken(stream, TOKENS - len(ids)))


def begun(client: Client) -> TokenStream:
    return client.complete(
        "What is qwend?", max_tokens=TOKENS, temperature=0.0, ignore_eos=True, credit=0
    )


def taken(stream: TokenStream, count: int) -> list[int]:
    stream.grant(count)
    ids: list[int] = []
    while len(ids) < count:
        ids += next(event.ids for event in stream.events() if isinstance(event, Token))
    return ids


def truncate(path: Path) -> None:
    os.truncate(path, 4096)


def overwrite(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def rename_over(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(b"another file altogether")
    other.rename(path)


def forbid(path: Path) -> None:
    path.chmod(0)


def unlink(path: Path) -> None:
    path.unlink()


@pytest.mark.parametrize("harm", [truncate, overwrite, unlink, rename_over, forbid])
def test_harm_to_the_file_changes_no_answer(
    daemon: RunningDaemon,
    source: Path,
    undisturbed: tuple[int, ...],
    harm: Callable[[Path], None],
) -> None:
    for _ in range(ROUNDS):
        assert answer(daemon, lambda: harm(source)) == undisturbed
        assert answer(daemon) == undisturbed
        source.unlink(missing_ok=True)
        shutil.copyfile(guide_path(), source)
    assert daemon.status()["engine"]["restarts"] == 0


@pytest.mark.parametrize("harm", [forbid, rename_over, unlink])
def test_harm_to_the_copys_name_changes_no_answer(
    daemon: RunningDaemon, undisturbed: tuple[int, ...], harm: Callable[[Path], None]
) -> None:
    (copy,) = (daemon.home / "run" / "model").glob("*.gguf")
    aside = copy.with_name("aside")
    os.link(copy, aside)
    for _ in range(ROUNDS):
        assert answer(daemon, lambda: harm(copy)) == undisturbed
        assert answer(daemon) == undisturbed
        copy.unlink(missing_ok=True)
        os.link(aside, copy)
        copy.chmod(0o400)
    aside.unlink()
    assert daemon.status()["engine"]["restarts"] == 0
