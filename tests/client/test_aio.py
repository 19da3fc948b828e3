"""The asyncio client against a daemon that says exactly what the test wants."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest

from qwend.client import AsyncClient, ChatMessage, ConnectionLost, RequestFailed
from qwend.wire import (
    Cancel,
    Chat,
    Complete,
    Credit,
    Done,
    Error,
    Ping,
    Pong,
    Prefill,
    Status,
    StatusReply,
    Tokenize,
    Usage,
)
from tests.client.fake_daemon import DEADLINE_S, WELCOME, Talk, fake_daemon


def test_three_answers_come_at_once_over_one_connection(socket_path: Path) -> None:
    def script(talk: Talk) -> None:
        talk.greet()
        ids = {talk.expect(Chat).messages[0].content: number for number in range(3)}
        for index in range(4):
            for question, number in ids.items():
                talk.answer(number, f"{question}{index} ", start=index)
        for number in ids.values():
            talk.finish(number)
        talk.expect_end()

    async def ask(client: AsyncClient, question: str) -> str:
        stream = await client.chat(question)
        return "".join([token.text async for token in stream])

    async def run(path: Path) -> list[str]:
        async with AsyncClient(path) as client:
            assert client.welcome == WELCOME
            return await asyncio.gather(*(ask(client, question) for question in "abc"))

    with fake_daemon(socket_path, script) as path:
        answers = asyncio.run(run(path))
    assert answers == [f"{letter}0 {letter}1 {letter}2 {letter}3 " for letter in "abc"]


def test_a_prefill_of_a_message_being_written_can_be_given_up(socket_path: Path) -> None:
    def script(talk: Talk) -> None:
        talk.greet()
        assert talk.expect(Prefill) == Prefill(0, (ChatMessage("user", "Why is"),), partial=True)
        talk.finish(0, "prefilled")
        assert talk.expect(Prefill).partial
        assert talk.expect(Cancel) == Cancel(1)
        talk.finish(1, "cancelled")

    async def run(path: Path) -> None:
        async with AsyncClient(path) as client:
            done = await client.prefill("Why is", partial=True)
            assert done.finish_reason == "prefilled"
            stream = await client.start_prefill("Why is the s", partial=True)
            await stream.cancel()
            assert (await stream.wait()).finish_reason == "cancelled"

    with fake_daemon(socket_path, script) as path:
        asyncio.run(run(path))


def test_a_priority_is_sent_as_it_is_given_and_else_left_to_the_daemon(socket_path: Path) -> None:
    def script(talk: Talk) -> None:
        talk.greet()
        for priority in ("background", None):
            assert talk.expect(Chat).priority == priority
            assert talk.expect(Complete).priority == priority
            assert talk.expect(Prefill).priority == priority
        assert talk.expect(Prefill).priority == "interactive"
        talk.finish(6, "prefilled")

    async def run(path: Path) -> None:
        async with AsyncClient(path) as client:
            await client.chat("x", priority="background")
            await client.complete("x", priority="background")
            await client.start_prefill("x", priority="background")
            await client.chat("x")
            await client.complete("x")
            await client.start_prefill("x")
            await client.prefill("x", priority="interactive")

    with fake_daemon(socket_path, script) as path:
        asyncio.run(run(path))


def test_every_other_question_is_answered(socket_path: Path) -> None:
    def script(talk: Talk) -> None:
        talk.greet()
        talk.expect(Prefill)
        talk.finish(0, "prefilled")
        talk.expect(Tokenize)
        talk.say(Done(1, "tokenized", Usage(0, 0, 0), tokens=(5,)))
        talk.expect(Status)
        talk.say(StatusReply({"state": "ready"}))
        talk.say(Pong(talk.expect(Ping).nonce))
        assert talk.expect(Complete).prompt == (1, 2)
        talk.answer(3, "x")
        talk.finish(3)

    async def run(path: Path) -> None:
        async with AsyncClient(path) as client:
            assert (await client.prefill("hi")).finish_reason == "prefilled"
            assert await client.tokenize("x") == (5,)
            assert await client.status() == {"state": "ready"}
            assert 0 < await client.ping() < 10
            stream = await client.complete([1, 2])
            assert (await stream.wait()).id == 3
            assert stream.text == "x"

    with fake_daemon(socket_path, script) as path:
        asyncio.run(run(path))


def test_an_error_ends_its_own_request_and_no_other(socket_path: Path) -> None:
    def script(talk: Talk) -> None:
        talk.greet()
        talk.expect(Chat)
        talk.expect(Chat)
        talk.say(Error("context_exceeded", "too long", id=0))
        talk.answer(1, "fine")
        talk.finish(1)

    async def run(path: Path) -> None:
        async with AsyncClient(path) as client:
            refused, answered = await client.chat("a"), await client.chat("b")
            with pytest.raises(RequestFailed, match="too long"):
                await refused.wait()
            await answered.wait()
            assert answered.text == "fine"

    with fake_daemon(socket_path, script) as path:
        asyncio.run(run(path))


def test_leaving_a_stream_early_cancels_it(socket_path: Path) -> None:
    def script(talk: Talk) -> None:
        talk.greet()
        talk.expect(Chat)
        talk.answer(0, "one")
        talk.expect(Cancel)
        talk.finish(0, "cancelled")
        talk.say(Pong(talk.expect(Ping).nonce))

    async def run(path: Path) -> None:
        async with AsyncClient(path) as client:
            async with await client.chat("a") as stream:
                async for _ in stream:
                    break
            await client.ping()
            assert stream.result is None

    with fake_daemon(socket_path, script) as path:
        asyncio.run(run(path))


def test_half_of_the_credit_read_is_granted_again(socket_path: Path) -> None:
    def script(talk: Talk) -> None:
        talk.greet()
        talk.expect(Chat)
        talk.answer(0, "a", "b")
        assert talk.expect(Credit) == Credit(0, 1)
        assert talk.expect(Credit) == Credit(0, 1)
        talk.finish(0)

    async def run(path: Path) -> None:
        async with AsyncClient(path) as client:
            await (await client.chat("a", credit=2)).wait()

    with fake_daemon(socket_path, script) as path:
        asyncio.run(run(path))


def test_a_daemon_that_dies_wakes_everybody_who_waits(socket_path: Path) -> None:
    def script(talk: Talk) -> None:
        talk.greet()
        talk.expect(Chat)
        talk.expect(Ping)
        talk.expect(Status)

    async def run(path: Path) -> list[object]:
        async with AsyncClient(path) as client:
            stream = await client.chat("a")
            ends = await asyncio.gather(
                stream.wait(), client.ping(), client.status(), return_exceptions=True
            )
            return list(ends)

    with fake_daemon(socket_path, script) as path:
        assert [type(end) for end in asyncio.run(run(path))] == [ConnectionLost] * 3


def test_a_daemon_that_stops_answering_is_noticed_within_the_timeout(socket_path: Path) -> None:
    def script(talk: Talk) -> None:
        talk.greet()
        talk.expect(Ping)
        talk.expect_end()

    async def run(path: Path) -> None:
        async with AsyncClient(path, timeout_s=0.3) as client:
            with pytest.raises(ConnectionLost, match="no answer within"):
                await client.ping()

    with fake_daemon(socket_path, script) as path:
        asyncio.run(run(path))


def test_closing_the_client_ends_its_streams(socket_path: Path) -> None:
    def script(talk: Talk) -> None:
        talk.greet()
        talk.expect(Chat)
        talk.expect_end()

    async def run(path: Path) -> None:
        async with AsyncClient(path) as client:
            stream = await client.chat("a")
            reading = asyncio.create_task(stream.wait())
            await asyncio.sleep(0)
        with pytest.raises(ConnectionLost, match="has been closed"):
            await reading

    with fake_daemon(socket_path, script) as path:
        asyncio.run(run(path))


def test_a_daemon_that_does_not_read_is_noticed_within_the_timeout(socket_path: Path) -> None:
    closed = threading.Event()

    def script(talk: Talk) -> None:
        talk.greet()
        assert closed.wait(DEADLINE_S)

    async def run(path: Path) -> None:
        async with AsyncClient(path, timeout_s=0.3) as client:
            text = "x" * 1_000_000  # more than a socket holds
            with pytest.raises(ConnectionLost, match="does not read"):
                await (await client.chat(text)).wait()
        closed.set()

    with fake_daemon(socket_path, script) as path:
        asyncio.run(run(path))


def test_a_cancelled_sender_leaves_its_frame_whole(socket_path: Path) -> None:
    cancelled = threading.Event()

    def script(talk: Talk) -> None:
        talk.greet()
        assert cancelled.wait(DEADLINE_S)
        assert talk.expect(Chat).messages[0].content == "x" * 1_000_000
        talk.say(Pong(talk.expect(Ping).nonce))

    async def run(path: Path) -> None:
        async with AsyncClient(path) as client:
            sending = asyncio.create_task(client.chat("x" * 1_000_000))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            sending.cancel()
            with pytest.raises(asyncio.CancelledError):
                await sending
            cancelled.set()
            assert await client.ping() < DEADLINE_S

    with fake_daemon(socket_path, script) as path:
        asyncio.run(run(path))
