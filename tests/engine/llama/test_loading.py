"""Loading: the settings take effect, and what cannot be loaded is told as a ModelError."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from qwend.engine.llama.backend import LlamaBackend, open_llama
from qwend.engine.llama.loading import repacking_is_safe
from qwend.engine.llama.threadpool import built_with_openmp
from qwend.errors import ModelError
from tests.models.support.gguf_builder import text
from tests.models.support.gguf_mutations import RawGguf
from tests.support.tiny_model import (
    TRAIN_CONTEXT,
    VOCAB_SIZE,
    feed,
    logits,
    opened,
    settings,
)

pytestmark = pytest.mark.llama
TEXT = b"the same text for every setting"


def test_the_facts_are_the_models(backend: LlamaBackend) -> None:
    facts = backend.facts
    assert (facts.vocab_size, facts.train_context) == (VOCAB_SIZE, TRAIN_CONTEXT)
    assert (facts.cells, facts.batch_rows, facts.sequences) == (512, 32, 4)
    assert facts.can_trim
    assert facts.chatml


def test_progress_rises_to_one(tiny_model: Path) -> None:
    seen: list[float] = []
    open_llama(settings(tiny_model, cpus=()), seen.append).close()
    assert seen == sorted(seen)
    assert seen[-1] == 1.0


@pytest.mark.parametrize(
    ("flash_attention", "kv_type", "tolerance"),
    [("off", "f16", 1e-3), ("on", "f16", 0.1), ("auto", "f16", 0.1), ("on", "q8_0", 0.5)],
)
def test_every_attention_and_cache_type_loads_and_computes_the_same(
    tiny_model: Path,
    backend: LlamaBackend,
    flash_attention: str,
    kv_type: str,
    tolerance: float,
) -> None:
    expected = logits(backend, feed(backend, 0, TEXT))
    with opened(tiny_model, flash_attention=flash_attention, kv_type=kv_type) as other:
        got = logits(other, feed(other, 0, TEXT))
        assert other.facts.description["flash_attention"] == flash_attention
        assert other.facts.description["kv_type"] == kv_type
    assert abs(got - expected).max() < tolerance


def test_a_quantized_cache_without_flash_attention_is_a_model_error(tiny_model: Path) -> None:
    with pytest.raises(ModelError, match="flash_attn"):
        open_llama(settings(tiny_model, kv_type="q8_0"), lambda _fraction: None)


def test_its_own_threads_are_pinned_where_it_was_told(tiny_model: Path) -> None:
    if built_with_openmp():
        pytest.skip("an OpenMP build brings its own threads")
    cpus = tuple(sorted(os.sched_getaffinity(0)))[:2]
    before = set(os.listdir("/proc/self/task")) - {str(os.getpid())}
    with opened(tiny_model, threads=len(cpus), cpus=cpus) as backend:
        assert backend.facts.description["pinned"] == list(cpus)
        assert backend.facts.description["threads"] == len(cpus)
        feed(backend, 0, TEXT)
        pool = set(os.listdir("/proc/self/task")) - before
        # Each on a CPU of its own, the thread that computes with them included.
        assert sorted(
            tuple(os.sched_getaffinity(int(thread)))
            for thread in pool
            if len(os.sched_getaffinity(int(thread))) == 1
        ) == [(cpu,) for cpu in cpus]


def test_threads_without_a_cpu_each_are_not_pinned(tiny_model: Path) -> None:
    for cpus in ((), (0,)):
        with opened(tiny_model, threads=2, cpus=cpus) as backend:
            assert backend.facts.description["pinned"] == []
            feed(backend, 0, TEXT)


def test_two_threads_compute_what_one_does(tiny_model: Path, backend: LlamaBackend) -> None:
    expected = logits(backend, feed(backend, 0, TEXT))
    with opened(tiny_model, threads=2, cpus=()) as other:
        assert abs(logits(other, feed(other, 0, TEXT)) - expected).max() < 1e-3


@pytest.mark.parametrize("content", [None, b"", b"GGUF", b"\0" * 4096, b"no model " * 1000])
def test_a_file_that_is_no_model_is_a_model_error(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "bad.gguf"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ModelError, match="cannot load the model"):
        open_llama(settings(path), lambda _fraction: None)


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.99])
def test_a_truncated_model_is_a_model_error(tmp_path: Path, tiny_model: Path, kept: float) -> None:
    whole = tiny_model.read_bytes()
    path = tmp_path / "cut.gguf"
    path.write_bytes(whole[: int(len(whole) * kept)])
    with pytest.raises(ModelError, match="cannot load the model"):
        open_llama(settings(path), lambda _fraction: None)


@pytest.mark.row("E3")
@pytest.mark.parametrize("name", ["a" * 70_000, "\x1b]0;owned\7\x1b[2J\nx", "\u202eb"])
def test_what_llama_cpp_quotes_of_a_file_is_short_and_says_nothing_to_a_terminal(
    tmp_path: Path, tiny_model: Path, name: str, capfd: pytest.CaptureFixture[str]
) -> None:
    model = RawGguf.of(tiny_model.read_bytes())
    (tokenizer,) = (one for one in model.fields if one.key == b"tokenizer.ggml.pre")
    tokenizer.body = text(name)
    path = tmp_path / "m.gguf"
    path.write_bytes(model.build())
    with pytest.raises(ModelError, match="unknown pre-tokenizer type") as refused, opened(path):
        pass
    lines = capfd.readouterr().err.splitlines()
    assert lines
    assert all(one.isprintable() and len(one) < 600 for one in (str(refused.value)[:599], *lines))
    assert len(str(refused.value)) < 2_500


def test_a_directory_is_a_model_error(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot load the model"):
        open_llama(settings(tmp_path), lambda _fraction: None)


def test_it_loads_from_an_inherited_descriptor(tiny_model: Path) -> None:
    with tiny_model.open("rb") as file:
        path = Path(f"/proc/self/fd/{file.fileno()}")
        with opened(path) as backend:
            feed(backend, 0, TEXT)


def test_opening_and_closing_leaves_no_threads_and_no_descriptors(tiny_model: Path) -> None:
    def resources() -> tuple[int, int]:
        return len(os.listdir("/proc/self/task")), len(os.listdir("/proc/self/fd"))

    with opened(tiny_model, threads=2, cpus=()):
        pass
    before = resources()
    for _ in range(5):
        with opened(tiny_model, threads=2, cpus=()):
            pass
    assert resources() == before


def test_a_load_that_failed_leaves_llama_cpp_a_log_that_lives(tmp_path: Path) -> None:
    # 1. A load fails, and what it had made is collected.  2. llama.cpp logs again: no crash.
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF" + bytes(60))
    script = (
        "import gc, llama_cpp\n"
        "from qwend.engine.llama.loading import load\n"
        "from qwend.engine.settings import EngineStart\n"
        "from qwend.errors import ModelError\n"
        "try:\n"
        f"    load(EngineStart('llama', {str(broken)!r}), lambda fraction: None)\n"
        "except ModelError:\n"
        "    pass\n"
        "gc.collect()\n"
        "blocks = [bytes(200) for _ in range(10_000)]\n"
        "params = llama_cpp.llama_model_default_params()\n"
        f"llama_cpp.llama_model_load_from_file({str(broken)!r}.encode(), params)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("info", "safe"), [(b"AVX2 = 1 | AMX_INT8 = 1 |", False), (b"AVX2 = 1 |", True)]
)
def test_weights_are_not_repacked_for_amx(info: bytes, safe: bool) -> None:
    assert repacking_is_safe(info) is safe
