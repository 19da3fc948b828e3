"""The model is held as memory allows, and looked at again when an engine has died."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from qwend.config import Config, ModelConfig
from qwend.daemon.model import HeldModel
from qwend.daemon.model_holder import ModelHolder
from qwend.errors import ConfigError, HostError, ModelError
from qwend.host.memory_policy import Policy
from qwend.host.root import HostRoot
from qwend.host.warm_copy import CopyCancelled

GUIDE = Path(str(files("qwend.models") / "guide.gguf")).read_bytes()


class Bench:
    """A model file, a place for its copy, a machine of files, and what the holder said."""

    def __init__(self, directory: Path, undo: ExitStack) -> None:
        self.model = directory / "model.gguf"
        self.model.write_bytes(GUIDE)
        self.warm_dir = directory / "warm"
        self.places: tuple[Path, ...] = (self.warm_dir,)
        self.host = HostRoot(directory / "machine")
        # The guide is in Q8_0: a CPU that has it repacked.
        self.put("/proc/cpuinfo", "Features : asimddp\n")
        self.put("/proc/self/mountinfo", "20 1 0:20 / / rw - tmpfs source rw\n")
        self.available(4000)
        self.undo = undo
        self.read: list[int] = []
        self.degraded: list[str] = []
        self.damaged = 0

    def put(self, name: str, text: str) -> None:
        place = self.host.at(name)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)

    def available(self, mebi: int) -> None:
        self.put("/proc/meminfo", f"MemAvailable: {mebi * 1024} kB\n")

    def holder(self, cancelled: Callable[[], bool] = lambda: False, **fields: Any) -> ModelHolder:
        return ModelHolder(
            Config(model=ModelConfig(**{"name": str(self.model), "context": 64, **fields})),
            self.warm_dir,
            self.places,
            self.host,
            progress=lambda done, total: self.read.append(done),
            degraded=self.degraded.append,
            cancelled=cancelled,
            damaged=self._note_damage,
        )

    def hold(self, **fields: Any) -> HeldModel:
        self.read.clear()
        return self.holder(**fields).hold(self.undo)

    def copies(self) -> list[Path]:
        return sorted(self.warm_dir.glob("*.gguf"))

    def _note_damage(self) -> None:
        self.damaged += 1


@pytest.fixture
def undo() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def bench(tmp_path: Path, undo: ExitStack) -> Bench:
    return Bench(tmp_path, undo)


def content(held: HeldModel) -> bytes:
    return os.pread(held.fd, len(GUIDE) + 1, 0)


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def spoil(path: Path, change: Callable[[Path], object]) -> None:
    path.chmod(0o600)
    change(path)
    path.chmod(0o400)


def test_with_memory_the_copy_is_made_once_and_runs(bench: Bench) -> None:
    held = bench.hold()
    assert held.warm
    assert held.memory.policy is Policy.KEEP
    assert bench.copies() == [bench.warm_dir / f"{held.sha256}.gguf"]
    assert os.path.samestat(os.fstat(held.fd), bench.copies()[0].stat())
    again = bench.hold()
    assert (again.warm, again.sha256, bench.read) == (True, held.sha256, [])
    assert (again.facts, again.fingerprint) == (held.facts, held.fingerprint)


def test_what_is_held_is_closed_at_the_end(bench: Bench) -> None:
    before = open_descriptors()
    with ExitStack() as undo:
        for memory in ("auto", "drop", "no-repack", "keep"):
            bench.holder(memory=memory).hold(undo)
        assert open_descriptors() > before
    assert open_descriptors() == before


def test_dropped_copies_leave_memory_and_the_file_itself_runs(bench: Bench) -> None:
    kept = bench.hold()
    held = bench.hold(memory="drop")
    assert (held.warm, held.sha256, held.memory.policy) == (False, "", Policy.DROP)
    assert list(bench.warm_dir.iterdir()) == []
    assert content(held) == GUIDE
    assert held.fingerprint == kept.fingerprint
    assert bench.read == []


def test_a_dropped_copy_is_held_open_by_nobody(bench: Bench) -> None:
    with ExitStack() as earlier:
        bench.holder().hold(earlier)
    before = open_descriptors()
    bench.hold(memory="drop")
    assert open_descriptors() == before + 1  # the file itself


def test_short_memory_drops_the_copy_and_shorter_memory_repacks_nothing(bench: Bench) -> None:
    # The guide takes 2.3 MiB, 2 of them repacked; besides them, 192 for the processes and 64 of
    # reserve are counted. The copy that the first start made is counted as at hand.
    for available, policy, warm in ((4000, Policy.KEEP, True), (257, Policy.DROP, False)):
        bench.available(available)
        held = bench.hold()
        assert (held.memory.policy, held.warm) == (policy, warm), available
        bench.put("/proc/meminfo", "MemAvailable: 0 kB\n")
    held = bench.hold()
    assert (held.memory.policy, held.warm) == (Policy.NO_REPACK, False)
    assert "running from disk" in bench.degraded[0]
    assert "2.3 MiB" in bench.degraded[0]


def test_a_place_that_is_too_small_is_passed_over_and_copies_elsewhere_go(
    bench: Bench, tmp_path: Path
) -> None:
    bench.hold()
    small, large = Path("/sys/no/room"), tmp_path / "large"
    bench.places = (small, large, bench.warm_dir)
    held = bench.hold()
    assert held.warm
    assert len(list(large.glob("*.gguf"))) == 1
    assert bench.copies() == []
    assert bench.hold().sha256 == held.sha256
    assert bench.read == []


def test_without_a_warm_copy_the_directory_is_left_alone(bench: Bench) -> None:
    held = bench.hold(warm_copy="off")
    assert not held.warm
    assert content(held) == GUIDE
    assert not bench.warm_dir.exists()


def test_a_copy_that_is_not_wanted_any_more_gives_its_memory_back(bench: Bench) -> None:
    bench.hold()
    held = bench.hold(warm_copy="off")
    assert not held.warm
    assert list(bench.warm_dir.iterdir()) == []


@pytest.mark.row("D2")
def test_a_copy_that_is_required_and_does_not_fit_is_an_error_with_the_figures(
    bench: Bench,
) -> None:
    bench.available(100)
    with pytest.raises(HostError, match=r"it needs 2\.3 MiB .* free for it"):
        bench.hold(warm_copy="required")


def test_dropping_a_copy_that_is_required_is_a_contradiction(bench: Bench) -> None:
    with pytest.raises(ConfigError, match="change one of them"):
        bench.hold(warm_copy="required", memory="drop")


def test_a_copy_is_freed_when_it_is_told_so_and_not_by_itself(bench: Bench) -> None:
    with ExitStack() as undo:
        bench.holder().hold(undo)
    assert len(bench.copies()) == 1
    bench.holder().free()
    assert bench.copies() == []


def test_a_look_says_whether_the_model_fits_beside_all_that_is_there(bench: Bench) -> None:
    assert bench.holder().look().fits_beside
    assert not bench.holder(gpu_layers=1).look().fits_beside
    bench.available(100)
    assert not bench.holder().look().fits_beside
    assert bench.copies() == []


def test_a_start_that_is_stopped_makes_no_copy(bench: Bench) -> None:
    with pytest.raises(CopyCancelled):
        bench.holder(cancelled=lambda: True).hold(bench.undo)
    assert bench.copies() == []
    assert bench.degraded == []


def test_a_broken_model_is_refused_before_it_is_copied(bench: Bench) -> None:
    bench.model.write_bytes(GUIDE[:-1000])
    with pytest.raises(ModelError, match=r"model\.gguf"):
        bench.hold()
    assert bench.copies() == []


def _cut(path: Path) -> None:
    os.truncate(path, 10_000)


def _overwrite(path: Path) -> None:
    path.write_bytes(GUIDE[:1000] + bytes(len(GUIDE) - 1000))


@pytest.mark.row("E1", "E4")
@pytest.mark.parametrize(
    "death", ["killed by SIGBUS", "the model answers with numbers that are none"]
)
@pytest.mark.parametrize("change", [_cut, _overwrite])
def test_a_damaged_copy_is_made_again_behind_the_same_descriptor(
    bench: Bench, death: str, change: Callable[[Path], None]
) -> None:
    holder = bench.holder()
    held = holder.hold(bench.undo)
    spoil(bench.copies()[0], change)
    assert content(held) != GUIDE
    before = open_descriptors()
    again = holder.hold_again(held, f"the engine process ended: {death}")
    assert (again.fd, again.warm, again.sha256) == (held.fd, True, held.sha256)
    assert content(again) == GUIDE
    assert bench.copies()[0].read_bytes() == GUIDE
    assert not os.get_inheritable(again.fd)
    assert open_descriptors() == before
    assert bench.damaged == 1


def test_an_earlier_copy_with_a_damaged_header_is_made_again(bench: Bench) -> None:
    first = bench.hold()
    spoil(bench.copies()[0], lambda path: path.write_bytes(bytes(len(GUIDE))))
    held = bench.hold()
    assert (held.warm, held.sha256, held.facts) == (True, first.sha256, first.facts)
    assert content(held) == GUIDE
    assert bench.damaged == 1


def test_a_copy_in_order_is_read_but_not_made_again(bench: Bench) -> None:
    holder = bench.holder()
    held = holder.hold(bench.undo)
    inode = bench.copies()[0].stat().st_ino
    bench.read.clear()
    assert holder.hold_again(held, "killed by SIGABRT") == held
    assert (bench.copies()[0].stat().st_ino, bench.read, bench.damaged) == (inode, [], 0)


@pytest.mark.parametrize("signal", ["SIGKILL", "SIGTERM"])
def test_a_death_from_outside_says_nothing_about_the_copy(bench: Bench, signal: str) -> None:
    holder = bench.holder()
    held = holder.hold(bench.undo)
    spoil(bench.copies()[0], _overwrite)
    assert holder.hold_again(held, f"the engine process ended: killed by {signal}") is held
    assert bench.damaged == 0


@pytest.mark.row("D2")
def test_a_damaged_copy_that_has_no_room_any_more_runs_from_the_disk(bench: Bench) -> None:
    holder = bench.holder()
    held = holder.hold(bench.undo)
    spoil(bench.copies()[0], _cut)
    bench.available(100)
    again = holder.hold_again(held, "killed by SIGBUS")
    assert (again.fd, again.warm) == (held.fd, False)
    assert content(again) == GUIDE
    assert "running from disk" in bench.degraded[0]


@pytest.mark.row("E1", "E2")
def test_a_file_that_was_changed_is_not_taken_for_the_one_that_was_checked(bench: Bench) -> None:
    holder = bench.holder(memory="drop")
    held = holder.hold(bench.undo)
    assert holder.hold_again(held, "killed by SIGKILL") is held
    # Touched, but the same: `cp --preserve` over it, a backup that was put back.
    bench.model.write_bytes(GUIDE)
    assert holder.hold_again(held, "killed by SIGKILL") is held
    bench.model.write_bytes(GUIDE[:-5000] + bytes(5000))
    with pytest.raises(ModelError, match="was changed while it was in use: restart qwend"):
        holder.hold_again(held, "killed by SIGKILL")
    os.truncate(bench.model, 5000)
    with pytest.raises(ModelError, match=r"model\.gguf"):
        holder.hold_again(held, "killed by SIGKILL")


@pytest.mark.row("E1")
def test_a_copy_is_not_made_again_of_another_model(bench: Bench) -> None:
    holder = bench.holder()
    held = holder.hold(bench.undo)
    spoil(bench.copies()[0], _cut)
    bench.model.write_bytes(GUIDE[:-5000] + bytes(5000))
    for _ in range(2):
        with pytest.raises(ModelError, match="restart qwend"):
            holder.hold_again(held, "killed by SIGBUS")
