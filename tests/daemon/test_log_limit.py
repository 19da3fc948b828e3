"""What one cause may write in a minute, and that the rest is counted and told."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from qwend.daemon.log_limit import (
    CHARACTERS_OF_ALL,
    KINDS,
    LINES_OF_A_KIND,
    LINES_OF_A_UID,
    WINDOW_S,
    LogLimit,
)

BROKE = "uid %d broke the protocol: %s"


@dataclass
class Clock:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


def record(text: str, *arguments: object, line: int = 1) -> logging.LogRecord:
    return logging.LogRecord("qwend", logging.INFO, "", line, text, arguments, None)


def offered(limit: LogLimit, count: int, text: str, *arguments: object, line: int = 1) -> int:
    """How many of so many lines are written."""
    found = [limit.admits(record(text, *arguments, line=line), 50) for _ in range(count)]
    return sum(found)


def test_of_one_uid_a_few_lines_are_written_and_the_rest_is_counted() -> None:
    limit = LogLimit(clock := Clock())
    assert offered(limit, LINES_OF_A_UID + 214, BROKE, 1000, "bad_frame") == LINES_OF_A_UID
    assert limit.ended() == []
    clock.now += WINDOW_S
    assert limit.ended() == [
        "uid 1000: 214 more messages like this in the last minute: "
        "uid 1000 broke the protocol: bad_frame"
    ]
    assert limit.ended() == []


def test_another_uid_and_another_message_have_counts_of_their_own() -> None:
    limit = LogLimit(Clock())
    offered(limit, 100, BROKE, 1000, "bad_frame")
    assert offered(limit, 100, BROKE, 1001, "bad_frame") == LINES_OF_A_UID
    assert offered(limit, 100, "uid %d left", 1000) == LINES_OF_A_UID
    assert offered(limit, 3, "engine lost: %s", "SIGKILL") == 3
    told = sorted(limit.close())
    assert [sentence.split(" more")[0] for sentence in told] == [
        "uid 1000: 95",
        "uid 1000: 95",
        "uid 1001: 95",
    ]


def test_after_a_minute_there_is_room_again() -> None:
    limit = LogLimit(clock := Clock())
    offered(limit, 100, BROKE, 1000, "bad_frame")
    clock.now += WINDOW_S
    limit.ended()
    assert offered(limit, 100, BROKE, 1000, "bad_frame") == LINES_OF_A_UID


def test_what_comes_from_one_place_is_one_kind_whatever_it_says() -> None:
    # asyncio puts the values in before it logs.
    limit = LogLimit(Clock())
    written = sum(limit.admits(record(f"task {n} failed", line=7), 50) for n in range(1000))
    assert written == LINES_OF_A_KIND
    assert offered(limit, 5, "another place", line=8) == 5
    (told,) = limit.close()
    assert told == f"{1000 - LINES_OF_A_KIND} more messages like this in the last minute: " + (
        "task 999 failed"
    )


def test_a_count_quotes_one_line_and_not_all_of_a_long_one() -> None:
    limit = LogLimit(Clock())
    offered(limit, LINES_OF_A_KIND + 1, "x" * 5000 + "\nsecond line")
    (told,) = limit.close()
    assert len(told) < 300
    assert "second" not in told


@given(
    st.lists(
        st.tuples(st.integers(0, 100_000), st.integers(0, 3), st.integers(1, 2000)), max_size=300
    )
)
def test_all_together_is_limited_too_and_nothing_is_lost_from_the_count(
    lines: list[tuple[int, int, int]],
) -> None:
    limit = LogLimit(Clock())
    written = characters = 0
    for uid, kind, size in lines:
        if limit.admits(record(f"uid %d did {kind}", uid), size):
            written += 1
            characters += size
    assert characters <= CHARACTERS_OF_ALL
    counted = sum(int(told.split(": ", 1)[1].split(" ")[0]) for told in limit.close())
    assert written + counted == len(lines)


def test_many_uids_cannot_fill_the_log_or_the_memory() -> None:
    # One user of subuid(5) has 65,536.
    limit = LogLimit(Clock())
    characters = 0
    for uid in range(65_536):
        for _ in range(2):
            size = len(BROKE) + 20
            if limit.admits(record(BROKE, uid, "bad_frame"), size):
                characters += size
    told = limit.close()
    assert characters <= CHARACTERS_OF_ALL
    assert len(told) <= KINDS + 1
    assert sum(map(len, told)) + characters <= 2**20
    assert any("more other messages" in sentence for sentence in told)
