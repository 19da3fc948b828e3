"""The threads of a step: each on its CPU, one alone on any of them, and those left out asleep."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from qwend.engine.llama import threadpool
from qwend.engine.llama.backend import LlamaBackend
from qwend.engine.llama.threadpool import built_with_openmp
from qwend.errors import EngineBug
from tests.support.tiny_model import feed, logits, opened

pytestmark = pytest.mark.llama
TEXT = b"some text"
DEADLINE_S = 20.0


@pytest.fixture
def two_cpus() -> tuple[int, int]:
    cpus = sorted(os.sched_getaffinity(0))
    if len(cpus) < 2:
        pytest.skip("needs two CPUs")
    if built_with_openmp():
        pytest.skip("this build brings its own threads")
    return cpus[0], cpus[1]


@pytest.fixture
def backend(tiny_model: Path, two_cpus: tuple[int, int]) -> Iterator[LlamaBackend]:
    """Two threads, each pinned to a CPU."""
    with opened(tiny_model, threads=2, cpus=two_cpus) as backend:
        yield backend


def step(backend: LlamaBackend) -> None:
    feed(backend, 0, TEXT)
    backend.trim(0, 0)


def other_threads() -> set[int]:
    return {int(name) for name in os.listdir("/proc/self/task")} - {os.getpid()}


def state(thread: int) -> str:
    """R: running; S: asleep. /proc/PID/task/TID/stat, proc(5)."""
    return Path(f"/proc/self/task/{thread}/stat").read_text().rpartition(")")[2].split()[0]


def test_each_of_two_threads_has_a_cpu_of_its_own(
    tiny_model: Path, two_cpus: tuple[int, int]
) -> None:
    before = other_threads()
    with opened(tiny_model, threads=2, cpus=two_cpus) as backend:
        step(backend)
        (worker,) = other_threads() - before
        pinned = os.sched_getaffinity(0), os.sched_getaffinity(worker)
    assert sorted(pinned, key=min) == [{two_cpus[0]}, {two_cpus[1]}]


def test_one_thread_may_run_on_every_planned_cpu_and_two_are_pinned_again(
    backend: LlamaBackend, two_cpus: tuple[int, int]
) -> None:
    step(backend)
    (pinned,) = os.sched_getaffinity(0)
    for _ in range(2):
        backend.set_threads(1)
        step(backend)
        assert os.sched_getaffinity(0) == set(two_cpus)
        backend.set_threads(2)
        step(backend)
        assert os.sched_getaffinity(0) == {pinned}


def test_a_thread_that_is_left_out_sleeps_while_steps_run(
    tiny_model: Path, two_cpus: tuple[int, int]
) -> None:
    before = other_threads()
    with opened(tiny_model, threads=2, cpus=two_cpus) as backend:
        step(backend)
        (worker,) = other_threads() - before
        backend.set_threads(1)
        deadline = time.monotonic() + DEADLINE_S
        # A spinning thread is woken by each step, and would be running after each.
        asleep = 0
        while asleep < 10:
            assert time.monotonic() < deadline, "the thread that is left out never sleeps"
            step(backend)
            asleep = asleep + 1 if state(worker) == "S" else 0
        assert other_threads() - before == {worker}


def test_no_thread_is_pinned_to_a_cpu_that_is_gone(
    tiny_model: Path, two_cpus: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = other_threads()
    with opened(tiny_model, threads=2, cpus=two_cpus) as backend:
        step(backend)
        old = other_threads() - before
        monkeypatch.setattr(threadpool, "allowed_cpus", lambda: {two_cpus[1]})
        for threads in (1, 2):
            backend.set_threads(threads)
            step(backend)
            assert os.sched_getaffinity(0) == {two_cpus[1]}
        (worker,) = other_threads() - before - old
        assert os.sched_getaffinity(worker) == {two_cpus[1]}
        monkeypatch.undo()
        backend.set_threads(2)
        step(backend)
        assert {*os.sched_getaffinity(0), *os.sched_getaffinity(*old)} == set(two_cpus)
    assert other_threads() == before


def test_more_threads_than_cpus_are_left_share_them(
    tiny_model: Path, two_cpus: tuple[int, int]
) -> None:
    before = other_threads()
    gone = max(os.sched_getaffinity(0)) + 1
    with opened(tiny_model, threads=3, cpus=(*two_cpus, gone)) as backend:
        step(backend)
        for thread in (0, *(other_threads() - before)):
            assert os.sched_getaffinity(thread) == set(two_cpus)


def test_the_cpus_are_those_of_the_process_that_started_this_one(
    two_cpus: tuple[int, int],
) -> None:
    script = (
        "import os, sys; from qwend.engine.llama.threadpool import allowed_cpus;"
        "os.sched_setaffinity(0, {int(sys.argv[1])}); print(allowed_cpus())"
    )
    for cpu in two_cpus:
        printed = subprocess.run(
            [sys.executable, "-c", script, str(cpu)], capture_output=True, text=True, check=True
        )
        assert printed.stdout.strip() == str(os.sched_getaffinity(0))


def test_the_number_of_threads_changes_no_answer(backend: LlamaBackend) -> None:
    expected = logits(backend, feed(backend, 0, TEXT))
    for threads in (1, 2, 1):
        backend.set_threads(threads)
        backend.trim(0, 0)
        again = logits(backend, feed(backend, 0, TEXT))
        np.testing.assert_allclose(again, expected, atol=1e-4)


@pytest.mark.parametrize("threads", [0, -1, 3])
def test_more_threads_than_planned_are_our_bug(backend: LlamaBackend, threads: int) -> None:
    with pytest.raises(EngineBug, match="threads"):
        backend.set_threads(threads)
    step(backend)


def test_threads_that_were_not_pinned_stay_so(tiny_model: Path, two_cpus: tuple[int, int]) -> None:
    everywhere = os.sched_getaffinity(0)
    with opened(tiny_model, threads=2, cpus=()) as backend:
        for threads in (2, 1, 2):
            backend.set_threads(threads)
            step(backend)
            assert os.sched_getaffinity(0) == everywhere


def test_all_threads_end_with_the_backend(tiny_model: Path, two_cpus: tuple[int, int]) -> None:
    before = other_threads()
    with opened(tiny_model, threads=2, cpus=two_cpus) as backend:
        for threads in (1, 2, 1):
            backend.set_threads(threads)
            step(backend)
    assert other_threads() == before


@pytest.mark.row("D6")
def test_where_no_thread_can_be_started_the_pool_in_use_stays(
    backend: LlamaBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pool of another number would be made, and llama.cpp would end the process."""
    feed(backend, 0, TEXT)
    expected = logits(backend, feed(backend, 1, TEXT))
    backend.trim(1, 0)
    made = backend._pool._make  # type: ignore[union-attr]
    monkeypatch.setattr(threadpool, "startable_threads", lambda wanted: 0)
    monkeypatch.setattr(backend._pool, "_make", lambda *arguments: pytest.fail("a pool was made"))
    backend.set_threads(1)
    np.testing.assert_allclose(logits(backend, feed(backend, 1, TEXT)), expected, atol=1e-4)
    backend.trim(1, 0)
    monkeypatch.setattr(threadpool, "startable_threads", lambda wanted: wanted)
    monkeypatch.setattr(backend._pool, "_make", made)
    backend.set_threads(1)
    np.testing.assert_allclose(logits(backend, feed(backend, 1, TEXT)), expected, atol=1e-4)
