"""`qwenctl sessions`, and `--session` of ask and chat, with a daemon that repeats its questions."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import pytest

from qwend.cli.exits import Exit
from qwend.cli.sessions import ago
from tests.cli.qwenctl import qwenctl
from tests.support.daemon import RunningDaemon


@pytest.fixture
def empty(daemon: RunningDaemon) -> RunningDaemon:
    """The daemon of all, without sessions."""
    with daemon.client() as client:
        for one in client.sessions():
            client.delete_session(one.name)
    return daemon


def run(daemon: RunningDaemon, *arguments: str, **options: Any) -> str:
    done = qwenctl(*arguments, socket=daemon.socket, **options)
    assert done.returncode == Exit.DONE, done.stderr
    return done.stdout


def ask(daemon: RunningDaemon, *questions: str, session: str = "trip") -> None:
    with daemon.client() as client:
        for question in questions:
            client.chat(question, session=session).wait()


def contents(daemon: RunningDaemon, name: str = "trip") -> list[str]:
    with daemon.client() as client:
        return [each.content for each in client.session(name).messages]


def test_ask_goes_on_with_the_session_of_that_name(empty: RunningDaemon) -> None:
    assert run(empty, "ask", "--session", "trip", "one") == "one\n"
    run(empty, "ask", "--session", "trip", "two")

    assert contents(empty) == ["one", "one", "two", "two"]


def test_a_chat_goes_on_where_the_last_one_ended(empty: RunningDaemon, tmp_path: Path) -> None:
    saved = tmp_path / "said.json"
    run(empty, "chat", "--session", "trip", input="one\n")

    out = run(empty, "chat", "--session", "trip", input=f"two\n/save {saved}\n")

    assert out == "two\n"
    assert contents(empty) == ["one", "one", "two", "two"]
    assert [each["content"] for each in json.loads(saved.read_text())] == contents(empty)


def test_a_chat_sends_its_system_prompt_once(empty: RunningDaemon) -> None:
    run(empty, "chat", "--session", "trip", "--system", "Be brief.", input="one\ntwo\n")
    run(empty, "ask", "--session", "trip", "--system", "Be brief.", "three")

    assert contents(empty) == ["Be brief.", *("one", "one", "two", "two", "three", "three")]


def test_another_system_prompt_is_refused_and_nothing_changes(empty: RunningDaemon) -> None:
    ask(empty, "one")

    done = qwenctl("ask", "--session", "trip", "--system", "No.", "two", socket=empty.socket)

    assert done.returncode == Exit.REQUEST_FAILED
    assert "session 'trip' has begun with no system message" in done.stderr
    assert contents(empty) == ["one", "one"]


def test_clear_says_that_a_session_is_kept(empty: RunningDaemon) -> None:
    done = qwenctl("chat", "--session", "trip", socket=empty.socket, input="one\n/clear\ntwo\n")

    assert "'qwenctl sessions delete trip' forgets it for good" in done.stderr
    assert contents(empty) == ["one", "one", "two", "two"]


def test_a_question_that_fails_is_in_neither_memory(empty: RunningDaemon, tmp_path: Path) -> None:
    saved = tmp_path / "said.json"
    questions = f"one\n{'x' * 20_000}\ntwo\n/save {saved}\n"

    done = qwenctl("chat", "--session", "trip", socket=empty.socket, input=questions)

    assert "session 'trip' has become too long for the model" in done.stderr
    assert "(context_exceeded)" in done.stderr
    assert contents(empty) == ["one", "one", "two", "two"]
    assert [each["content"] for each in json.loads(saved.read_text())] == contents(empty)


def test_the_list_has_the_one_that_was_used_last_first(empty: RunningDaemon) -> None:
    ask(empty, "one", session="a-long-name")
    ask(empty, "one", session="b")
    ask(empty, "two", session="a-long-name")

    lines = run(empty, "sessions").splitlines()

    assert [line.split()[:3] for line in lines] == [
        ["a-long-name", "2", "turns"],
        ["b", "1", "turn"],
    ]
    assert lines[0].index("2 turns") == lines[1].index("1 turn") - 1
    listed = json.loads(run(empty, "sessions", "list", "--json"))["sessions"]
    assert [each["name"] for each in listed] == ["a-long-name", "b"]
    assert listed[0]["messages"] == 4


def test_no_sessions_are_told_beside_the_output(empty: RunningDaemon) -> None:
    done = qwenctl("sessions", socket=empty.socket)

    assert (done.stdout, done.returncode) == ("", Exit.DONE)
    assert "qwenctl chat --session NAME" in done.stderr
    assert json.loads(run(empty, "sessions", "list", "--json")) == {"sessions": []}


def test_show_tells_questions_from_answers(empty: RunningDaemon) -> None:
    run(empty, "ask", "--session", "trip", "--max-tokens", "2", "four")

    done = qwenctl("sessions", "show", "trip", socket=empty.socket)

    assert done.stdout == "> four\nfo\n\n"
    assert done.stderr == "(cut off)\n"
    shown = json.loads(run(empty, "sessions", "show", "trip", "--json"))
    assert shown["name"] == "trip"
    assert shown["messages"][1]["finish_reason"] == "length"


def test_rename_and_what_stands_in_its_way(empty: RunningDaemon) -> None:
    ask(empty, "one", session="a")
    ask(empty, "two", session="b")

    taken = qwenctl("sessions", "rename", "a", "b", socket=empty.socket)
    run(empty, "sessions", "rename", "a", "c")
    gone = qwenctl("sessions", "show", "a", socket=empty.socket)

    assert taken.returncode == gone.returncode == Exit.REQUEST_FAILED
    assert "(session_exists)" in taken.stderr
    assert "(unknown_session)" in gone.stderr
    assert contents(empty, "c") == ["one", "one"]


def test_delete_needs_somebody_to_ask_or_yes(empty: RunningDaemon) -> None:
    ask(empty, "one", session="a")
    ask(empty, "one", session="b")

    unasked = qwenctl("sessions", "delete", "a", socket=empty.socket)
    assert unasked.returncode == Exit.USAGE
    assert contents(empty, "a")

    run(empty, "sessions", "delete", "--yes", "a", "b")
    assert run(empty, "sessions") == ""


def test_export_is_markdown_or_json_and_never_over_a_file(
    empty: RunningDaemon, tmp_path: Path
) -> None:
    ask(empty, "one\x1b[2J")
    file, page = tmp_path / "trip.json", tmp_path / "trip.md"

    run(empty, "sessions", "export", "trip", str(file))
    run(empty, "sessions", "export", "trip", str(page))
    again = qwenctl("sessions", "export", "trip", str(page), socket=empty.socket)

    assert [each["role"] for each in json.loads(file.read_text())["messages"]] == [
        "user",
        "assistant",
    ]
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    expected = "**user**\n\none\x1b[2J\n\n**assistant**\n\none\x1b[2J\n"
    assert page.read_text() == run(empty, "sessions", "export", "trip") == expected
    assert json.loads(run(empty, "sessions", "export", "trip", "--json"))["turns"] == 1
    assert again.returncode == Exit.USAGE
    assert "File exists" in again.stderr


def test_a_hostile_name_is_refused_before_it_is_sent(empty: RunningDaemon) -> None:
    done = qwenctl("sessions", "show", "../a", socket=empty.socket)
    assert done.returncode == Exit.REQUEST_FAILED
    assert "sessions.name is '../a'" in done.stderr


@pytest.mark.parametrize(
    ("changed_s", "text"), [(0.0, "1 min ago"), (60.0, "30 s ago"), (91.0, "just now")]
)
def test_a_time_is_told_as_people_do(changed_s: float, text: str) -> None:
    assert ago(changed_s, now_s=90.0) == text
