"""The weights in memory: in one form or in two, of a file or their own, and out of swap's reach."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from qwend.engine.llama.memory import file_areas
from qwend.engine.llama.weights import WeightsMemory
from qwend.host.cpu_flags import cpu_flags
from qwend.host.root import HostRoot
from qwend.models.ggml_types import repacked_types
from tests.support.tiny_model import feed, logits, opened, write_tiny_model

pytestmark = pytest.mark.llama
MIB = 1 << 20
TEXT = b"the same text for every setting"
REPACKED_HERE = "Q4_0" in repacked_types(cpu_flags(HostRoot()))


@pytest.fixture(scope="module")
def wide_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """14 MiB of Q4_0, so that it shows in the figures of a process."""
    path = tmp_path_factory.mktemp("wide") / "wide.gguf"
    return write_tiny_model(path, width=2048, quantized=True)


@dataclass(frozen=True)
class Seen:
    """Of a process that loaded the model and nothing before it: in one that has freed another
    model, the same memory is used again."""

    memory: WeightsMemory
    locked_bytes: int  # as the kernel counts them: VmLck, proc_pid_status(5)


def loaded(model: Path, *, may_lock: bool = True, limit: int | None = None, **fields: Any) -> Seen:
    """limit: RLIMIT_MEMLOCK. may_lock: root may whatever the limit, unless this is False."""
    program = (
        "import dataclasses, json, resource, sys\n"
        "from pathlib import Path\n"
        "from qwend.engine.llama.weights import load_weights\n"
        "from tests.support.tiny_model import settings\n"
        "model, limit, fields = json.loads(sys.argv[1])\n"
        "if limit: resource.setrlimit(resource.RLIMIT_MEMLOCK, (4096, limit))\n"
        "_, memory = load_weights(settings(Path(model), **fields), lambda fraction: None)\n"
        "status = Path('/proc/self/status').read_text().split()\n"
        "locked = int(status[status.index('VmLck:') + 1]) * 1024\n"
        "print(json.dumps([dataclasses.asdict(memory), locked]))\n"
    )
    command = [sys.executable, "-c", program, json.dumps([str(model), limit, fields])]
    if os.geteuid() == 0 and not may_lock:
        command = ["setpriv", "--bounding-set=-ipc_lock", *command]
    env = os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])}
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=env, check=False)
    assert done.returncode == 0, done.stderr
    memory, locked = json.loads(done.stdout)
    return Seen(WeightsMemory(**memory), locked)


@pytest.mark.skipif(not REPACKED_HERE, reason="this CPU computes with Q4_0 as it is")
def test_repacked_weights_take_their_size_once_more(wide_model: Path) -> None:
    repacked, plain = loaded(wide_model), loaded(wide_model, repack=False)
    assert 12 * MIB < repacked.memory.own_bytes - plain.memory.own_bytes < 20 * MIB


@pytest.mark.parametrize("fields", [{"repack": False}, {"mapped": False}])
def test_every_form_of_the_weights_computes_the_same(
    wide_model: Path, fields: dict[str, bool]
) -> None:
    with opened(wide_model) as backend:
        expected = logits(backend, feed(backend, 0, TEXT))
    with opened(wide_model, **fields) as backend:
        got = logits(backend, feed(backend, 0, TEXT))
    assert expected.std() > 0.1
    # Activations are quantized to 8 bits on the way, in blocks of another shape.
    assert abs(got - expected).max() < 0.1 * expected.std()


def test_weights_of_their_own_need_no_file_any_more(wide_model: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(wide_model.read_bytes())
    with opened(path, mapped=False) as backend:
        expected = logits(backend, feed(backend, 0, TEXT))
        assert file_areas(str(path)) == []
        os.truncate(path, 0)
        backend.trim(0, 0)
        assert (logits(backend, feed(backend, 0, TEXT)) == expected).all()


def test_mapped_weights_stay_the_files(wide_model: Path) -> None:
    with opened(wide_model, repack=False):
        mapped = sum(area.end - area.start for area in file_areas(str(wide_model)))
        assert mapped > 0.9 * wide_model.stat().st_size


@pytest.mark.parametrize("fields", [{}, {"repack": False}, {"mapped": False}])
def test_locked_weights_are_locked_wherever_they_are(
    wide_model: Path, fields: dict[str, bool]
) -> None:
    assert loaded(wide_model, **fields).locked_bytes == 0
    seen = loaded(wide_model, lock=True, **fields)
    if seen.memory.lock_refused:
        pytest.skip(f"not allowed here: {seen.memory.lock_refused}")
    assert seen.locked_bytes == seen.memory.locked_bytes > 14 * MIB


@pytest.mark.parametrize("mapped", [True, False])
def test_a_refusal_names_the_limit_and_ends_nothing(wide_model: Path, mapped: bool) -> None:
    seen = loaded(wide_model, may_lock=False, limit=4 * MIB, lock=True, mapped=mapped)
    assert seen.memory.lock_refused.endswith(" MiB are to be locked, RLIMIT_MEMLOCK allows 4 MiB")
    assert seen.locked_bytes == seen.memory.locked_bytes <= 4 * MIB


def test_the_limit_is_raised_as_far_as_it_may_be(wide_model: Path) -> None:
    # The soft limit is a page, the hard one what a user has without being asked.
    seen = loaded(wide_model, may_lock=False, limit=8 * MIB, lock=True)
    assert "allows 8 MiB" in seen.memory.lock_refused
