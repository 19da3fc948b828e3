from __future__ import annotations

import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from qwend.cli.chat.conversation import Conversation
from qwend.cli.chat.prefiller import Prefiller
from qwend.cli.exits import Exit
from qwend.cli.main import run
from tests.cli.qwenctl import QWENCTL
from tests.cli.terminal import Terminal, terminal
from tests.support.daemon import RunningDaemon, running_daemon, wait_until

CTRL_C, CTRL_D, ALT_ENTER, ENTER, UP = "\x03", "\x04", "\x1b\r", "\r", "\x1b[A"


@contextmanager
def chatting(daemon: RunningDaemon, *options: str) -> Iterator[Terminal]:
    with terminal([*QWENCTL, "--socket", str(daemon.socket), "chat", *options], daemon.env) as it:
        it.wait_for_input()
        yield it


def test_a_question_is_answered_and_ctrl_d_leaves(daemon: RunningDaemon) -> None:
    with chatting(daemon) as chat:
        chat.type("good morning" + ENTER)
        chat.wait_for("good morning\r\n", after=chat.wait_for("good morning"))
        chat.wait_for_input()
        chat.type(CTRL_D)

        assert chat.wait() == Exit.DONE


def test_alt_enter_makes_a_question_of_two_lines(daemon: RunningDaemon) -> None:
    with chatting(daemon) as chat:
        chat.type("first" + ALT_ENTER + "second" + ENTER)

        chat.wait_for("first\r\nsecond\r\n")


def test_ctrl_c_on_an_empty_line_says_how_to_leave(daemon: RunningDaemon) -> None:
    with chatting(daemon) as chat:
        chat.type(CTRL_C)
        chat.wait_for("Ctrl-D or /exit leaves.")
        chat.wait_for_input()
        chat.type("/exit" + ENTER)

        assert chat.wait() == Exit.DONE


def test_ctrl_c_cancels_the_answer_and_keeps_the_program(endless: RunningDaemon) -> None:
    with chatting(endless) as chat:
        chat.type("ab" + ENTER)
        chat.wait_for("ababab")
        chat.type(CTRL_C)
        cancelled = chat.wait_for("(cancelled)")
        chat.wait_for_input()
        wait_until(lambda: endless.status()["engine"]["running"] == 0, "nothing runs any more")

        chat.type("cd" + ENTER)
        chat.wait_for("cdcdcd", after=cancelled)
        chat.type(CTRL_C)
        chat.wait_for("(cancelled)", after=cancelled)
        chat.wait_for_input()
        chat.type(CTRL_D)

        assert chat.wait() == Exit.DONE


def test_keys_typed_during_an_answer_are_the_next_question() -> None:
    with (
        running_daemon(script={"step_s": 0.002, "answer": "ab" * 300}) as daemon,
        chatting(daemon) as chat,
    ):
        chat.type("go" + ENTER)
        answered = chat.wait_for("abab")
        chat.type("/system" + ENTER)
        chat.wait_for("The daemon's own system prompt is in use.")

        answer = chat.shown[answered:].split(">")[0].strip()
        assert answer == "ab" * 298


def test_history_is_private_and_there_next_time(daemon: RunningDaemon) -> None:
    with chatting(daemon) as chat:
        chat.type("remember me" + ENTER)
        chat.wait_for("remember me\r\n", after=chat.wait_for("remember me"))
        chat.wait_for_input()
        chat.type(CTRL_D)
        assert chat.wait() == Exit.DONE

    (file,) = Path(daemon.env["XDG_STATE_HOME"]).rglob("chat_history")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert "remember me" in file.read_text()
    with chatting(daemon) as chat:
        chat.type(UP)
        chat.wait_for("remember me")


def test_what_is_typed_is_computed_before_enter(daemon: RunningDaemon) -> None:
    with chatting(daemon, "--timings") as chat:
        before = daemon.status()["requests"]["done"]
        chat.type("Why is the sky blue?")
        wait_until(lambda: daemon.status()["requests"]["done"] == before + 1, "it is prefilled")
        echoed = chat.wait_for("blue?")
        chat.type(ENTER)
        chat.wait_for("cached)", after=chat.wait_for("(first token", after=echoed))

    _, answer, *figures = chat.shown[echoed:].replace("\r", "").split("\n")
    assert answer == "Why is the sky blue?"
    prompt, cached = re.findall(r"(\d+) in the prompt, (\d+) of", " ".join(figures))[0]
    assert int(cached) >= int(prompt) - 1


@pytest.mark.parametrize(("options", "is_there"), [([], True), (["--no-typeahead"], False)])
def test_type_ahead_can_be_left_out(
    daemon: RunningDaemon, monkeypatch: pytest.MonkeyPatch, options: list[str], is_there: bool
) -> None:
    given: list[Prefiller | None] = []

    def no_questions(
        _terminal: bool, prefiller: Prefiller | None, _conversation: Conversation
    ) -> list[str]:
        given.append(prefiller)
        return []

    monkeypatch.setattr("qwend.cli.chat.command._questions", no_questions)

    assert run(["--socket", str(daemon.socket), "chat", *options]) == Exit.DONE
    assert [each is not None for each in given] == [is_there]


def test_timings_are_shown_after_each_answer(daemon: RunningDaemon) -> None:
    with chatting(daemon, "--timings") as chat:
        chat.type("hello" + ENTER)

        chat.wait_for("5 tokens;", after=chat.wait_for("(first token after "))
