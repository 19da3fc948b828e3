from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from scripts.bench_support.peers.workload import Workload

ROOT = Path(__file__).resolve().parents[2]


def test_both_sides_of_a_turn_are_asked_the_same() -> None:
    ours, theirs = Workload("E", 3), Workload("E", 3)
    assert ours.fresh(32) == theirs.fresh(32)
    assert ours.fresh(1024) == theirs.fresh(1024)
    assert ours.message(40) == theirs.message(40)


def test_another_process_asks_the_same() -> None:
    code = (
        "from scripts.bench_support.peers.workload import Workload;"
        "print(Workload('E', 3).fresh(8), Workload('J', 0).conversation(5, 4))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    expected = f"{Workload('E', 3).fresh(8)} {Workload('J', 0).conversation(5, 4)}"
    assert done.stdout.strip() == expected


def test_fresh_tokens_differ_from_turn_to_turn_and_from_scenario_to_scenario() -> None:
    drawn = [tuple(Workload(name, turn).fresh(16)) for name in "BE" for turn in range(-1, 4)]
    assert len(set(drawn)) == len(drawn)


def test_the_shared_prompt_is_new_in_each_turn_and_the_system_prompt_is_not() -> None:
    first, second = Workload("D", 0), Workload("D", 1)
    assert first.shared(512) != second.shared(512)
    assert first.shared(512) == first.shared(512)
    assert first.system() == second.system()
    assert len(first.system()) == 200


def test_the_first_tokens_are_those_of_the_reference_measurement() -> None:
    # Random(7) and Random(99), randrange(1000, 100_000).
    assert Workload("B", 0).system(3) == [43_445, 20_772, 52_750]
    assert Workload("D", 0).shared(3) == [53_950, 50_906, 27_224]


def test_a_message_has_one_word_per_token() -> None:
    assert len(Workload("B3", 0).message(40).split()) == 40
