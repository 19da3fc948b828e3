from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from scripts.bench_support.peers.event_stream import (
    HttpFault,
    event_in,
    exchange,
    is_healthy,
    status_in,
)

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def test_an_event_is_the_json_after_its_name() -> None:
    assert event_in(b'data: {"content": "x", "tokens_predicted": 3}\n') == {
        "content": "x",
        "tokens_predicted": 3,
    }


@pytest.mark.parametrize(
    "line", [b"\r\n", b"\n", b"4f\r\n", b": comment\n", b"Content-Type: x\r\n", b"data: [DONE]\n"]
)
def test_other_lines_are_no_events(line: bytes) -> None:
    assert event_in(line) is None


@pytest.mark.parametrize(
    "line",
    [b"data: {half\n", b"data: 7\n", b'data: {"error": {"code": 400}}\n', b'error: {"code": 1}\n'],
)
def test_an_event_that_is_none_and_an_error_are_faults(line: bytes) -> None:
    with pytest.raises(HttpFault):
        event_in(line)


@pytest.mark.parametrize(
    ("line", "status"),
    [(b"HTTP/1.1 200 OK\r\n", 200), (b"HTTP/1.1 503\r\n", 503), (b"", 0), (b"data: 200 x\n", 0)],
)
def test_the_status_is_the_second_word(line: bytes, status: int) -> None:
    assert status_in(line) == status


def asked(socket: Path, reply: bytes) -> tuple[bytes, list[dict[str, object]]]:
    """What a server that answers `reply` was sent, and the events that it was heard to say."""
    received = b""
    over = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal received
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.split(b"Content-Length: ")[1].split(b"\r\n")[0])
        received = head + await reader.readexactly(length)
        writer.write(reply)
        await writer.drain()
        writer.close()
        await writer.wait_closed()
        over.set()

    async def ask() -> list[dict[str, object]]:
        server = await asyncio.start_unix_server(serve, socket)
        async with server, exchange(str(socket)) as connection:
            connection.send("/completion", {"prompt": [1, 2]})
            try:
                return [event async for event in connection.events()]
            finally:
                await over.wait()

    events = asyncio.run(ask())
    return received, events


def test_a_request_carries_its_body_and_the_events_come_back_in_order(tmp_path: Path) -> None:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    received, events = asked(
        tmp_path / "s", head + b'a\r\ndata: {"a": 1}\n\n\r\nb\r\ndata: {"a": 2}\n\n\r\n0\r\n\r\n'
    )
    assert received.startswith(b"POST /completion HTTP/1.1\r\n")
    assert json.loads(received.split(b"\r\n\r\n")[1]) == {"prompt": [1, 2]}
    assert events == [{"a": 1}, {"a": 2}]


def test_a_refusal_is_told_with_the_servers_words(tmp_path: Path) -> None:
    with pytest.raises(HttpFault, match=r"status 400: .*too long"):
        asked(tmp_path / "s", b"HTTP/1.1 400 Bad Request\r\n\r\nthe prompt is too long")


def test_nobody_there_is_not_healthy(tmp_path: Path) -> None:
    assert asyncio.run(is_healthy(str(tmp_path / "none"))) is False
