"""A turn whose connection is lost: asked again, or found to be kept by the daemon."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any, cast

import pytest

from qwend.cli.answer import Screen
from qwend.cli.chat.conversation import Conversation
from qwend.cli.chat.link import Link
from qwend.cli.chat.turn import Settings, Turns
from qwend.client import (
    ChatMessage,
    ConnectionLost,
    Done,
    KeptSession,
    RequestFailed,
    SessionFacts,
    SessionMessage,
    Token,
    Usage,
    Welcome,
)

WELCOME = Welcome("fake 1", "fake", 512, ("sessions",))
DONE = Done(0, "stop", Usage(1, 0, 1))


class Answer(AbstractContextManager["Answer"]):
    """Tokens, and then its end or the connection's."""

    def __init__(self, texts: list[str], *, lost: bool) -> None:
        self._texts, self._lost = texts, lost

    def events(self) -> Iterator[Token]:
        for index, text in enumerate(self._texts):
            yield Token(0, index, (index,), text)
        if self._lost:
            raise ConnectionLost("the daemon closed the connection")

    def wait(self) -> Done:
        return DONE

    def cancel(self) -> None: ...

    def __exit__(self, *exit: object) -> None: ...


class FakeClient:
    """kept: what the daemon has of the session. answers: to one question after another."""

    welcome = WELCOME

    def __init__(self, kept: list[tuple[str, str]] | None, answers: list[Answer]) -> None:
        self.kept = kept
        self.answers = answers
        self.asked: list[Any] = []

    def chat(self, messages: Any, **options: Any) -> Answer:
        self.asked.append(messages)
        return self.answers.pop(0)

    def session(self, name: str) -> KeptSession:
        if self.kept is None:
            raise RequestFailed("unknown_session", "there is none")
        said: list[SessionMessage] = []
        for question, answer in self.kept:
            said.append(SessionMessage("user", question, 1.0))
            said.append(SessionMessage("assistant", answer, 1.0, "stop"))
        return KeptSession(SessionFacts(name, len(self.kept), len(said), 1, 1.0, 1.0), tuple(said))

    def close(self) -> None: ...


class Chat:
    def __init__(self, client: FakeClient, session: str | None = "trip") -> None:
        self.notices: list[str] = []
        self.out = io.StringIO()
        self.conversation = Conversation(session=session)
        link = Link(cast(Any, lambda: client), self.notices.append)
        screen = Screen(self.out)
        self.turns = Turns(link, self.conversation, Settings({}), screen, self.notices.append)

    @property
    def said(self) -> list[str]:
        return [each.content for each in self.conversation.messages]


@pytest.mark.parametrize("shown", [[], ["Ro"], ["Ro", "me."]])
def test_an_answer_that_the_daemon_has_kept_is_shown_to_its_end_and_not_asked_again(
    shown: list[str],
) -> None:
    client = FakeClient([("Where?", "Rome.")], [Answer(shown, lost=True)])
    chat = Chat(client)
    assert chat.turns.take("Where?")
    assert chat.out.getvalue() == "Rome.\n"
    assert chat.said == ["Where?", "Rome."]
    assert len(client.asked) == 1


@pytest.mark.parametrize("kept", [None, []])
def test_a_question_that_it_has_not_kept_is_asked_again(kept: Any) -> None:
    client = FakeClient(kept, [Answer([], lost=True), Answer(["Rome."], lost=False)])
    chat = Chat(client)
    assert chat.turns.take("Where?")
    assert chat.said == ["Where?", "Rome."]
    assert client.asked == [(ChatMessage("user", "Where?"),)] * 2


def test_half_an_answer_that_it_has_not_kept_is_taken_back_and_told() -> None:
    client = FakeClient([("Before?", "Yes.")], [Answer(["Ro"], lost=True)])
    chat = Chat(client)
    chat.conversation.ask("Before?")
    chat.conversation.answer("Yes.")
    assert not chat.turns.take("Where?")
    assert chat.said == ["Before?", "Yes."]
    assert any("closed the connection" in notice for notice in chat.notices)


def test_without_a_session_nobody_else_has_kept_it() -> None:
    client = FakeClient(None, [Answer(["Ro"], lost=True)])
    chat = Chat(client, session=None)
    assert not chat.turns.take("Where?")
    assert chat.said == ["Where?", "Ro"]
