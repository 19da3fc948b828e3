"""Turns of sessions between the broker and a keeper that does its work when it is told to."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from qwend.config import SessionsConfig
from qwend.daemon.broker import Broker
from qwend.daemon.conversation_asks import ConversationAsks
from qwend.daemon.conversation_file import ConversationFile
from qwend.daemon.conversation_store import ConversationStore
from qwend.daemon.conversations import ASKS_AT_ONCE, Conversations
from qwend.engine.events import Failed, Produced
from qwend.errors import QwendError, RequestError
from qwend.wire.codes import ErrorCode
from qwend.wire.generation import Generation
from qwend.wire.notices import Error
from qwend.wire.prompt import ChatMessage
from qwend.wire.replies import Done, Token
from qwend.wire.requests import Chat, Prefill
from qwend.wire.sessions import Sessions, SessionsReply
from tests.daemon.fakes import FakeEngine, FakeOwner, FakeTimers, complete, config_with, finished


class HeldKeeper:
    """Does its work on a real store, but only when `work` is called."""

    def __init__(self, folder: Path) -> None:
        self.file = ConversationFile(folder / "sessions", lambda: 1.7e9, lambda reason: None)
        self.waiting: list[Callable[[], None]] = []
        self.failure: QwendError | None = None

    def do(self, work: Any, then: Any) -> None:
        self.waiting.append(lambda: then(self._outcome(work)))

    def work(self) -> None:
        """Do all that was asked, and what comes of it."""
        while self.waiting:
            self.waiting.pop(0)()

    def _outcome(self, work: Callable[[ConversationStore], Any]) -> Any:
        if self.failure is not None:
            return self.failure
        try:
            return work(self.file.store())
        except RequestError as error:
            return error


class Front:
    """A broker with an engine that does as it is told."""

    def __init__(self, folder: Path) -> None:
        self.timers = FakeTimers()
        self.keeper = HeldKeeper(folder)
        self.conversations = Conversations(SessionsConfig(), self.keeper)
        config = config_with(system_prompt="You help.", running_per_uid=1)
        self.broker = Broker(
            config,
            self.timers.clock,
            self.timers.call_later,
            conversations=self.conversations,
        )
        self.engine = FakeEngine()
        self.broker.lines.attach(self.engine)

    def ask(self, owner: FakeOwner, client_id: int, text: str, session: str = "a") -> None:
        """Up to the engine."""
        self.broker.submit(owner, chat(client_id, text, session))
        self.keeper.work()

    def say(self, *texts: str) -> None:
        """The engine answers the latest request."""
        self.broker.handle(
            [Produced(self.latest, at, (at,), text, 1.0) for at, text in enumerate(texts)]
        )

    def finish(self, reason: str = "stop") -> None:
        self.broker.handle([finished(self.latest, reason)])

    @property
    def latest(self) -> int:
        return self.engine.submitted[-1]

    def prompt(self) -> list[tuple[str, str]]:
        """What the latest request is computed from."""
        turns = [one for one in self.engine.messages if one["do"] == "submit"][-1]
        return [(turn["role"], turn["content"]) for turn in turns["request"]["turns"]]

    def kept(self, uid: int = 1000, session: str = "a") -> list[tuple[str, str | None]]:
        store = self.keeper.file.store()
        if session not in [each.name for each in store.listing(uid)[0]]:
            return []
        return [(each.content, each.finish_reason) for each in store.show(uid, session)[1]]


def chat(client_id: int, text: str, session: str | None = "a", **generation: Any) -> Chat:
    messages = (ChatMessage("user", text),)
    return Chat(client_id, messages, Generation(**generation), session=session)


@pytest.fixture
def front(tmp_path: Path) -> Iterator[Front]:
    front = Front(tmp_path)
    yield front
    front.keeper.file.close()


def test_done_waits_for_the_disk_and_tokens_do_not(front: Front) -> None:
    owner = FakeOwner()
    front.ask(owner, 4, "one")
    front.say("1", "!")
    front.finish()
    assert [type(each) for each in owner.messages] == [Token, Token]
    assert front.kept() == []
    assert len(front.broker.journal) == 1
    front.keeper.work()
    assert owner.done_of(4).finish_reason == "stop"
    assert front.kept() == [("one", None), ("1!", "stop")]
    assert len(front.broker.journal) == 0


def test_what_was_said_before_comes_behind_the_system_prompt(front: Front) -> None:
    owner = FakeOwner()
    for number, question in enumerate(("one", "two")):
        front.ask(owner, number, question)
        front.say(question.upper())
        front.finish()
        front.keeper.work()
    front.ask(owner, 2, "three")
    assert front.prompt() == [
        ("system", "You help."),
        ("user", "one"),
        ("assistant", "ONE"),
        ("user", "two"),
        ("assistant", "TWO"),
        ("user", "three"),
    ]


def test_a_prefill_reads_the_session_and_leaves_it_as_it_is(front: Front) -> None:
    owner = FakeOwner()
    front.ask(owner, 0, "one")
    front.say("1")
    # Also while an answer is being made: the person types the next question.
    front.broker.submit(owner, Prefill(1, (ChatMessage("user", "tw"),), partial=True, session="b"))
    front.keeper.work()
    front.finish()
    front.keeper.work()
    assert front.prompt() == [("system", "You help."), ("user", "tw")]
    front.finish("prefilled")
    front.keeper.work()
    assert owner.done_of(1).finish_reason == "prefilled"
    assert (front.kept(session="b"), len(front.kept())) == ([], 2)


def test_a_slow_disk_holds_up_nobody_else(front: Front) -> None:
    """One request of a uid runs at a time: the next starts while a turn is on its way."""
    owner = FakeOwner()
    front.ask(owner, 0, "one")
    front.broker.submit(owner, complete(1))
    assert len(front.engine.submitted) == 1
    front.finish()
    assert len(front.engine.submitted) == 2
    assert owner.ends_of(0) == []
    front.finish()
    assert owner.done_of(1).finish_reason == "stop"
    front.keeper.work()
    assert owner.done_of(0).finish_reason == "stop"


def test_a_second_question_meanwhile_is_refused_and_the_next_one_is_not(front: Front) -> None:
    owner, other = FakeOwner(), FakeOwner()
    front.ask(owner, 0, "one")
    front.broker.submit(other, chat(0, "two"))
    assert other.error_of(0).code == ErrorCode.BUSY
    assert other.error_of(0).retry_after_s
    front.broker.submit(other, chat(1, "three", "b"))
    front.broker.submit(FakeOwner(uid=7), chat(0, "four"))  # another's session of this name
    front.finish()
    front.broker.submit(other, chat(2, "five"))
    assert other.error_of(2).code == ErrorCode.BUSY  # it is not on the disk yet
    front.keeper.work()
    front.broker.submit(other, chat(3, "six"))
    assert other.ends_of(3) == []


def cancelled_in_the_queue(front: Front, owner: FakeOwner) -> None:
    front.broker.submit(FakeOwner(), complete(9))
    front.broker.submit(owner, chat(0, "one"))
    front.broker.cancel(owner, 0)


def cancelled_while_it_is_read(front: Front, owner: FakeOwner) -> None:
    front.broker.submit(owner, chat(0, "one"))
    front.broker.cancel(owner, 0)


def cancelled_before_any_text(front: Front, owner: FakeOwner) -> None:
    front.ask(owner, 0, "one")
    front.say("")
    front.finish("cancelled")


def failed(front: Front, owner: FakeOwner) -> None:
    front.ask(owner, 0, "one")
    front.say("1")
    front.broker.handle([Failed(front.latest, "internal", "broken")])


def expired(front: Front, owner: FakeOwner) -> None:
    front.broker.submit(owner, chat(0, "one", deadline_s=5.0))
    front.keeper.work()
    front.say("1")
    front.timers.advance(6.0)


def expired_while_it_is_read(front: Front, owner: FakeOwner) -> None:
    front.broker.submit(owner, chat(0, "one", deadline_s=5.0))
    front.timers.advance(6.0)


def lost_with_the_engine(front: Front, owner: FakeOwner) -> None:
    front.ask(owner, 0, "one")
    front.say("1")
    front.broker.fail_all(None, ErrorCode.ENGINE_LOST, "it died")


def left(front: Front, owner: FakeOwner) -> None:
    front.ask(owner, 0, "one")
    front.say("1")
    front.broker.drop(owner)


def left_while_it_is_read(front: Front, owner: FakeOwner) -> None:
    front.broker.submit(owner, chat(0, "one"))
    front.broker.drop(owner)


@pytest.mark.parametrize(
    "end",
    [
        cancelled_in_the_queue,
        cancelled_while_it_is_read,
        cancelled_before_any_text,
        failed,
        expired,
        expired_while_it_is_read,
        lost_with_the_engine,
        left,
        left_while_it_is_read,
    ],
)
def test_a_turn_that_ends_like_this_is_not_kept_and_the_session_is_free(
    front: Front, end: Callable[[Front, FakeOwner], None]
) -> None:
    owner = FakeOwner()
    end(front, owner)
    front.keeper.work()
    assert len(owner.ends_of(0)) == (0 if end in (left, left_while_it_is_read) else 1)
    assert front.kept() == []
    if end in (cancelled_while_it_is_read, expired_while_it_is_read, left_while_it_is_read):
        assert front.engine.submitted == []
    front.broker.fail_all(None, ErrorCode.INTERNAL, "over")
    front.ask(owner, 1, "two")
    front.say("2")
    front.finish()
    front.keeper.work()
    assert front.kept() == [("two", None), ("2", "stop")]


@pytest.mark.parametrize("reason", ["stop", "stop_string", "length", "cancelled"])
def test_an_answer_is_kept_with_how_it_ended(front: Front, reason: str) -> None:
    front.ask(FakeOwner(), 0, "one")
    front.say("half an ans")
    front.finish(reason)
    front.keeper.work()
    assert front.kept() == [("one", None), ("half an ans", reason)]


def test_reasoning_is_not_kept(front: Front) -> None:
    front.ask(FakeOwner(), 0, "one")
    front.broker.handle([Produced(front.latest, 0, (1,), "", 1.0, reasoning="hm")])
    front.say("1")
    front.finish()
    front.keeper.work()
    assert front.kept()[1] == ("1", "stop")


def test_an_answer_without_text_that_ended_well_is_a_turn(front: Front) -> None:
    front.ask(FakeOwner(), 0, "one")
    front.finish()
    front.keeper.work()
    assert front.kept() == [("one", None), ("", "stop")]


# Between the last token and the disk: nothing ends it twice, or with another word.


def test_a_turn_on_its_way_to_the_disk_ends_as_it_was(front: Front) -> None:
    owner = FakeOwner()
    front.broker.submit(owner, chat(0, "one", deadline_s=5.0))
    front.keeper.work()
    front.say("1")
    front.finish()
    front.broker.cancel(owner, 0)
    front.timers.advance(10.0)
    front.broker.lines.lost("it died")
    front.broker.lines.attach(front.engine)
    front.broker.fail_all(None, ErrorCode.SHUTTING_DOWN, "stopping")
    assert owner.ends_of(0) == []
    assert len(front.engine.submitted) == 1
    front.keeper.work()
    assert owner.done_of(0).finish_reason == "stop"
    for client_id in (1, 2):  # its place was given back once
        front.broker.submit(owner, complete(client_id))
    assert len(front.engine.submitted) == 2


def test_a_client_that_leaves_then_has_its_turn(front: Front) -> None:
    owner = FakeOwner()
    front.ask(owner, 0, "one")
    front.say("1")
    front.finish()
    front.broker.drop(owner)
    front.keeper.work()
    assert owner.ends_of(0) == []
    assert len(front.kept()) == 2


@pytest.mark.parametrize("code", ["no_space", "storage_error"])
def test_a_turn_that_cannot_be_kept_is_an_error_and_the_session_goes_on(
    front: Front, code: str
) -> None:
    owner = FakeOwner()
    front.ask(owner, 0, "one")
    front.say("1")
    front.finish()
    front.keeper.failure = RequestError("the disk of /x is full", code=code)
    front.keeper.work()
    assert owner.error_of(0) == Error(code, "the disk of /x is full", id=0)
    assert front.broker.journal.failed == 1
    front.keeper.failure = None
    front.ask(owner, 1, "two")
    assert front.prompt() == [("system", "You help."), ("user", "two")]


def test_a_session_that_cannot_be_read_is_an_error_and_never_computed(front: Front) -> None:
    owner = FakeOwner()
    front.keeper.failure = RequestError("broken", code="storage_error")
    front.ask(owner, 0, "one")
    assert owner.error_of(0).code == "storage_error"
    assert front.engine.submitted == []
    front.keeper.failure = None
    front.ask(owner, 1, "two")
    assert len(front.engine.submitted) == 1


def test_a_request_whose_session_is_read_outlives_an_engine(front: Front) -> None:
    owner = FakeOwner()
    front.broker.submit(owner, chat(0, "one"))
    front.broker.lines.lost("it died")
    front.keeper.work()
    assert front.engine.submitted == []
    front.broker.lines.attach(front.engine)
    assert len(front.engine.submitted) == 1
    assert owner.messages == []


def test_a_session_too_long_for_the_model_is_told_so(front: Front) -> None:
    owner = FakeOwner()
    front.ask(owner, 0, "one")
    front.broker.handle([Failed(front.latest, "context_exceeded", "the prompt is 600 tokens")])
    error = owner.error_of(0)
    assert error.code == "context_exceeded"
    assert error.message.startswith("session 'a' has become too long for the model: the prompt")
    assert "new session" in error.message


def test_limits_are_those_of_the_latest_reload(front: Front) -> None:
    owner = FakeOwner()
    front.ask(owner, 0, "one")
    front.finish()
    front.keeper.work()
    front.conversations.limits = SessionsConfig(per_uid=1)
    front.ask(owner, 1, "two", "b")
    assert owner.error_of(1).code == "no_space"
    assert len(front.engine.submitted) == 1


def test_without_sessions_a_chat_that_names_one_is_unsupported(timers: FakeTimers) -> None:
    broker = Broker(config_with(), timers.clock, timers.call_later)
    owner = FakeOwner()
    broker.submit(owner, chat(0, "one"))
    assert owner.error_of(0).code == "unsupported"
    ConversationAsks(broker.conversations, owner).take(Sessions(1, "list"))
    assert owner.error_of(1).code == "unsupported"
    assert broker.conversations.capabilities == ()


@pytest.fixture
def timers() -> FakeTimers:
    return FakeTimers()


# Questions about sessions


def replies(owner: FakeOwner) -> list[SessionsReply]:
    return [each for each in owner.messages if isinstance(each, SessionsReply)]


def test_a_question_is_answered_when_what_was_asked_before_is_done(front: Front) -> None:
    owner = FakeOwner()
    asks = ConversationAsks(front.conversations, owner)
    front.ask(owner, 0, "one")
    front.finish()
    asks.take(Sessions(1, "list"))
    assert list(asks.open_ids) == [1]
    front.keeper.work()
    assert not asks.open_ids
    assert isinstance(owner.messages[-2], Done)
    (reply,) = replies(owner)
    assert [(each.name, each.turns) for each in reply.sessions] == [("a", 1)]


def test_a_session_that_is_being_answered_is_not_renamed_or_deleted(front: Front) -> None:
    owner = FakeOwner()
    asks = ConversationAsks(front.conversations, owner)
    front.ask(owner, 0, "one")
    for client_id, act in enumerate(
        [
            Sessions(1, "delete", "a"),
            Sessions(2, "rename", "a", "b"),
            Sessions(3, "rename", "b", "a"),
        ],
        1,
    ):
        asks.take(act)
        assert owner.error_of(client_id).code == ErrorCode.BUSY
    asks.take(Sessions(4, "delete", "b"))
    front.keeper.work()
    assert owner.error_of(4).code == "unknown_session"
    front.finish()
    asks.take(Sessions(5, "show", "a"))  # reading it is no change
    front.keeper.work()
    asks.take(Sessions(6, "delete", "a"))
    front.keeper.work()
    assert [each.id for each in replies(owner)] == [5, 6]


def test_a_flood_of_questions_is_refused_beyond_a_few(front: Front) -> None:
    owner, other = FakeOwner(), FakeOwner(uid=7)
    asks = ConversationAsks(front.conversations, owner)
    for client_id in range(ASKS_AT_ONCE + 1):
        asks.take(Sessions(client_id, "list"))
    assert owner.error_of(ASKS_AT_ONCE).code == ErrorCode.BUSY
    ConversationAsks(front.conversations, other).take(Sessions(0, "list"))
    front.keeper.work()
    assert len(replies(owner)) == ASKS_AT_ONCE
    assert len(replies(other)) == 1
    asks.take(Sessions(99, "list"))
    front.keeper.work()
    assert len(replies(owner)) == ASKS_AT_ONCE + 1
