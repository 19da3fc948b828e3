"""Both clients with a real daemon over the scripted backend: one daemon for all tests here."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from qwend.client import AsyncClient, Client, RequestFailed
from tests.support.daemon import RunningDaemon, running_daemon

DEADLINE_S = 10.0


@pytest.fixture(scope="module")
def daemon() -> Iterator[RunningDaemon]:
    with running_daemon(script={"thinks": True}) as running:
        yield running


@pytest.fixture
def client(daemon: RunningDaemon) -> Iterator[Client]:
    with Client(daemon.socket) as open_client:
        yield open_client


def test_a_chat_is_answered_and_accounted_for(client: Client) -> None:
    stream = client.chat("hello there", seed=7)
    ids = [token_id for token in stream for token_id in token.ids]
    assert stream.text == "hello there"
    assert stream.result is not None
    assert stream.result.finish_reason == "stop"
    assert stream.result.usage.completion_tokens >= len(ids)
    assert stream.result.seed == 7
    assert stream.result.timings is not None
    assert stream.accepted is not None
    assert stream.accepted.prompt_tokens == stream.result.usage.prompt_tokens


def test_several_answers_at_once_do_not_mix(client: Client) -> None:
    questions = [f"question {number} " * 5 for number in range(4)]
    streams = [client.chat(question) for question in questions]
    for stream in reversed(streams):
        stream.wait()
    # The renderer may trim a turn; what matters is whose words they are.
    assert [stream.text.strip() for stream in streams] == [one.strip() for one in questions]


def test_max_tokens_and_stop_strings_end_an_answer(client: Client) -> None:
    assert client.chat("abcdef", max_tokens=3).wait().finish_reason == "length"
    stream = client.chat("abc STOP def", stop="STOP")
    assert stream.wait().finish_reason == "stop_string"
    assert stream.text == "abc "


def test_cancel_ends_an_endless_answer(client: Client) -> None:
    stream = client.chat("on and on ", ignore_eos=True, max_tokens=100_000, credit=16)
    next(iter(stream))
    stream.cancel()
    assert stream.wait().finish_reason == "cancelled"


def test_a_stream_left_early_frees_the_connection_for_others(client: Client) -> None:
    with client.chat("on and on ", ignore_eos=True, max_tokens=100_000, credit=16) as stream:
        next(iter(stream))
    assert client.chat("still there").wait().finish_reason == "stop"


def test_credit_is_the_most_that_comes_unasked(client: Client) -> None:
    stream = client.chat("abcdefghij", credit=0)
    for granted in (1, 2, 3):
        stream.grant(granted)
    seen = 0
    for token in stream:
        seen += len(token.ids)
        if seen >= 6:
            break
    assert seen == 6
    stream.grant(100)
    assert stream.wait().finish_reason == "stop"
    assert stream.text == "abcdefghij"


def test_prefill_makes_the_next_request_cached(client: Client) -> None:
    text = "the same beginning of a prompt, long enough to be worth keeping. " * 4
    assert client.prefill(prompt=text).finish_reason == "prefilled"
    done = client.complete(text + "and more", max_tokens=1).wait()
    assert done.usage.cached_tokens > 0


def test_tokenize_tells_control_tokens_from_text(client: Client) -> None:
    assert client.tokenize("hi") == (104, 105)
    assert len(client.tokenize("<|im_end|>", special=True)) == 1
    assert len(client.tokenize("<|im_end|>")) == 10


def test_status_ping_and_welcome(daemon: RunningDaemon, client: Client) -> None:
    status = client.status()
    assert status["state"] in ("ready", "degraded")
    assert status["pid"] == daemon.process.pid
    assert 0 < client.ping() < DEADLINE_S
    assert client.welcome.context > 0


def test_a_prompt_beyond_the_context_is_refused_alone(client: Client) -> None:
    with pytest.raises(RequestFailed) as caught:
        client.complete("x" * 100_000).wait()
    assert caught.value.code == "context_exceeded"
    assert client.ping() < DEADLINE_S


def test_the_asyncio_client_runs_answers_side_by_side(daemon: RunningDaemon) -> None:
    async def ask(client: AsyncClient, question: str) -> str:
        stream = await client.chat(question)
        return "".join([token.text async for token in stream])

    async def run() -> list[str]:
        async with AsyncClient(daemon.socket) as client:
            assert (await client.status())["state"] in ("ready", "degraded")
            return await asyncio.gather(*(ask(client, f"number {n}") for n in range(4)))

    assert asyncio.run(run()) == [f"number {n}" for n in range(4)]


def test_a_conversation_may_be_of_any_length_in_messages(client: Client) -> None:
    turns = [{"role": role, "content": "x"} for role in ("user", "assistant")] * 40
    stream = client.chat([*turns, {"role": "user", "content": "last"}])
    stream.wait()
    assert stream.text == "last"


THOUGHT = "<think>\nHm.\n</think>\n\nYes"


def test_reasoning_comes_apart_and_a_conversation_goes_on_without_it(client: Client) -> None:
    stream = client.chat(THOUGHT)
    ids = [token_id for token in stream for token_id in token.ids]
    assert (stream.reasoning, stream.text) == ("Hm.", "Yes")
    assert stream.result is not None
    assert stream.result.usage.completion_tokens == len(ids) == len(THOUGHT)


def test_without_thinking_nothing_is_taken_for_reasoning(client: Client) -> None:
    stream = client.chat(THOUGHT, thinking=False)
    stream.wait()
    assert (stream.reasoning, stream.text) == ("", THOUGHT)


def test_both_clients_read_reasoning(daemon: RunningDaemon) -> None:
    async def main() -> None:
        async with AsyncClient(daemon.socket) as client:
            stream = await client.chat(THOUGHT, thinking=True)
            await stream.wait()
            assert (stream.reasoning, stream.text) == ("Hm.", "Yes")

    asyncio.run(main())


def test_a_model_that_cannot_think_says_so() -> None:
    with running_daemon() as plain, Client(plain.socket) as client:
        with pytest.raises(RequestFailed, match="scripted cannot think") as refused:
            client.chat("x", thinking=True).wait()
        assert refused.value.code == "unsupported"
        assert client.chat("x", thinking=False).wait().finish_reason == "stop"
