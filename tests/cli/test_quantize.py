"""`qwenctl quantize`: what comes out, what is refused, and that nothing is left when it goes wrong.

The quantizer is the real one. Where a test needs it in the middle of its work, it stops itself when
it has begun one tensor of 27, so that no test depends on how quick it is.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import psutil
import pytest

from qwend.cli import quantizer
from qwend.cli.exits import Exit
from qwend.cli.quantization import KINDS
from qwend.models.blob_store import BlobStore
from qwend.models.gguf import read_header
from qwend.models.gguf_file import GgufFile
from qwend.models.store import resolve_model
from tests.cli.in_process import Ended, InProcess
from tests.cli.terminal import terminal
from tests.support.daemon import DEADLINE_S, daemon_env, running_daemon, wait_until
from tests.support.tiny_model import write_tiny_model
from tests.test_disk_faults import memory_disk

pytestmark = pytest.mark.llama
TENSORS = 27
MIDDLE = 15
# Several times what the result takes, and less than the source.
DISK_BYTES = 2 << 20
Quantize = Callable[..., Ended]

STOPPING = f"""
import os, signal, sys
from qwend.engine.llama import quantize
tell = quantize.tell
def stopping(line):
    tell(line)
    if line.startswith("tensor {MIDDLE} "):
        os.kill(os.getpid(), signal.SIGSTOP)
quantize.tell = stopping
sys.exit(quantize.main(sys.argv[1:]))
"""
# qwenctl with a quantizer that stops in the middle.
QWENCTL = [
    sys.executable,
    "-c",
    "import sys\n"
    "from qwend.cli import main, quantizer\n"
    f"quantizer.WORKER = [sys.executable, '-c', {STOPPING!r}]\n"
    "main.main()",
]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows of 256: as long as a block of the K types."""
    return write_tiny_model(tmp_path_factory.mktemp("model") / "tiny-F32.gguf", width=256)


@pytest.fixture
def source(model: Path, tmp_path: Path) -> Path:
    (tmp_path / "here").mkdir()
    return Path(shutil.copy(model, tmp_path / "here"))


@pytest.fixture
def env(tmp_path: Path) -> Mapping[str, str]:
    return daemon_env(tmp_path)


@pytest.fixture
def store(env: Mapping[str, str]) -> BlobStore:
    return BlobStore(Path(env["STATE_DIRECTORY"]) / "models")


@pytest.fixture
def quantize(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, env: Mapping[str, str]
) -> Quantize:
    here = InProcess(capsys, monkeypatch)
    return lambda *arguments: here.run("quantize", *map(str, arguments), env=env)


def matrices(path: Path) -> Counter[str]:
    """How many of the tensors of two dimensions have which type."""
    with path.open("rb") as file:
        tensors = read_header(GgufFile(file, path.stat().st_size)).tensors.values()
    return Counter(tensor.type.name for tensor in tensors if len(tensor.dims) > 1)


def names(directory: Path) -> list[str]:
    return sorted(os.listdir(directory))


@dataclass(frozen=True, slots=True)
class Stopped:
    """qwenctl, and the pid of its quantizer, which has stopped itself in the middle."""

    process: subprocess.Popen[bytes]
    worker: int
    errors: IO[bytes]

    def end(self) -> tuple[int, str]:
        """Its exit status, and what it said."""
        status = self.process.wait(DEADLINE_S)
        self.errors.seek(0)
        return status, self.errors.read().decode()


@contextmanager
def stopped(env: Mapping[str, str], *arguments: object) -> Iterator[Stopped]:
    command = [*QWENCTL, "quantize", *map(str, arguments)]
    with (
        tempfile.TemporaryFile() as errors,
        hung_up(),
        subprocess.Popen(command, env=env, stdin=subprocess.DEVNULL, stderr=errors) as process,
    ):
        try:
            yield Stopped(process, worker_of(psutil.Process(process.pid)), errors)
        finally:
            process.kill()


@contextmanager
def hung_up() -> Iterator[None]:
    """What is started meanwhile ends at a SIGHUP, also where the tests run under nohup(1)."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, before)


def worker_of(process: psutil.Process) -> int:
    """The pid of its only child, once that has stopped itself."""

    def found() -> int:
        children = process.children() if process.is_running() else []
        return next((one.pid for one in children if one.status() == psutil.STATUS_STOPPED), 0)

    return int(wait_until(found, "the quantizer stops in the middle"))


def is_gone(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_the_daemon_answers_with_the_result(quantize: Quantize, source: Path) -> None:
    done = quantize(source, "--to", "Q4_0")

    assert done.returncode == Exit.DONE, done.stderr
    result = source.with_name("tiny-Q4_0.gguf")
    with (
        running_daemon("--model", str(result), QWEND_ENGINE_BACKEND="llama") as daemon,
        daemon.client() as client,
    ):
        answer = client.complete("once", max_tokens=5)
        tokens = list(answer)
        assert len(tokens) <= 5
        assert answer.result is not None
        assert daemon.status()["model"]["quantization"] == "Q4_0"


def test_the_result_lies_beside_its_source_smaller_and_readable_as_that(
    quantize: Quantize, source: Path
) -> None:
    source.chmod(0o640)

    done = quantize(source, "--to", "q4_0")

    result = source.with_name("tiny-Q4_0.gguf")
    assert (done.returncode, done.stdout) == (Exit.DONE, "")
    assert f"{result} (Q4_0, 0 MiB; the source is F32, 3 MiB) is written." in done.stderr
    assert names(source.parent) == ["tiny-F32.gguf", result.name]
    assert matrices(source) == {"F32": 16}
    assert matrices(result) == {"Q4_0": 15, "Q6_K": 1}  # the matrix of the output
    assert result.stat().st_size < source.stat().st_size / 4
    assert result.stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("kind", KINDS)
def test_llama_cpp_makes_each_type_that_is_offered(
    quantize: Quantize, source: Path, kind: str
) -> None:
    done = quantize(source, "--to", kind, "--json")

    assert done.returncode == Exit.DONE, done.stderr
    last = json.loads(done.stdout.splitlines()[-1])
    result = Path(last["path"])
    assert last == {
        "event": "done",
        "path": str(source.with_name(f"tiny-{kind}.gguf")),
        "quantization": kind,
        "size_bytes": result.stat().st_size,
    }
    assert set(matrices(result)) - {"F32"}


def test_json_tells_how_far_it_is(quantize: Quantize, source: Path) -> None:
    done = quantize(source, "--to", "Q8_0", "--json")

    progress = json.loads(done.stdout.splitlines()[0])
    size = source.with_name("tiny-Q8_0.gguf").stat().st_size
    assert done.stderr == ""
    assert (progress["event"], progress["stage"]) == ("progress", "quantizing")
    assert (progress["part"], progress["parts"]) == (1, TENSORS)
    assert abs(progress["total_bytes"] - size) < size / 100


def test_quiet_is_quiet(quantize: Quantize, source: Path) -> None:
    done = quantize(source, "--to", "Q8_0", "--quiet")

    assert (done.returncode, done.stdout, done.stderr) == (Exit.DONE, "", "")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--to", "Q4"), "--to cannot be 'Q4'; known are Q4_0, Q4_1"),
        (("--to", "IQ1_S"), "needs an importance matrix, or suits no Qwen; known are Q4_0"),
        (("--to", "Q4_0", "--output", "x.gguf", "--import"), "choose one"),
        (("--to", "Q4_0", "--name", "a b"), "cannot be the name of a model"),
    ],
)
def test_what_is_no_use_is_refused(
    quantize: Quantize,
    source: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    said: str,
) -> None:
    monkeypatch.setattr(quantizer, "WORKER", ["false"])  # nothing is computed for that

    done = quantize(source, *arguments)

    assert (done.returncode, said in done.stderr) == (Exit.USAGE, True), done.stderr
    assert names(source.parent) == [source.name]


def test_what_is_quantized_already_is_refused_unless_asked_for(
    quantize: Quantize, tmp_path: Path
) -> None:
    source = write_tiny_model(tmp_path / "tiny.gguf", width=256, quantized=True)

    refused = quantize(source, "--to", "Q8_0")
    assert refused.returncode == Exit.USAGE
    assert "is quantized already" in refused.stderr
    assert "--requantize" in refused.stderr

    assert quantize(source, "--to", "Q8_0", "--requantize").returncode == Exit.DONE
    assert matrices(tmp_path / "tiny-Q8_0.gguf") == {"Q8_0": 16}

    same = quantize(tmp_path / "tiny-Q8_0.gguf", "--to", "Q8_0", "--requantize", "--force")
    assert same.returncode == Exit.USAGE
    assert "is Q8_0 already" in same.stderr


def test_a_source_that_the_engine_would_not_get_is_refused(
    quantize: Quantize, source: Path
) -> None:
    os.truncate(source, source.stat().st_size - 1)

    done = quantize(source, "--to", "Q4_0")

    assert done.returncode == Exit.REQUEST_FAILED
    assert "do not fit, the file ends at" in done.stderr
    assert names(source.parent) == [source.name]


def test_a_file_is_replaced_only_with_force_and_the_source_never(
    quantize: Quantize, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (old := source.with_name("tiny-Q4_0.gguf")).write_text("old")

    with monkeypatch.context() as patched:
        patched.setattr(quantizer, "WORKER", ["false"])  # nothing is computed for that
        refused = quantize(source, "--to", "Q4_0")
    assert refused.returncode == Exit.USAGE
    assert f"{old} is there already; --force replaces it" in refused.stderr
    assert old.read_text() == "old"

    assert quantize(source, "--to", "Q4_0", "--force").returncode == Exit.DONE
    assert matrices(old)["Q4_0"] == 15

    (elsewhere := source.parent / "elsewhere").mkdir()
    assert quantize(source, "--to", "Q4_0", "--output", elsewhere).returncode == Exit.DONE
    assert names(elsewhere) == [old.name]

    itself = quantize(source, "--to", "Q4_0", "--force", "--output", source)
    assert itself.returncode == Exit.USAGE
    assert "is the source" in itself.stderr
    assert matrices(source) == {"F32": 16}


def test_import_puts_it_into_the_store_and_nowhere_else(
    quantize: Quantize, source: Path, store: BlobStore
) -> None:
    done = quantize(source, "--to", "Q4_0", "--import")

    assert done.returncode == Exit.DONE, done.stderr
    assert "To have the daemon answer with it: qwenctl use tiny-q4_0" in done.stderr
    manifest = store.manifest("tiny-q4_0")
    assert manifest is not None
    assert manifest.quantization == "Q4_0"
    assert str(source) in manifest.origin
    assert matrices(resolve_model("tiny:Q4_0", store.models_dir).path)["Q4_0"] == 15
    assert names(source.parent) == [source.name]
    assert names(store.parts) == []

    again = quantize(source, "--to", "Q4_0", "--name", "tiny-q4_0")
    assert again.returncode == Exit.REQUEST_FAILED
    assert "(name_taken)" in again.stderr
    assert quantize(source, "--to", "Q4_1", "--name", "tiny-q4_0", "--force").returncode == 0
    assert resolve_model("tiny-q4_0", store.models_dir).path != store.blob_path(manifest.sha256)


def test_a_model_of_the_store_is_named_as_such(
    quantize: Quantize, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quantize(source, "--to", "F16", "--name", "mine-f16")
    monkeypatch.chdir(source.parent)

    done = quantize("mine-f16", "--to", "Q4_0")

    assert done.returncode == Exit.DONE, done.stderr
    assert names(source.parent) == ["mine-Q4_0.gguf", source.name]


def test_a_disk_without_room_is_noticed_before_anything_is_written(
    quantize: Quantize, source: Path, tmp_path: Path
) -> None:
    with memory_disk(tmp_path / "disk", DISK_BYTES) as disk:
        (disk / "others").write_bytes(bytes(DISK_BYTES - (256 << 10)))

        done = quantize(source, "--to", "Q4_0", "--output", disk / "small.gguf")

        assert done.returncode == Exit.REQUEST_FAILED
        assert "MiB free, and the result takes" in done.stderr
        assert "(no_space)" in done.stderr
        assert names(disk) == ["others"]


def test_a_disk_that_fills_in_the_middle_leaves_no_file(
    env: Mapping[str, str], source: Path, tmp_path: Path
) -> None:
    with memory_disk(tmp_path / "disk", DISK_BYTES) as disk:
        arguments = (source, "--to", "Q4_0", "--output", disk / "small.gguf")
        with stopped(env, *arguments) as run:
            begun = [path for path in disk.iterdir() if path.stat().st_size]
            with (disk / "others").open("wb", buffering=0) as file:
                while file.write(bytes(4096)) == 4096 and os.statvfs(disk).f_bavail:
                    pass
            os.kill(run.worker, signal.SIGCONT)
            status, told = run.end()

        assert (status, "(no_space)" in told) == (Exit.REQUEST_FAILED, True), told
        assert len(begun) == 1
        assert names(disk) == ["others"]


def test_a_quantizer_that_is_killed_leaves_no_file(env: Mapping[str, str], source: Path) -> None:
    with stopped(env, source, "--to", "Q4_0") as run:
        assert len(names(source.parent)) == 2
        os.kill(run.worker, signal.SIGKILL)
        status, told = run.end()

    assert status == Exit.REQUEST_FAILED
    assert "the quantizer was ended by SIGKILL; was memory short? (quantizer_died)" in told
    assert names(source.parent) == [source.name]


def test_ctrl_c_leaves_no_file_and_no_process(env: Mapping[str, str], source: Path) -> None:
    with terminal([*QWENCTL, "quantize", str(source), "--to", "Q4_0"], env) as screen:
        screen.wait_for(f"{MIDDLE}/{TENSORS}")
        worker = worker_of(psutil.Process(screen.process.pid))
        screen.type("\x03")
        assert screen.wait() == Exit.INTERRUPTED

    assert "Stopped. Nothing is left" in screen.shown
    assert names(source.parent) == [source.name]
    assert is_gone(worker)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_that_ends_it_leaves_no_file(
    env: Mapping[str, str], source: Path, number: signal.Signals
) -> None:
    with stopped(env, source, "--to", "Q4_0", "--import") as run:
        parts = Path(env["STATE_DIRECTORY"]) / "models" / "store" / "parts"
        assert len(names(parts)) == 1
        run.process.send_signal(number)
        assert run.end()[0] == Exit.INTERRUPTED

    assert names(parts) == []
    assert is_gone(run.worker)


def test_what_a_kill_leaves_goes_with_the_next_run(
    env: Mapping[str, str], source: Path, quantize: Quantize
) -> None:
    with stopped(env, source, "--to", "Q4_0") as run:
        assert quantize(source, "--to", "Q8_0").returncode == Exit.DONE
        assert len(names(source.parent)) == 3  # what somebody works on stays
        run.process.kill()
        run.end()
        wait_until(lambda: is_gone(run.worker), "the quantizer dies with who started it")

    assert len(names(source.parent)) == 3
    assert quantize(source, "--to", "Q4_0").returncode == Exit.DONE
    assert names(source.parent) == [source.name, "tiny-Q4_0.gguf", "tiny-Q8_0.gguf"]


def test_a_file_that_came_meanwhile_is_not_replaced(env: Mapping[str, str], source: Path) -> None:
    target = source.with_name("tiny-Q4_0.gguf")
    with stopped(env, source, "--to", "Q4_0") as run:
        target.write_text("somebody else's")
        os.kill(run.worker, signal.SIGCONT)
        status, told = run.end()

    assert (status, "is there already" in told) == (Exit.USAGE, True), told
    assert target.read_text() == "somebody else's"
    assert names(source.parent) == [source.name, target.name]


def test_a_result_that_is_not_right_never_gets_its_name(
    quantize: Quantize, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    half = "import os, sys; os.write(int(sys.argv[2]), os.pread(int(sys.argv[1]), 100000, 0))"
    whole = half.replace("100000", "1 << 30")
    for script, said in ((half, "do not fit, the file ends at"), (whole, "in F32, not")):
        monkeypatch.setattr(quantizer, "WORKER", [sys.executable, "-c", script])

        done = quantize(source, "--to", "Q4_0")

        assert done.returncode == Exit.REQUEST_FAILED
        assert "what came out was thrown away" in done.stderr
        assert said in done.stderr
        assert names(source.parent) == [source.name]


def test_weights_that_are_no_numbers_end_it_in_llama_cpps_words(
    quantize: Quantize, source: Path
) -> None:
    with source.open("r+b") as file:
        header = read_header(GgufFile(file, source.stat().st_size))
        file.seek(header.data_offset + header.tensors["blk.0.ffn_up.weight"].offset)
        file.write(b"\xff" * 4096)

    done = quantize(source, "--to", "Q4_0")

    assert done.returncode == Exit.REQUEST_FAILED
    assert "llama.cpp cannot quantize it: " in done.stderr
    assert "'blk.0.ffn_up.weight' has invalid data" in done.stderr
    assert "(quantizer_failed)" in done.stderr
    assert names(source.parent) == [source.name]
