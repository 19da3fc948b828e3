"""Names of sessions, and which fields belong to which act."""

from __future__ import annotations

import random
import re
from typing import Any

import pytest

from qwend.errors import RemoteProtocolError
from qwend.wire import SessionFacts, SessionMessage, SessionsReply, is_session_name, limits
from qwend.wire.frame import decode_payload, encode_frame
from qwend.wire.messages import parse_client, parse_daemon

GOOD = ("a", "A-Z", "0", "-rf", "...", ".hidden", "trip.2026", "_", "x" * 64)
HOSTILE = (
    *("", ".", "..", "../a", "/etc/passwd", "a/b", "a\\b", "\0", "a\0", "a\n", "\n", " ", "a b"),
    *("x" * 65, "x" * 256, "x" * 100_000, "~", "$HOME", "`id`", "a;b", "a'b", 'a"b', "%2e%2e", "*"),
    *("．", "．．", "․", "…", "ａ", "é", "e\u0301", "а", "\u202ea", "\u200b", "\ufeff", "a\u00a0"),
    *("٣", "ⅷ", "ﬁ", "ſ", "\u212a", "a|b", "a:b", "\x1b[2J", "\x7f", "a\r", "\ud7ff", "𝐚", "🌌"),
)


def random_hostile() -> list[str]:
    """200 more, of whatever the good alphabet is not, in all lengths."""
    chosen = random.Random(3)
    odd = [chr(code) for code in (*range(0x20), 0x2F, 0x5C, 0x7F, 0xA0, 0x2024, 0xFF0E, 0x1F30C)]
    names = []
    for _ in range(200):
        name = [*chosen.choices("ab.-_", k=chosen.randint(0, 40)), chosen.choice(odd)]
        chosen.shuffle(name)
        names.append("".join(name))
    return names


def asked(**fields: object) -> Any:
    return parse_client(decode_payload(encode_frame({"op": "sessions", "id": 7, **fields})[4:]))


def fault(**fields: object) -> RemoteProtocolError:
    with pytest.raises(RemoteProtocolError) as caught:
        asked(**fields)
    assert caught.value.request_id == 7
    return caught.value


@pytest.mark.row("G3")
def test_a_session_name_is_64_plain_characters_and_no_step_up() -> None:
    for name in GOOD:
        assert is_session_name(name)
        assert asked(do="show", name=name).name == name
    for name in (*HOSTILE, *random_hostile()):
        assert not is_session_name(name)
        assert not (re.fullmatch(r"[A-Za-z0-9._-]{1,64}", name) and name not in (".", ".."))
        for field in ({"do": "show", "name": name}, {"do": "rename", "name": "a", "to": name}):
            error = fault(**field)
            assert error.code == "invalid_value"
            assert len(str(error)) < 400


@pytest.mark.parametrize("op", ["chat", "prefill"])
def test_a_chat_and_a_prefill_refuse_such_a_name_too(op: str) -> None:
    messages = [{"role": "user", "content": "x"}]
    with pytest.raises(RemoteProtocolError, match=rf"{op}\.session is '\.\./a'"):
        parse_client({"op": op, "id": 1, "messages": messages, "session": "../a"})


@pytest.mark.parametrize(
    "surplus",
    [
        {"do": "list", "name": "a"},
        {"do": "list", "to": "a"},
        {"do": "show", "name": "a", "to": "b"},
        {"do": "rename", "name": "a", "to": "b", "skip": 1},
        {"do": "delete", "name": "a", "skip": 1},
        {"do": "delete", "name": "a", "to": "b"},
    ],
    ids=str,
)
def test_a_field_of_another_act_is_refused(surplus: dict[str, object]) -> None:
    assert fault(**surplus).code == "invalid_message"


@pytest.mark.parametrize("missing", [{"do": "show"}, {"do": "rename", "name": "a"}, {}], ids=str)
def test_a_missing_field_is_named(missing: dict[str, object]) -> None:
    assert "needs the field" in str(fault(**missing))


def test_a_full_page_fits_into_a_frame_and_is_read_again() -> None:
    facts = SessionFacts("x" * 64, *(limits.COUNT_MAX,) * 2, limits.ID_MAX, 1.5e9 + 0.1, 1.5e9)
    share = limits.SESSION_PAGE_BYTES // limits.SESSION_PAGE_ENTRIES
    message = SessionMessage("assistant", "\u2603" * (share // 3), 1.5e9 + 0.1, "stop_string")
    for reply in (
        SessionsReply(limits.ID_MAX, (facts,) * limits.SESSION_PAGE_ENTRIES, more=True),
        SessionsReply(1, (facts,), True, (message,) * limits.SESSION_PAGE_ENTRIES),
        SessionsReply(1, (facts,), True, (SessionMessage("user", "x" * limits.SESSION_BYTES, 1),)),
    ):
        assert parse_daemon(decode_payload(encode_frame(reply.to_map())[4:])) == reply
