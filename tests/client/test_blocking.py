"""The blocking client against a daemon that says exactly what the test wants."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from qwend.client import ChatMessage, Client, ConnectionLost, RequestFailed
from qwend.wire import (
    Accepted,
    Cancel,
    Chat,
    Complete,
    Credit,
    Done,
    Error,
    Generation,
    GoAway,
    Hello,
    Ping,
    Pong,
    Prefill,
    Progress,
    Status,
    StatusReply,
    Token,
    Tokenize,
    Usage,
)
from tests.client.fake_daemon import WELCOME, Talk, fake_daemon


def test_a_chat_yields_its_tokens_in_order_and_then_the_result(socket_path: Path) -> None:
    def script(talk: Talk) -> None:
        talk.greet()
        chat = talk.expect(Chat)
        assert chat.messages == (ChatMessage("user", "why?"),)
        assert chat.generation == Generation(max_tokens=9, stop=("\n",), logit_bias=((7, -1.0),))
        talk.say(Accepted(chat.id, 3, 0), Progress(chat.id, "prefill", 3, 3))
        talk.answer(chat.id, "be", "cause")
        talk.finish(chat.id)
        talk.expect_end()

    with fake_daemon(socket_path, script) as path, Client(path) as client:
        stream = client.chat("why?", max_tokens=9, stop="\n", logit_bias={7: -1})
        assert stream.result is None
        assert [token.text for token in stream] == ["be", "cause"]
        assert stream.text == "because"
        assert stream.accepted == Accepted(0, 3, 0)
        assert stream.result == Done(0, "stop", Usage(3, 0, 1))
        assert client.welcome == WELCOME


def test_events_show_what_comes_before_the_tokens(socket_path: Path) -> None:
    def script(talk: Talk) -> None:
        talk.greet()
        talk.expect(Complete)
        talk.say(Progress(0, "queued", 0, 2), Accepted(0, 3, 0))
        talk.answer(0, "x")
        talk.finish(0)

    with fake_daemon(socket_path, script) as path, Client(path) as client:
        events = list(client.complete([1, 2, 3]).events())
    assert events == [Progress(0, "queued", 0, 2), Accepted(0, 3, 0), Token(0, 0, (1000,), "x")]


def test_two_answers_that_come_interleaved_are_each_read_whole(socket_path: Path) -> None:
    def script(talk: Talk) -> None:
        talk.greet()
        first, second = talk.expect(Chat).id, talk.expect(Chat).id
        for index in range(3):
            talk.answer(first, f"a{index}", start=index)
            talk.answer(second, f"b{index}", start=index)
        talk.finish(second)
        talk.finish(first)

    with fake_daemon(socket_path, script) as path, Client(path) as client:
        first, second = client.chat("a"), client.chat("b")
        assert next(iter(first)).text == "a0"
        assert second.wait().id == 1
        assert second.text == "b0b1b2"
        assert first.wait().id == 0
        assert first.text == "a0a1a2"


def test_an_error_ends_its_own_request_and_no_other(socket_path: Path) -> None:
    def script(talk: Talk) -> None:
        talk.greet()
        talk.expect(Chat)
        talk.expect(Chat)
        talk.say(Error("busy", "all places are taken", id=0, retry_after_s=1.5))
        talk.answer(1, "fine")
        talk.finish(1)

    with fake_daemon(socket_path, script) as path, Client(path) as client:
        refused, answered = client.chat("a"), client.chat("b")
        with pytest.raises(RequestFailed, match="all places are taken") as caught:
            refused.wait()
        assert (caught.value.code, caught.value.retry_after_s) == ("busy", 1.5)
        answered.wait()
        assert answered.text == "fine"


def test_cancel_is_sent_and_the_rest_can_still_be_read(socket_path: Path) -> None:
    def script(talk: Talk) -> None:
        talk.greet()
        talk.expect(Chat)
        talk.answer(0, "one")
        talk.expect(Cancel)
        talk.answer(0, "two", start=1)
        talk.finish(0, "cancelled")

    with fake_daemon(socket_path, script) as path, Client(path) as client:
        stream = client.chat("a")
        next(iter(stream))
        stream.cancel()
        assert stream.wait().finish_reason == "cancelled"
        assert stream.text == "onetwo"


def test_leaving_a_stream_early_cancels_it_and_drops_what_still_comes(socket_path: Path) -> None:
    def script(talk: Talk) -> None:
        talk.greet()
        talk.expect(Chat)
        talk.answer(0, "one")
        assert talk.expect(Cancel).id == 0
        talk.answer(0, "two", start=1)
        talk.finish(0, "cancelled")
        talk.say(Pong(talk.expect(Ping).nonce))

    with fake_daemon(socket_path, script) as path, Client(path) as client:
        with client.chat("a") as stream:
            next(iter(stream))
        assert list(stream) == []
        assert stream.text == "one"
        assert client.ping() < 10


def test_half_of_the_credit_read_is_granted_again(socket_path: Path) -> None:
    def script(talk: Talk) -> None:
        talk.greet()
        assert talk.expect(Chat).generation.credit == 4
        talk.answer(0, "a", "b", "c", "d")
        assert talk.expect(Credit) == Credit(0, 2)
        assert talk.expect(Credit) == Credit(0, 2)
        talk.finish(0)

    with fake_daemon(socket_path, script) as path, Client(path) as client:
        client.chat("a", credit=4).wait()


def test_with_credit_0_each_token_waits_for_a_grant(socket_path: Path) -> None:
    def script(talk: Talk) -> None:
        talk.greet()
        talk.expect(Chat)
        assert talk.expect(Credit) == Credit(0, 1)
        talk.answer(0, "a")
        talk.finish(0)

    with fake_daemon(socket_path, script) as path, Client(path) as client:
        stream = client.chat("a", credit=0)
        stream.grant(1)
        stream.wait()


def test_prefill_tokenize_status_and_ping_return_their_answers(socket_path: Path) -> None:
    def script(talk: Talk) -> None:
        talk.greet()
        assert talk.expect(Prefill).prompt == "so far"
        talk.finish(0, "prefilled")
        assert talk.expect(Prefill).messages == (ChatMessage("user", "so far"),)
        talk.finish(1, "prefilled")
        assert talk.expect(Tokenize) == Tokenize(2, "hi", special=True)
        talk.say(Done(2, "tokenized", Usage(0, 0, 0), tokens=(5, 6)))
        talk.expect(Status)
        talk.say(StatusReply({"state": "ready"}))
        talk.say(Pong(talk.expect(Ping).nonce))

    with fake_daemon(socket_path, script) as path, Client(path) as client:
        assert client.prefill(prompt="so far").finish_reason == "prefilled"
        assert client.prefill("so far").finish_reason == "prefilled"
        assert client.tokenize("hi", special=True) == (5, 6)
        assert client.status() == {"state": "ready"}
        assert 0 < client.ping() < 10


def test_a_prefill_of_a_message_being_written_can_be_given_up(socket_path: Path) -> None:
    def script(talk: Talk) -> None:
        talk.greet()
        assert talk.expect(Prefill) == Prefill(0, (ChatMessage("user", "Why is"),), partial=True)
        talk.finish(0, "prefilled")
        assert talk.expect(Prefill).partial
        assert talk.expect(Cancel) == Cancel(1)
        talk.finish(1, "cancelled")

    with fake_daemon(socket_path, script) as path, Client(path) as client:
        assert client.prefill("Why is", partial=True).finish_reason == "prefilled"
        stream = client.start_prefill("Why is the s", partial=True)
        stream.cancel()
        assert stream.wait().finish_reason == "cancelled"


def test_reasoning_is_asked_for_and_read_apart_from_the_text(socket_path: Path) -> None:
    def script(talk: Talk) -> None:
        talk.greet()
        assert talk.expect(Chat).thinking is True
        talk.say(Token(0, 0, (1, 2), "", "Hm"), Token(0, 2, (3,), "Yes", "."))
        talk.finish(0)
        assert talk.expect(Chat).thinking is None
        assert talk.expect(Prefill).thinking is False
        talk.finish(2, "prefilled")

    with fake_daemon(socket_path, script) as path, Client(path) as client:
        stream = client.chat("x", thinking=True)
        assert [token.reasoning for token in stream] == ["Hm", "."]
        assert (stream.reasoning, stream.text) == ("Hm.", "Yes")
        client.chat("x")
        client.prefill("x", thinking=False)


def test_a_priority_is_sent_as_it_is_given_and_else_left_to_the_daemon(socket_path: Path) -> None:
    def script(talk: Talk) -> None:
        talk.greet()
        for priority in ("background", None):
            assert talk.expect(Chat).priority == priority
            assert talk.expect(Complete).priority == priority
            assert talk.expect(Prefill).priority == priority
        assert talk.expect(Prefill).priority == "interactive"
        talk.finish(6, "prefilled")

    with fake_daemon(socket_path, script) as path, Client(path) as client:
        client.chat("x", priority="background")
        client.complete("x", priority="background")
        client.start_prefill("x", priority="background")
        client.chat("x")
        client.complete("x")
        client.start_prefill("x")
        client.prefill("x", priority="interactive")


def test_a_value_the_daemon_would_refuse_is_refused_before_it_is_sent(socket_path: Path) -> None:
    def script(talk: Talk) -> None:
        talk.greet()
        talk.expect_end()

    with fake_daemon(socket_path, script) as path, Client(path) as client:
        with pytest.raises(RequestFailed, match=r"chat\.temperature is -1"):
            client.chat("a", temperature=-1)
        with pytest.raises(RequestFailed, match=r"lone surrogate"):
            client.chat("\udc80")
        with pytest.raises(RequestFailed, match="at most"):
            client.chat("x" * 2**20)
        with pytest.raises(RequestFailed, match=r"role is 'robot'"):
            client.chat([{"role": "robot", "content": "hi"}])
        with pytest.raises(RequestFailed, match=r"messages\[0\] must be"):
            client.chat([{"role": "user"}])
        with pytest.raises(TypeError, match="temprature"):
            client.chat("a", temprature=1)  # type: ignore[call-arg]


def test_a_daemon_that_dies_ends_every_stream_once_what_came_is_read(socket_path: Path) -> None:
    def script(talk: Talk) -> None:
        talk.greet()
        talk.expect(Chat)
        talk.expect(Chat)
        talk.answer(0, "one")

    with fake_daemon(socket_path, script) as path, Client(path) as client:
        first, second = client.chat("a"), client.chat("b")
        with pytest.raises(ConnectionLost, match="closed the connection"):
            second.wait()
        with pytest.raises(ConnectionLost):
            first.wait()
        assert first.text == "one"
        with pytest.raises(ConnectionLost):
            client.ping()


def test_the_loss_tells_the_daemons_reason(socket_path: Path) -> None:
    def script(talk: Talk) -> None:
        talk.greet()
        talk.expect(Chat)
        talk.say(GoAway("shutting_down", "back in a minute"))

    with (
        fake_daemon(socket_path, script) as path,
        Client(path) as client,
        pytest.raises(ConnectionLost, match="back in a minute"),
    ):
        client.chat("a").wait()


def test_a_fatal_error_ends_the_connection_even_if_the_daemon_does_not(socket_path: Path) -> None:
    def script(talk: Talk) -> None:
        talk.greet()
        talk.expect(Chat)
        talk.say(Error("bad_frame", "gibberish"))
        assert talk.socket.recv(1) == b""

    with (
        fake_daemon(socket_path, script) as path,
        Client(path) as client,
        pytest.raises(ConnectionLost, match=r"gibberish \(bad_frame\)"),
    ):
        client.chat("a").wait()


@pytest.mark.parametrize(
    "broken", [b"\xff\xff\xff\xff", b"\0\0\0\x01\xc1", b"\0\0\0\x07\x81\xa2op\xa2no"]
)
def test_a_daemon_that_speaks_gibberish_is_a_lost_connection(
    socket_path: Path, broken: bytes
) -> None:
    def script(talk: Talk) -> None:
        talk.greet()
        talk.expect(Chat)
        talk.socket.sendall(broken)
        assert talk.socket.recv(1) == b""

    with (
        fake_daemon(socket_path, script) as path,
        Client(path) as client,
        pytest.raises(ConnectionLost, match="cannot read"),
    ):
        client.chat("a").wait()


def test_a_gap_in_the_answer_is_noticed(socket_path: Path) -> None:
    def script(talk: Talk) -> None:
        talk.greet()
        talk.expect(Chat)
        talk.answer(0, "two", start=1)

    with (
        fake_daemon(socket_path, script) as path,
        Client(path) as client,
        pytest.raises(ConnectionLost, match="token 1 came where 0 was due"),
    ):
        client.chat("a").wait()


def test_a_daemon_that_stops_answering_is_noticed_within_the_timeout(socket_path: Path) -> None:
    def script(talk: Talk) -> None:
        talk.greet()
        talk.expect(Ping)
        talk.expect_end()

    with (
        fake_daemon(socket_path, script) as path,
        Client(path, timeout_s=0.3) as client,
        pytest.raises(ConnectionLost, match=r"no answer within 0\.3 s"),
    ):
        client.ping()


def test_the_client_introduces_itself(socket_path: Path) -> None:
    def script(talk: Talk) -> None:
        assert talk.expect(Hello) == Hello(
            client="thermostat", capabilities=("reasoning", "energy", "recovering", "loading")
        )
        talk.say(WELCOME)

    with fake_daemon(socket_path, script) as path, Client(path, name="thermostat"):
        pass


def test_importing_the_client_imports_neither_asyncio_nor_an_engine() -> None:
    heavy = {"asyncio", "llama_cpp", "numpy", "ssl", "rich", "click"}
    code = "import qwend.client, sys; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert heavy.isdisjoint(loaded.stdout.split())
