"""Models that are wrong, loaded one after another while the model before answers (row E3).

1. A daemon with the real engine answers from the guide; somebody asks it the same without rest.
2. An administrator has it load files that are wrong in one thing. Each load ends once: in `done`,
   or in an error that says where the file is wrong. 3. Where it ended in an error, the guide goes
   on serving; where it did not, the file was good enough, and the guide is loaded again. 4. No
   answer of the guide ever differs, no front dies, and at the end nothing is left of these files.
"""

from __future__ import annotations

import itertools
import os
import shutil
import threading
import time
import tracemalloc
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest

from qwend.errors import ModelError
from qwend.models import check_gguf
from qwend.models.store import guide_path
from tests.models.support.gguf_mutations import KINDS, Mutant, mutants
from tests.support.daemon import RawClient, RunningDaemon, running_daemon, wait_until
from tests.support.tiny_model import write_tiny_model

pytestmark = [pytest.mark.llama, pytest.mark.row("E3")]
MUTANTS = int(os.environ.get("QWEND_TEST_MUTANTS", str(3 * len(KINDS))))
"""Files that are loaded, of all kinds in turn; a night's run sets 2,000."""
SEED = int(os.environ.get("QWEND_TEST_SEED", "1"))
LIMIT_BYTES = 64 << 20
QUESTION = [{"role": "user", "content": "What is qwend?"}]
ASK = {"op": "chat", "messages": QUESTION, "max_tokens": 40, "temperature": 0.0}
SETTINGS: dict[str, Any] = {
    "QWEND_ENGINE_BACKEND": "llama",
    "QWEND_MODEL_CONTEXT": "512",
    # What is chosen by a measurement, or reused, may differ in its roundings.
    "QWEND_ENGINE_FLASH_ATTENTION": "off",
    "QWEND_ENGINE_SPECULATION": "false",
    "QWEND_CACHE_PREFIX_MB": "0",
    # Two threads that wait for each other are slow on a machine that is busy.
    "QWEND_ENGINE_THREADS": "1",
}


def ended(client: RawClient, id_: int) -> list[dict[str, Any]]:
    """All that came for this request, up to its end."""
    messages = []
    while message := client.read():
        assert message.get("id") == id_, message
        messages.append(message)
        if message["op"] in ("done", "error"):
            return messages
    raise AssertionError(f"no end of request {id_}, but {messages[-3:]} and the end")


def said(messages: list[dict[str, Any]]) -> str:
    """The text of an answer, or the code of its error."""
    last = messages[-1]
    return (
        "".join(one.get("text", "") for one in messages) if last["op"] == "done" else last["code"]
    )


@dataclass(frozen=True, slots=True)
class Answer:
    began: float
    ended: float
    text: str


@dataclass
class Asker:
    """Asks the same again and again. answers: what was said, in order."""

    daemon: RunningDaemon
    answers: list[Answer] = field(default_factory=list)
    failure: BaseException | None = None
    _stopped: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def asking(self) -> Iterator[None]:
        thread = threading.Thread(target=self._run)
        thread.start()
        try:
            yield
        finally:
            self._stopped.set()
            thread.join()
        if self.failure is not None:
            raise self.failure

    def _run(self) -> None:
        try:
            with self.daemon.raw() as client:
                for id_ in itertools.count():
                    if self._stopped.is_set():
                        return
                    began = time.monotonic()
                    client.send({**ASK, "id": id_})
                    text = said(ended(client, id_))
                    self.answers.append(Answer(began, time.monotonic(), text))
        except BaseException as error:
            self.failure = error


@dataclass
class Loads:
    """What became of the files. foreign: when another model than the guide may have answered."""

    client: RawClient
    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)
    foreign: list[tuple[float, float]] = field(default_factory=list)
    slowest_s: float = 0.0
    _ids: Iterator[int] = field(default_factory=itertools.count)

    def load(self, path: Path | str) -> dict[str, Any]:
        """How the load ended. Once: nothing more comes for it, and the daemon answers."""
        id_, began = next(self._ids), time.monotonic()
        self.client.send({"op": "load", "id": id_, "model": str(path)})
        last = ended(self.client, id_)[-1]
        self.slowest_s = max(self.slowest_s, time.monotonic() - began)
        assert self.client.ping() == []
        return last

    def status(self) -> dict[str, Any]:
        self.client.send({"op": "status"})
        status: dict[str, Any] = self.client.read_until("status")[-1]["status"]
        assert status["state"] in ("ready", "degraded"), status
        return status

    def serving(self) -> str:
        """The path of the model that serves."""
        return str(self.status()["model"]["path"])

    def are_all_that_is_left(self) -> bool:
        """Nobody else is connected, and the engine holds nothing."""
        status = self.status()
        busy = status["requests"]["open"] or status["engine"]["used_cells"]
        return status["connections"] == 1 and not busy

    def asked(self) -> str:
        id_ = next(self._ids)
        self.client.send({**ASK, "id": id_})
        return said(ended(self.client, id_))


@dataclass
class PreCheck:
    """The look at a header, as the daemon takes it, in this process: its time and its memory."""

    longest_s: float = 0.0
    peak_bytes: int = 0

    def refusal(self, path: Path) -> str:
        """Why the file is refused before an engine sees it; empty: it is not."""
        begin = time.process_time()
        self._look(path)
        self.longest_s = max(self.longest_s, time.process_time() - begin)
        tracemalloc.start()
        try:
            return self._look(path)
        finally:
            self.peak_bytes = max(self.peak_bytes, tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()

    def _look(self, path: Path) -> str:
        with path.open("rb") as file:
            try:
                check_gguf(file.fileno(), path.stat().st_size, path=str(path))
            except ModelError as error:
                return str(error)
        return ""


@dataclass(frozen=True, slots=True)
class Left:
    """What a front holds that it must give back."""

    descriptors: int
    engines: int
    copies: int
    files: frozenset[str]

    def is_within(self, before: Left) -> bool:
        """Nothing has been added. A descriptor of the engine before may have gone only now."""
        return (
            self.descriptors <= before.descriptors
            and (self.engines, self.copies) == (before.engines, before.copies)
            and self.files == before.files
        )

    @classmethod
    def by(cls, daemon: RunningDaemon) -> Left:
        front = psutil.Process(daemon.process.pid)
        files = (one.relative_to(daemon.home) for one in daemon.home.rglob("*"))
        # There is one copy in memory at a time, of the model that was asked for last. And a
        # calibration is kept for each model that was ever computed with.
        kept = frozenset(
            str(one.with_stem("copy") if one.match("run/model/*.gguf") else one)
            for one in files
            if not one.match("calibration-*.json")
        )
        copies = len(list((daemon.home / "run/model").glob("*.gguf")))
        return cls(front.num_fds(), len(front.children(recursive=True)), copies, kept)


def most_memory(daemon: RunningDaemon) -> int:
    """The most that the front has ever had in memory (VmHWM, proc(5)), in bytes."""
    for line in Path(f"/proc/{daemon.process.pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("the kernel does not say")


@pytest.fixture(scope="module")
def guide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One that nobody trains meanwhile."""
    path = tmp_path_factory.mktemp("guide") / "guide.gguf"
    shutil.copyfile(guide_path(), path)
    return path


def judge(
    mutant: Mutant, path: Path, guide: Path, loads: Loads, check: PreCheck, undisturbed: str
) -> None:
    """Load one file, and see that it ended as it must; the guide serves afterwards."""
    mutant.write(path)
    refusal, began = check.refusal(path), time.monotonic()
    end = loads.load(path)
    if end["op"] == "done":
        assert not refusal
        assert end["finish_reason"] == "loaded"
        assert loads.serving() == str(path)
        assert loads.load(guide)["op"] == "done"
        loads.foreign.append((began, time.monotonic()))
        outcome = "loaded"
    else:
        assert end["code"] == "model_error", end
        # The very words: they name the field, and the byte where it is.
        expected = refusal if mutant.data or mutant.sparse_bytes else "is empty"
        assert expected in end["message"]
        # What it quotes of the file says nothing to a terminal, and is short.
        assert end["message"].isprintable()
        assert len(end["message"]) < 2_500
        outcome = "refused before" if refusal else "refused by the engine"
    loads.outcomes[mutant.kind, outcome] += 1
    assert loads.serving() == str(guide)
    assert loads.asked() == undisturbed


@pytest.mark.timeout(0 if MUTANTS > 100 else 300)
def test_no_wrong_model_ends_the_daemon_or_the_answers_of_the_model_before(
    tmp_path: Path, guide: Path
) -> None:
    tiny, path = write_tiny_model(tmp_path / "tiny.gguf"), tmp_path / "model.gguf"
    check = PreCheck()
    print(f"QWEND_TEST_SEED={SEED}")
    with running_daemon("--model", str(guide), **SETTINGS) as daemon, daemon.raw() as client:
        loads, asker = Loads(client), Asker(daemon)
        undisturbed = loads.asked()
        assert "daemon" in undisturbed
        # One switch and back, after which everything is there that stays.
        assert [loads.load(one)["op"] for one in (tiny, guide)] == ["done", "done"]
        wait_until(loads.are_all_that_is_left, "nobody else is there")
        wait_until(lambda: Left.by(daemon).engines == 1, "the engine before has ended")
        before, memory = Left.by(daemon), most_memory(daemon)
        bases = [guide.read_bytes(), tiny.read_bytes()]
        with asker.asking():
            for mutant in itertools.islice(mutants(SEED, bases), MUTANTS):
                judge(mutant, path, guide, loads, check, undisturbed)
        wait_until(loads.are_all_that_is_left, "nobody else is there")
        with suppress(AssertionError):
            wait_until(lambda: Left.by(daemon).is_within(before), "it holds what it held before")
        now = Left.by(daemon)
        assert now.is_within(before), (now, before)
        grown = most_memory(daemon) - memory
        assert "Traceback" not in daemon.log
    answers = [
        one
        for one in asker.answers
        if not any(begin <= one.began <= end for begin, end in loads.foreign)
    ]
    print(*(f"{kind}, {how}: {n}" for (kind, how), n in sorted(loads.outcomes.items())), sep="\n")
    how = Counter(how for (_, how), n in loads.outcomes.items() for _ in range(n))
    print(
        f"{MUTANTS} files: {dict(how)}; {len(answers)} answers of the guide meanwhile; "
        f"the check at most {check.longest_s:.3f} s and {check.peak_bytes / 2**20:.1f} MiB, "
        f"the front +{grown / 2**20:.1f} MiB; a load at most {loads.slowest_s:.1f} s"
    )
    assert answers
    assert {one.text for one in answers} == {undisturbed}
    assert check.peak_bytes < LIMIT_BYTES
    assert grown < LIMIT_BYTES


@pytest.mark.row("E5")
def test_what_is_no_model_at_all_is_named_and_the_model_before_answers_on(
    tmp_path: Path, guide: Path
) -> None:
    pipe, dangling = tmp_path / "pipe.gguf", tmp_path / "dangling.gguf"
    os.mkfifo(pipe)
    dangling.symlink_to(tmp_path / "gone")
    refused = {
        str(tmp_path / "none.gguf"): "does not exist",
        str(tmp_path): "is a directory",
        str(pipe): "is a named pipe",
        str(dangling): "link to nothing",
        "/dev/zero": "is a device",
        "model.gguf": "from the root on",
        "no-such-model": "Installed: guide",
        "../guide": "from the root on",
        "guide\n": "cannot be the name of a model",
    }
    with running_daemon("--model", str(guide), **SETTINGS) as daemon, daemon.raw() as client:
        loads = Loads(client)
        undisturbed, before = loads.asked(), Left.by(daemon)
        for model, reason in refused.items():
            end = loads.load(model)
            assert (end["op"], end.get("code")) == ("error", "model_error"), end
            assert reason in end["message"]
        assert loads.serving() == str(guide)
        assert loads.asked() == undisturbed
        wait_until(lambda: Left.by(daemon).is_within(before), f"it holds what it held, {before}")
