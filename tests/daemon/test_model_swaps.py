"""What runs is what was checked, however the file's name changes hands meanwhile (row E2).

1. Two models that differ in name and weights; a link that a thread swaps between them without rest.
2. The link is held again and again, with a copy and without. 3. Each time name, fingerprint and
SHA-256 are those of one and the same model, and it is this one that the descriptor reads.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from qwend.config import Config, ModelConfig
from qwend.daemon.model_holder import ModelHolder
from qwend.errors import HostError, ModelError
from qwend.host.root import HostRoot
from qwend.models import fingerprint
from tests.models.support.gguf_builder import TensorSpec, string, tiny_model

HOLDS = int(os.environ.get("QWEND_TEST_SWAPS", "150"))
"""A night's run sets 10,000."""


def write_model(path: Path, name: str, weight: int) -> bytes:
    """A model whose weights are all this byte: as long as the other, and another one."""
    model = tiny_model()
    model.fields["general.name"] = string(name)
    # Large enough that it is not over before the link has been swapped.
    model.tensors["blk"] = TensorSpec((1 << 18,), data=bytes([weight]) * (1 << 20))
    path.write_bytes(model.build())
    return path.read_bytes()


@contextmanager
def swapping(link: Path, targets: tuple[Path, ...]) -> Iterator[list[int]]:
    """Yield a list that counts the swaps."""
    swaps, stop = [0], threading.Event()

    def swap() -> None:
        for target in itertools.cycle(targets):
            if stop.is_set():
                return
            link.with_suffix(".new").symlink_to(target)
            link.with_suffix(".new").rename(link)
            swaps[0] += 1

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        yield swaps
    finally:
        stop.set()
        thread.join()


def machine(root: Path) -> HostRoot:
    """One with memory enough for a copy."""
    for name, text in (
        ("meminfo", "MemAvailable: 4096000 kB\n"),
        ("self/mountinfo", "20 1 0:20 / / rw - tmpfs source rw\n"),
    ):
        place = root / "proc" / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
    return HostRoot(root)


@pytest.mark.row("E2")
@pytest.mark.timeout(0 if HOLDS > 150 else 120)
@pytest.mark.parametrize("warm_copy", ["auto", "off"])
def test_what_is_held_is_one_model_throughout(tmp_path: Path, warm_copy: str) -> None:
    known = {}
    for name, weight in (("one", 1), ("two", 2)):
        path = tmp_path / f"{name}.gguf"
        data = write_model(path, name, weight)
        with path.open("rb") as file:
            print_of = fingerprint(file.fileno(), len(data))
        known[name] = hashlib.sha256(data).hexdigest(), print_of
    link = tmp_path / "model.gguf"
    link.symlink_to(tmp_path / "one.gguf")
    seen = dict.fromkeys(known, 0)
    holder = ModelHolder(
        Config(model=ModelConfig(name=str(link), context=64, warm_copy=warm_copy)),
        tmp_path,
        (tmp_path / "warm",),
        machine(tmp_path / "machine"),
        progress=lambda done, total: None,
        degraded=lambda why: None,
    )
    with swapping(link, (tmp_path / "one.gguf", tmp_path / "two.gguf")) as swaps:
        for _ in range(HOLDS):
            with ExitStack() as undo:
                try:
                    held = holder.hold(undo)
                except (HostError, ModelError) as error:
                    raise AssertionError(f"refused: {error}") from error
                sha256, print_of = known[held.facts.name]
                read = hashlib.sha256(os.pread(held.fd, held.size_bytes + 1, 0)).hexdigest()
                assert read == sha256
                assert held.fingerprint == print_of
                assert held.warm == (warm_copy == "auto")
                assert held.sha256 == (sha256 if held.warm else "")
                seen[held.facts.name] += 1
    print(f"{swaps[0]:,} swaps, held {seen}")
    assert all(seen.values())
