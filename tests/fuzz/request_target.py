"""The way of a request from its map to the engine: a message, a request, a sequence, or a code.

The bytes are the payload of a frame.
"""

from __future__ import annotations

from qwend.config import ChatConfig, SamplingConfig
from qwend.daemon.resolve import Resolver
from qwend.engine import hop
from qwend.engine.intake import new_sequence
from qwend.engine.prompt import prompt_tokens
from qwend.engine.request import EngineRequest, Kind
from qwend.engine.scripted import VOCAB_SIZE, Script, ScriptedBackend
from qwend.errors import RemoteProtocolError, RequestError
from qwend.wire import Chat, Complete, ErrorCode, Prefill, Tokenize, limits
from qwend.wire.frame import decode_payload, encode_frame
from qwend.wire.messages import parse_client, parse_daemon
from tests.wire.vectors import vectors

CODES = {code.value for code in ErrorCode}
CELLS = 256
RESOLVER = Resolver(SamplingConfig(), ChatConfig())
BACKEND = ScriptedBackend(Script(), cells=CELLS)


def run(data: bytes) -> None:
    try:
        fields = decode_payload(data)
    except RemoteProtocolError:
        return  # the frame decoder is another target
    for parse in (parse_client, parse_daemon):
        try:
            message = parse(fields)
        except RemoteProtocolError as error:
            assert not error.fatal
            assert error.code in CODES
            assert error.request_id is None or error.request_id == fields["id"]
            continue
        frame = encode_frame(message.to_map(), limit_bytes=8 * limits.FRAME_BYTES)
        # -0.0 and 0 are equal, and NaN is let through nowhere but in a status map.
        assert repr(parse(decode_payload(frame[limits.LENGTH_BYTES :]))) == repr(message)
        if isinstance(message, Chat | Complete | Prefill | Tokenize):
            submit(message)


def submit(message: Chat | Complete | Prefill | Tokenize) -> None:
    request = RESOLVER.request(message, request_id=1, uid=1000, received_s=1.0)
    across = hop.Assembler()
    crossed = [across.feed(packet) for packet in hop.packets(hop.submit(request))]
    assert crossed[-1] is not None
    assert all(one is None for one in crossed[:-1])
    assert EngineRequest.from_map(crossed[-1]["request"]) == request
    try:
        tokens = prompt_tokens(request, BACKEND)
        assert all(0 <= token < VOCAB_SIZE for token in tokens)
        if request.kind is Kind.TOKENIZE:
            return
        sequence = new_sequence(request, tokens, BACKEND)
    except RequestError as error:
        assert error.code in CODES
        return
    assert 0 < len(sequence.prompt) + sequence.max_tokens <= CELLS


def seeds() -> list[bytes]:
    return [one.frame[limits.LENGTH_BYTES :] for one in vectors()]
