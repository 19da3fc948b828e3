from __future__ import annotations

import json
import subprocess
from pathlib import Path

from qwend.cli.exits import Exit
from tests.cli.qwenctl import QWENCTL, qwenctl
from tests.support.daemon import RunningDaemon, running_daemon


def test_each_line_is_a_question_and_stdout_has_the_answers(daemon: RunningDaemon) -> None:
    done = qwenctl("chat", socket=daemon.socket, input="one\n\ntwo\n")

    assert (done.stdout, done.stderr, done.returncode) == ("one\ntwo\n", "", Exit.DONE)


def test_a_turn_carries_what_was_said_before(daemon: RunningDaemon, tmp_path: Path) -> None:
    saved = tmp_path / "said.json"

    qwenctl(
        "chat", "--system", "be brief", socket=daemon.socket, input=f"one\ntwo\n/save {saved}\n"
    )

    said = [(each["role"], each["content"]) for each in json.loads(saved.read_text())]
    assert said == [
        ("system", "be brief"),
        ("user", "one"),
        ("assistant", "one"),
        ("user", "two"),
        ("assistant", "two"),
    ]


def test_a_refused_question_leaves_the_conversation_as_it_was(
    daemon: RunningDaemon, tmp_path: Path
) -> None:
    saved = tmp_path / "said.json"
    questions = f"one\n{'x' * 20_000}\ntwo\n/save {saved}\n"

    done = qwenctl("chat", socket=daemon.socket, input=questions)

    assert done.stdout == "one\ntwo\n"
    assert "(context_exceeded)" in done.stderr
    assert done.returncode == Exit.REQUEST_FAILED
    assert [each["content"] for each in json.loads(saved.read_text())] == ["one"] * 2 + ["two"] * 2


def test_exit_ends_it_before_the_input_does(daemon: RunningDaemon) -> None:
    assert qwenctl("chat", socket=daemon.socket, input="/exit\nnever\n").stdout == ""


def test_a_restarted_daemon_is_found_again_without_a_word() -> None:
    with running_daemon() as first:
        chat = subprocess.Popen(
            [*QWENCTL, "--socket", str(first.socket), "chat"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=first.env,
        )
        assert chat.stdin is not None
        assert chat.stdout is not None
        print("before", file=chat.stdin, flush=True)
        assert chat.stdout.readline() == "before\n"
        first.stop()
        again = subprocess.Popen(first.process.args, env=first.env, stderr=subprocess.DEVNULL)
        try:
            out, errors = chat.communicate("after\n", timeout=60)
        finally:
            again.terminate()
            again.wait()

    assert out == "after\n"
    assert errors == ""  # the library has connected again by itself
    assert chat.returncode == Exit.DONE


def test_reasoning_is_neither_written_nor_remembered(
    thinker: RunningDaemon, tmp_path: Path
) -> None:
    saved = tmp_path / "said.json"
    questions = f"<think>Hm.</think>one\n/save {saved}\n"

    done = qwenctl("chat", socket=thinker.socket, input=questions)

    assert done.stdout == "one\n"
    assert json.loads(saved.read_text())[-1] == {"role": "assistant", "content": "one"}


def test_a_chat_without_thinking_takes_nothing_for_reasoning(thinker: RunningDaemon) -> None:
    done = qwenctl("chat", "--no-think", socket=thinker.socket, input="<think>Hm.</think>one\n")

    assert done.stdout == "<think>Hm.</think>one\n"
