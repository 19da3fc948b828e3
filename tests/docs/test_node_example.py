"""The JavaScript client, written from the page alone, talks to a daemon.

Needs node and the package @msgpack/msgpack. The package is looked for in `.cache/node` of this
clone, and put there once with `npm ci` if the network allows; otherwise these tests are skipped.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from qwend.wire import Accepted, Chat, ChatMessage, Done, Error, Hello, Progress, Timings, Usage
from tests.client.fake_daemon import WELCOME, Talk, fake_daemon
from tests.support.daemon import running_daemon

CLONE = Path(__file__).resolve().parents[2]
EXAMPLE = CLONE / "docs" / "examples" / "node"
CACHE = CLONE / ".cache" / "node"
INSTALL_DEADLINE_S = 60
RUN_DEADLINE_S = 30


@pytest.fixture(scope="session")
def modules() -> Path:
    """The directory node_modules with the package in it."""
    if shutil.which("node") is None:
        pytest.skip("node is not installed")
    package = CACHE / "node_modules" / "@msgpack" / "msgpack" / "package.json"
    if not package.exists():
        if shutil.which("npm") is None:
            pytest.skip("@msgpack/msgpack is not installed, and npm is not there to install it")
        CACHE.mkdir(parents=True, exist_ok=True)
        for name in ("package.json", "package-lock.json"):
            shutil.copy(EXAMPLE / name, CACHE)
        command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
        try:
            done = subprocess.run(
                command, cwd=CACHE, capture_output=True, text=True, timeout=INSTALL_DEADLINE_S
            )
        except subprocess.TimeoutExpired:
            pytest.skip("npm ci did not end in time; is there a network?")
        if done.returncode != 0:
            pytest.skip(f"npm ci failed: {done.stderr.strip()[-200:]}")
    return CACHE / "node_modules"


@pytest.fixture
def script(modules: Path, tmp_path: Path) -> Path:
    # An ES module finds packages beside itself only; NODE_PATH is not for it.
    shutil.copy(EXAMPLE / "chat.mjs", tmp_path)
    (tmp_path / "node_modules").symlink_to(modules)
    return tmp_path / "chat.mjs"


def chat(script: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["node", str(script), *arguments], capture_output=True, text=True, timeout=RUN_DEADLINE_S
    )


def test_it_streams_an_answer(script: Path, tmp_path: Path) -> None:
    def daemon(talk: Talk) -> None:
        assert talk.expect(Hello).client == "example chat.mjs"
        talk.say(WELCOME)
        asked = talk.expect(Chat)
        assert asked.messages == (ChatMessage("user", "why? 🌌"),)
        talk.say(Progress(asked.id, "prefill", 3, 3), Accepted(asked.id, 3, 0))
        talk.answer(asked.id, "Be", "cause 天", "🌌")
        talk.say(Done(asked.id, "stop", Usage(3, 0, 3), Timings(ttft_s=0.25), seed=2**32 - 1))
        talk.expect_end()

    with fake_daemon(tmp_path / "s", daemon) as path:
        done = chat(script, str(path), "why? 🌌")
    assert (done.stdout, done.returncode) == ("Because 天🌌\n", 0), done.stderr
    assert "stop: 3 tokens, the first after 0.25 s" in done.stderr


def test_an_error_is_told_with_its_code(script: Path, tmp_path: Path) -> None:
    def daemon(talk: Talk) -> None:
        talk.greet()
        talk.say(Error("busy", "all places are taken", id=talk.expect(Chat).id, retry_after_s=1))
        talk.expect_end()

    with fake_daemon(tmp_path / "s", daemon) as path:
        done = chat(script, str(path), "why?")
    assert (done.stderr, done.returncode) == ("chat.mjs: all places are taken (busy)\n", 1)


def test_a_daemon_that_is_gone_is_told(script: Path, tmp_path: Path) -> None:
    done = chat(script, str(tmp_path / "nothing"), "why?")
    assert done.returncode == 1
    assert "ENOENT" in done.stderr


def test_without_arguments_it_says_how_to_use_it(script: Path) -> None:
    done = chat(script)
    assert (done.stderr, done.returncode) == ("usage: node chat.mjs SOCKET PROMPT\n", 2)


def test_the_real_daemon_tells_it_what_it_tells_the_python_client(script: Path) -> None:
    with running_daemon() as daemon:
        with daemon.client() as client:
            stream = client.chat("hello there")
            stream.wait()
        done = chat(script, str(daemon.socket), "hello there")
    assert stream.text
    assert (done.stdout, done.returncode) == (stream.text + "\n", 0), done.stderr
