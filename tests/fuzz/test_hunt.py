"""The search itself: what it finds is stored once, shrunk and numbered, and is found again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from scripts.lib.fuzz.__main__ import main
from scripts.lib.fuzz.blind import mutated
from scripts.lib.fuzz.hunt import Hunt, store
from scripts.lib.fuzz.trial import fault_of, shrunk
from tests.fuzz.catalogue import Target


def breaks_at_7(data: bytes) -> None:
    """A fault that only some bytes reach, in two places."""
    if b"7" in data:
        raise ValueError("seven")
    if b"8" in data:
        raise ValueError("eight")


def target(run: Callable[[bytes], None] = breaks_at_7) -> Target:
    return Target("toy", run, list)


def spins(data: bytes) -> None:
    while data:
        pass


def test_each_fault_is_stored_once_and_as_short_as_can_be(tmp_path: Path) -> None:
    hunt = Hunt(target(), tmp_path)
    for data in (b"abc", b"ab7c", b"xx7xx7", b"a8", b"8"):
        hunt(data)
    assert hunt.tried == 5
    stored = sorted((tmp_path / "toy").iterdir())
    assert [(path.name, path.read_bytes()) for path in stored] == [("0001", b"7"), ("0002", b"8")]
    assert [fault.said for fault in hunt.faults] == ["seven", "eight"]


def test_numbers_go_on_and_the_same_bytes_are_stored_once(tmp_path: Path) -> None:
    assert store(tmp_path, b"one").name == "0001"
    assert store(tmp_path, b"two").name == "0002"
    assert store(tmp_path, b"one").name == "0001"
    (tmp_path / "0001").unlink()
    assert store(tmp_path, b"three").name == "0003"


def test_a_fault_is_known_by_its_kind_and_its_line_of_ours() -> None:
    seven, again, eight = (fault_of(target(), data) for data in (b"7", b"77", b"8"))
    assert seven is not None
    assert again is not None
    assert eight is not None
    assert seven.key == again.key != eight.key
    assert seven.kind == "ValueError"
    assert seven.place.startswith("tests/fuzz/test_hunt.py:")


def test_an_input_that_takes_seconds_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scripts.lib.fuzz.trial.SLOW_S", 0.05)
    fault = fault_of(target(spins), b"x")
    assert fault is not None
    assert fault.kind.endswith("TooSlow")
    assert fault.place.endswith("test_hunt.py:spins")
    assert fault_of(target(spins), b"") is None


def test_shrinking_keeps_what_counts() -> None:
    assert shrunk(b"....a....b....", lambda data: b"a" in data and b"b" in data) == b"ab"
    assert shrunk(b"", lambda data: True) == b""


def test_the_same_seed_tries_the_same_inputs() -> None:
    pool = [b"GGUF and more", b"\0\0\0\x01x"]
    runs = [[mutated(chance, pool) for _ in range(200)] for chance in (Random(5), Random(5))]
    assert runs[0] == runs[1]
    assert len(set(runs[0])) > 150


def test_a_blind_hunt_finds_what_one_change_reaches(tmp_path: Path) -> None:
    hunt, chance = Hunt(target(), tmp_path), Random(1)
    while not hunt.faults and hunt.tried < 100_000:
        hunt(mutated(chance, [b"666666"]))
    assert hunt.faults


def test_an_unknown_target_is_refused_with_those_there_are(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        main(["nothing"])
    assert "snapshot" in capsys.readouterr().err
