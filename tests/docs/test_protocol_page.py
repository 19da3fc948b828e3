"""docs/protocol.md says what the code does: vectors, tables, numbers and the bytes it shows."""

from __future__ import annotations

import re
from typing import Any

import pytest

from qwend.errors import RemoteProtocolError
from qwend.wire import (
    PROTOCOL,
    ClientMessage,
    DaemonMessage,
    ErrorCode,
    limits,
    parse_client,
    parse_daemon,
)
from qwend.wire.frame import decode_payload, encode_frame
from qwend.wire.generation import GENERATION_FIELDS
from qwend.wire.messages import DAEMON_MESSAGES, LATER_OPS
from qwend.wire.requests import CLIENT_MESSAGES
from tests.wire.vectors import PAGE, Vector, refused, vectors

TEXT = PAGE.read_text(encoding="utf-8")
ALL_OPS = sorted(kind.op for kind in (*CLIENT_MESSAGES, *DAEMON_MESSAGES))


def section(heading: str) -> str:
    """The page between this heading and the next of any level."""
    found = re.search(rf"^##+ {re.escape(heading)}\n(.*?)(?=^##)", TEXT, re.MULTILINE | re.DOTALL)
    assert found, f"the page has no section {heading!r}"
    return found[1]


def table(heading: str) -> list[list[str]]:
    """The cells of the first table in the section, without its two lines of heading."""
    rows = re.search(r"^\|.*\n\|[-|]+\n((?:\|.*\n)*)", section(heading), re.MULTILINE)
    assert rows, f"section {heading!r} has no table"
    return [
        [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        for line in rows[1].splitlines()
    ]


def heading_of(vector: Vector) -> str:
    op = vector.fields["op"]
    if op in ("status", "sessions"):
        return f"`{op}` of the {'client' if vector.from_client else 'daemon'}"
    return f"`{op}`"


def parse(vector: Vector, fields: dict[str, Any]) -> ClientMessage | DaemonMessage:
    return parse_client(fields) if vector.from_client else parse_daemon(fields)


@pytest.mark.parametrize("vector", vectors(), ids=str)
def test_each_vector_reads_as_its_message_and_is_written_as_its_frame(vector: Vector) -> None:
    assert int.from_bytes(vector.frame[:4], "big") == len(vector.frame) - 4
    assert decode_payload(vector.frame[4:]) == vector.fields
    message = parse(vector, vector.fields)
    assert message.to_map() == vector.fields
    assert encode_frame(message.to_map()) == vector.frame


def test_every_message_and_every_field_has_a_vector() -> None:
    kinds = {type(parse(vector, vector.fields)) for vector in vectors()}
    assert kinds == {*CLIENT_MESSAGES, *DAEMON_MESSAGES}
    shown = {(heading_of(vector), name) for vector in vectors() for name in vector.fields}
    for heading in {heading_of(vector) for vector in vectors()}:
        for row in table(heading):
            if row[0].startswith("`"):
                assert (heading, row[0].strip("`")) in shown


@pytest.mark.parametrize("vector", vectors(), ids=str)
def test_the_table_of_each_message_has_its_fields_and_says_which_are_required(
    vector: Vector,
) -> None:
    rows = table(heading_of(vector))
    required = {row[0].strip("`"): row[2] for row in rows if row[0].startswith("`")}
    generation = any("generation" in row[0] for row in rows)
    for name in vector.fields:
        assert name in required or (generation and name in GENERATION_FIELDS)
        without = {key: value for key, value in vector.fields.items() if key != name}
        if required.get(name) == "yes":
            with pytest.raises(RemoteProtocolError):
                parse(vector, without)
        elif required.get(name, "no") == "no":
            parse(vector, without)


def test_the_table_of_generation_has_every_field() -> None:
    assert tuple(row[0].strip("`") for row in table("Generation")) == GENERATION_FIELDS


def test_the_table_of_errors_is_the_codes() -> None:
    assert table("Errors") == [
        [f"`{code.value}`", "yes" if code.closes else "no", code.advice] for code in ErrorCode
    ]


def test_every_limit_of_a_frame_is_on_the_page() -> None:
    frames = section("Frames")
    for limit in (
        limits.HELLO_FRAME_BYTES,
        limits.FRAME_BYTES,
        limits.CONTAINERS,
        limits.DEPTH,
        limits.ARRAY_ENTRIES,
        limits.MAP_ENTRIES,
        limits.VALUES,
        limits.STRINGS,
    ):
        assert f" {limit:,} " in frames


def test_the_protocol_and_the_ops_of_later_are_named() -> None:
    assert f"`{PROTOCOL}`" in TEXT.splitlines()[0]
    for op in LATER_OPS:
        assert f"`{op}`" in section("Errors")


def test_the_bytes_shown_are_those_of_the_vectors() -> None:
    shown = section("A conversation, byte by byte")
    frames = []
    for dump in re.findall(r"(?:^[0-9a-f]{4}  .*\n)+", shown, re.MULTILINE):
        frames.append(b"".join(bytes.fromhex(line[6:53]) for line in dump.splitlines()))
    by_name = {vector.name: vector.frame for vector in vectors()}
    named = ("hello, the smallest", "chat", "accepted", "token", "done")
    assert frames == [by_name[name] for name in named]
    assert f"sends {len(frames[0])} bytes: a length of {len(frames[0]) - 4}" in shown


def test_refused_frames_have_every_code_that_a_frame_can_cause() -> None:
    assert {one.code for one in refused()} == {
        *("bad_frame", "frame_too_large", "too_complex"),
        *("invalid_message", "invalid_value", "unknown_op", "unexpected_message", "unsupported"),
    }
    assert {code.value for code in ErrorCode} > {one.code for one in refused()}


def test_every_link_on_the_page_leads_somewhere() -> None:
    headings = {
        re.sub(r"[^a-z0-9 -]", "", line.lstrip("# ").lower()).replace(" ", "-")
        for line in TEXT.splitlines()
        if line.startswith("#")
    }
    for target in re.findall(r"\]\(([^)]+)\)", TEXT):
        if target.startswith("#"):
            assert target[1:] in headings
        else:
            assert (PAGE.parent / target.partition("#")[0]).exists()
