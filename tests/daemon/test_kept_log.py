"""A log that a kill at any instruction leaves whole."""

from __future__ import annotations

import os
from collections.abc import Iterator
from random import Random

import pytest

from qwend.daemon.kept_log import KeptLog
from qwend.wire.frame import encode_frame

SIZE = 64 << 10


@pytest.fixture
def log() -> Iterator[KeptLog]:
    one = KeptLog.create(SIZE)
    yield one
    one.close()


def note(number: int, length: int = 10) -> bytes:
    return encode_frame({"n": number, "text": "x" * length})


def numbers(log: KeptLog) -> list[object]:
    return [one["n"] for one in log.read()]


def reopened(log: KeptLog) -> KeptLog:
    again = KeptLog.open(os.dup(log.fd))
    assert again is not None
    return again


def test_another_process_finds_what_was_appended(log: KeptLog) -> None:
    for number in range(5):
        assert log.append(note(number))
    again = reopened(log)
    assert numbers(again) == [0, 1, 2, 3, 4]
    assert again.append(note(5))
    assert numbers(reopened(again)) == [0, 1, 2, 3, 4, 5]
    again.close()


def test_a_frame_whose_end_was_not_marked_is_none(log: KeptLog) -> None:
    """As after a kill between the two stores."""
    log.append(note(1))
    frame = note(2)
    log._memory[log._end : log._end + len(frame)] = frame
    assert numbers(reopened(log)) == [1]


def test_a_full_log_takes_no_more_and_stays_as_it_is(log: KeptLog) -> None:
    count = 0
    while log.append(note(count, 5_000)):
        count += 1
    assert count > 5
    assert numbers(log) == list(range(count))
    assert log.append(note(count))


def test_replacing_moves_to_where_there_is_room_and_back(log: KeptLog) -> None:
    random = Random(5)
    for turn in range(200):
        kept = [note(number, random.randint(0, 3_000)) for number in range(random.randint(0, 5))]
        assert log.replace(kept)
        assert numbers(reopened(log)) == list(range(len(kept)))
        assert log.append(note(turn))


def test_what_does_not_fit_beside_the_old_changes_nothing(log: KeptLog) -> None:
    log.append(note(1, 40_000))
    assert not log.replace([note(2, 40_000)])
    assert numbers(log) == [1]


def test_memory_that_holds_nothing_any_more_is_given_back(log: KeptLog) -> None:
    log.append(note(1, 30_000))
    before = os.fstat(log.fd).st_blocks
    log.replace([note(1)])
    assert os.fstat(log.fd).st_blocks < before / 2


@pytest.mark.parametrize("spoiled", [b"", b"something else", b"qwend requests, format 2\n"])
def test_what_is_not_of_this_format_is_refused(spoiled: bytes) -> None:
    fd = os.memfd_create("test")
    os.write(fd, spoiled + bytes(100 if spoiled else 0))
    assert KeptLog.open(fd) is None
    os.close(fd)


def test_bounds_outside_the_memory_are_refused(log: KeptLog) -> None:
    log._bound(64, 64)
    os.pwrite(log.fd, b"\xff" * 8, 32)
    assert KeptLog.open(log.fd) is None


def test_reading_ends_at_what_cannot_be_read(log: KeptLog) -> None:
    log.append(note(1))
    log.append(b"\xff\xff\xff\xff")
    assert numbers(log) == [1]
