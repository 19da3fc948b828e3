"""The store of conversations beside a dictionary that is obviously right."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from qwend.config import SessionsConfig
from qwend.daemon.conversation_file import ConversationFile
from qwend.daemon.conversation_schema import Damaged
from qwend.daemon.conversation_store import ConversationStore
from qwend.errors import RequestError
from qwend.wire import limits
from qwend.wire.prompt import ChatMessage
from tests.wire.strategies import texts

ALLOWED = SessionsConfig()
KEY = tuple[int, str]


class Clock:
    """Each look at it is a second later."""

    def __init__(self) -> None:
        self.now = 1.7e9

    def __call__(self) -> float:
        self.now += 1.0
        return self.now


def open_file(folder: Path, degraded: list[str] | None = None) -> ConversationFile:
    told = [] if degraded is None else degraded
    return ConversationFile(folder / "sessions", Clock(), told.append)


@pytest.fixture
def store(tmp_path: Path) -> Any:
    file = open_file(tmp_path)
    yield file.store()
    file.close()


def user(text: str) -> ChatMessage:
    return ChatMessage("user", text)


def take_turn(
    store: ConversationStore, name: str, question: str, answer: str, uid: int = 1
) -> None:
    begun = store.begin(uid, name, (user(question),), ALLOWED)
    said = (*begun.new, ChatMessage("assistant", answer))
    store.append(uid, name, begun.base, said, "stop")


def refusal(call: Any, *arguments: Any) -> RequestError:
    with pytest.raises(RequestError) as caught:
        call(*arguments)
    return caught.value


class Conversations(RuleBasedStateMachine):
    """Two users, few names: everything that can collide does."""

    uids = st.integers(0, 1)
    names = st.sampled_from(["a", "A", "..a", "-"])
    messages = st.lists(
        st.builds(ChatMessage, st.sampled_from(["user", "assistant"]), texts),
        min_size=1,
        max_size=3,
    )

    @initialize()
    def open(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.file = open_file(Path(self.folder.name))
        self.model: dict[KEY, list[tuple[str, str, str | None]]] = {}
        self.turns: dict[KEY, int] = {}

    @rule(uid=uids, name=names, new=messages, reason=st.sampled_from(["stop", "cancelled"]))
    def take_a_turn(self, uid: int, name: str, new: list[ChatMessage], reason: str) -> None:
        store = self.file.store()
        begun = store.begin(uid, name, new, ALLOWED)
        had = self.model.get((uid, name), [])
        assert [(each.role, each.content) for each in begun.said] == [one[:2] for one in had]
        store.append(uid, name, begun.base, (*begun.new, ChatMessage("assistant", "!")), reason)
        said = [(each.role, each.content, None) for each in new]
        self.model[uid, name] = [*had, *said, ("assistant", "!", reason)]
        self.turns[uid, name] = self.turns.get((uid, name), 0) + 1

    @rule(uid=uids, name=names, to=names)
    def rename(self, uid: int, name: str, to: str) -> None:
        store = self.file.store()
        if (uid, name) not in self.model:
            assert refusal(store.rename, uid, name, to).code == "unknown_session"
        elif name != to and (uid, to) in self.model:
            assert refusal(store.rename, uid, name, to).code == "session_exists"
        else:
            assert store.rename(uid, name, to).name == to
            self.model[uid, to] = self.model.pop((uid, name))
            self.turns[uid, to] = self.turns.pop((uid, name))

    @rule(uid=uids, name=names)
    def delete(self, uid: int, name: str) -> None:
        store = self.file.store()
        if (uid, name) not in self.model:
            assert refusal(store.delete, uid, name).code == "unknown_session"
            return
        assert store.delete(uid, name).messages == len(self.model.pop((uid, name)))
        del self.turns[uid, name]

    @rule()
    def stop_and_start(self) -> None:
        self.file.close()

    @invariant()
    def it_holds_what_the_dictionary_holds(self) -> None:
        if not hasattr(self, "file"):
            return
        store = self.file.store()
        store.check()
        for uid in (0, 1):
            listed, more = store.listing(uid)
            assert not more
            assert {each.name for each in listed} == {n for u, n in self.model if u == uid}
            for each in listed:
                facts, said, more = store.show(uid, each.name)
                expected = self.model[uid, each.name]
                assert (facts, more) == (each, False)
                assert [(one.role, one.content, one.finish_reason) for one in said] == expected
                assert facts.turns == self.turns[uid, each.name]
                assert facts.messages == len(said)
                assert facts.bytes == sum(len(one.content.encode()) + 64 for one in said)
                assert facts.created_s <= facts.changed_s

    def teardown(self) -> None:
        if hasattr(self, "file"):
            self.file.close()
            self.folder.cleanup()


TestConversations = Conversations.TestCase
TestConversations.settings = settings(max_examples=10, stateful_step_count=20, deadline=None)


def test_text_of_every_kind_comes_back_as_it_was(store: ConversationStore) -> None:
    odd = "NUL \0 in it, \U0001f30c, \u202e, \ufeff, \r\n, ' \" ; --, \ufffd, \ud7ff"
    take_turn(store, "a", odd, odd * 1000)
    _, said, _ = store.show(1, "a")
    assert [each.content for each in said] == [odd, odd * 1000]


def test_pages_have_everything_once_and_in_order(store: ConversationStore) -> None:
    sizes = [300_000, 10, 250_000, 1, 0, 200_000]
    for number, size in enumerate(sizes):
        take_turn(store, "long", f"{number} " + "x" * size, "")
    said: list[str] = []
    pages = 0
    more = True
    while more:
        _, page, more = store.show(1, "long", len(said))
        assert page
        assert sum(len(each.content) for each in page) <= limits.SESSION_PAGE_BYTES
        said += [each.content for each in page]
        pages += 1
    assert pages == 2
    assert [len(one) for one in said] == [n for size in sizes for n in (size + 2, 0)]


def test_a_list_comes_in_pages(store: ConversationStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SESSION_PAGE_ENTRIES", 2)
    for name in "edcba":
        take_turn(store, name, "x", "y")
    pages = [store.listing(1, skip) for skip in (0, 2, 4, 6)]
    assert [[each.name for each in page] for page, _ in pages] == [
        ["e", "d"],
        ["c", "b"],
        ["a"],
        [],
    ]
    assert [more for _, more in pages] == [True, True, False, False]


def test_a_turn_that_a_change_has_overtaken_is_not_kept(store: ConversationStore) -> None:
    take_turn(store, "a", "one", "1")
    begun = store.begin(1, "a", (user("two"),), ALLOWED)
    take_turn(store, "a", "meanwhile", "m")
    error = refusal(store.append, 1, "a", begun.base, (user("two"),), "stop")
    assert error.code == "busy"
    assert store.show(1, "a")[0].turns == 2


def test_a_system_message_is_kept_once_and_cannot_be_changed(store: ConversationStore) -> None:
    brief = ChatMessage("system", "Be brief.")
    begun = store.begin(1, "a", (brief, user("one")), ALLOWED)
    store.append(1, "a", 0, (*begun.new, ChatMessage("assistant", "1")), "stop")
    assert store.begin(1, "a", (brief, user("two")), ALLOWED).new == (user("two"),)
    other = ChatMessage("system", "Be long.")
    assert "another system message" in str(
        refusal(store.begin, 1, "a", (other, user("x")), ALLOWED)
    )
    take_turn(store, "b", "one", "1")
    assert "no system message" in str(refusal(store.begin, 1, "b", (brief, user("x")), ALLOWED))


def test_no_session_is_longer_than_one_may_be(store: ConversationStore) -> None:
    most = limits.SESSION_BYTES - 2 * limits.SESSION_MESSAGE_BYTES
    take_turn(store, "a", "x" * most, "")
    assert refusal(store.begin, 1, "a", (user(""),), ALLOWED).code == "context_exceeded"
    begun = store.begin(1, "b", (user("x" * most),), ALLOWED)
    turn = (*begun.new, ChatMessage("assistant", "é"))
    assert refusal(store.append, 1, "b", 0, turn, "stop").code == "context_exceeded"
    assert [each.name for each in store.listing(1)[0]] == ["a"]


def test_a_full_account_is_told_before_an_answer_and_never_after(store: ConversationStore) -> None:
    allowed = SessionsConfig(per_uid=2, mb_per_uid=1)
    for name in "ab":
        take_turn(store, name, "x" * 400_000, "y" * 100_000)
    third = refusal(store.begin, 1, "c", (user("x"),), allowed)
    assert third.code == "no_space"
    assert "per_uid under [sessions]" in str(third)
    assert store.begin(1, "a", (user("x" * 40_000),), allowed).base == 2
    full = refusal(store.begin, 1, "a", (user("x" * 60_000),), allowed)
    assert full.code == "no_space"
    assert "mb_per_uid" in str(full)
    # Another's account is another's.
    assert store.begin(2, "c", (user("x"),), allowed).base == 0
    # What was allowed to begin is kept, however long the answer.
    begun = store.begin(1, "a", (user("x"),), allowed)
    turn = (*begun.new, ChatMessage("assistant", "y" * 200_000))
    store.append(1, "a", begun.base, turn, "stop")
    assert store.show(1, "a")[0].turns == 2


@pytest.mark.row("G6")
def test_a_session_of_one_user_is_nothing_to_another(store: ConversationStore) -> None:
    take_turn(store, "a", "secret", "answer", uid=1)
    assert store.listing(2) == ((), False)
    for call in (store.show, store.delete):
        assert refusal(call, 2, "a").code == "unknown_session"
    assert refusal(store.rename, 2, "a", "b").code == "unknown_session"
    assert store.begin(2, "a", (user("x"),), ALLOWED).said == ()
    take_turn(store, "a", "mine", "also mine", uid=2)
    store.delete(2, "a")
    assert store.show(1, "a")[1][0].content == "secret"


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE message SET content = 'Secret' WHERE place = 0",
        "UPDATE message SET role = 'system' WHERE place = 0",
        "UPDATE message SET finish_reason = 'length' WHERE place = 1",
        "UPDATE message SET at_s = at_s + 1",
        "UPDATE message SET place = 7 WHERE place = 1",
        "DELETE FROM message WHERE place = 1",
        "UPDATE conversation SET uid = 2",
        "UPDATE conversation SET name = 'b'",
        "UPDATE conversation SET turns = 2",
        "UPDATE conversation SET created_s = 0",
        "INSERT INTO message SELECT 9, place, role, content, at_s, finish_reason, 0 FROM message",
        "CREATE TABLE planted (x)",
        "CREATE TRIGGER planted AFTER INSERT ON message BEGIN DELETE FROM message; END",
        "PRAGMA application_id = 1",
    ],
)
def test_a_change_that_was_not_ours_is_noticed(store: ConversationStore, change: str) -> None:
    take_turn(store, "a", "secret", "answer")
    store.check()
    store._connection.execute("PRAGMA foreign_keys = OFF")
    store._connection.execute(change)
    with pytest.raises(Damaged):
        store.check()
