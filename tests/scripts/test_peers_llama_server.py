"""llama-server as we speak to it: a stand-in on its socket, in the same event loop."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from scripts.bench_support.peers.answer import Answer
from scripts.bench_support.peers.llama_server import FLAGS, SHIPPED, TUNED, LlamaServer, is_last
from scripts.bench_support.peers.scripted_server import SETUP
from scripts.bench_support.peers.server import ServerFailed

OK = b"HTTP/1.1 200 OK\r\n\r\n"


@pytest.fixture
def server() -> Iterator[LlamaServer]:
    made = LlamaServer(SHIPPED, SETUP)
    yield made
    made.close()


def event(**fields: Any) -> bytes:
    return b"data: " + json.dumps(fields).encode() + b"\n\n"


def told(
    server: LlamaServer, reply: bytes, ask: Callable[[], Awaitable[Answer]], *, ends: bool = True
) -> tuple[dict[str, Any], Answer]:
    """The body that was sent, and the answer. ends: the server closes after its reply."""
    bodies = []
    over = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.split(b"Content-Length: ")[1].split(b"\r\n")[0])
        bodies.append(json.loads(await reader.readexactly(length)))
        writer.write(reply)
        if not ends:
            await reader.read()  # until the client has had enough
        writer.close()
        await writer.wait_closed()
        over.set()

    async def run() -> Answer:
        async with await asyncio.start_unix_server(serve, server.socket):
            try:
                return await ask()
            finally:
                await over.wait()

    answer = asyncio.run(run())
    return bodies[0], answer


def test_tokens_are_counted_as_the_server_counts_them(server: LlamaServer) -> None:
    # Half a character is held back: the second event has two tokens.
    reply = OK + event(tokens_predicted=1) + event(tokens_predicted=3) + event(stop=True)
    body, answer = told(server, reply, lambda: server.stream([1, 2], 3))
    assert [count for count, _ in answer.times.arrivals] == [1, 3]
    assert answer.times.sent_s < answer.first_at_s
    assert body == {
        "prompt": [1, 2],
        "n_predict": 3,
        "stream": True,
        "ignore_eos": True,
        "cache_prompt": True,
        "seed": 1,
        "temperature": 0.7,
        "top_k": 40,
        "top_p": 0.95,
        "samplers": ["top_k", "top_p", "temperature"],
    }


def test_a_chat_ends_with_its_finish_reason(server: LlamaServer) -> None:
    reply = OK + event(choices=[{"delta": {"role": "assistant"}, "finish_reason": None}])
    reply += event(choices=[{"delta": {}, "finish_reason": "length"}])
    body, answer = told(server, reply, lambda: server.chat("Be brief.", "Hello", 1))
    assert answer.tokens == 1
    assert [turn["role"] for turn in body["messages"]] == ["system", "user"]


def test_an_answer_that_breaks_off_is_no_answer(server: LlamaServer) -> None:
    with pytest.raises(ServerFailed, match="broke off after 1 events"):
        told(server, OK + event(tokens_predicted=1), lambda: server.stream([1], 2))


def test_a_refusal_is_told_in_the_servers_words(server: LlamaServer) -> None:
    reply = b"HTTP/1.1 400 Bad Request\r\n\r\n" + b'{"error": "too long"}'
    with pytest.raises(ServerFailed, match=r"status 400.*too long"):
        told(server, reply, lambda: server.stream([1], 2))


def test_nobody_there_is_told_with_the_log(server: LlamaServer) -> None:
    server.log.write_text("out of memory\n")
    with pytest.raises(ServerFailed, match=r"(?s)llama-server: .*out of memory"):
        asyncio.run(server.stream([1], 2))


def test_after_its_time_an_answer_is_what_has_come_until_then(server: LlamaServer) -> None:
    reply = OK + event(tokens_predicted=1) + event(tokens_predicted=2)
    _, answer = told(server, reply, lambda: server.stream([1], 64, limit_s=0.2), ends=False)
    assert answer.tokens == 2


@pytest.mark.parametrize(
    ("given", "last"),
    [
        ({"stop": False, "tokens_predicted": 1}, False),
        ({"stop": True}, True),
        ({"choices": [{"finish_reason": None}]}, False),
        ({"choices": [{"finish_reason": "stop"}]}, True),
        ({"choices": []}, False),
    ],
)
def test_the_last_event_is_known_in_both_kinds_of_stream(given: dict[str, Any], last: bool) -> None:
    assert is_last(given) is last


def test_shipped_has_no_flags_of_its_own_and_tuned_those_of_the_targets() -> None:
    assert FLAGS[SHIPPED] == []
    assert " ".join(FLAGS[TUNED]) == "-kvu -b 512 -ub 512 -np 8 --cache-ram 2048"
