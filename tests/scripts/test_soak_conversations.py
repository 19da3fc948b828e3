"""Turns that were acknowledged are looked for, word for word."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from scripts.lib.soak.conversations import Kept, Said, read_from_disk
from scripts.lib.soak.oracle import Answer, Turn

SAID: Said = [("user", "Hello"), ("assistant", "Good day")]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """With a database of sessions as the daemon leaves it, as far as it matters here."""
    (tmp_path / "state").mkdir()
    (tmp_path / "log").write_text("no database")
    with closing(sqlite3.connect(tmp_path / "state" / "kept.db")) as database, database:
        database.executescript(
            """CREATE TABLE conversation (id INTEGER PRIMARY KEY, name TEXT);
            CREATE TABLE message (conversation INTEGER, place INTEGER, role TEXT, content TEXT,
                PRIMARY KEY (conversation, place)) WITHOUT ROWID;
            INSERT INTO conversation VALUES (1, 'a'), (2, 'b');
            INSERT INTO message VALUES (1, 0, 'user', 'Hello'), (1, 1, 'assistant', 'Good day'),
                (2, 0, 'user', 'Hello'), (2, 1, 'assistant', 'Good');"""
        )
    return tmp_path


def test_what_is_there_as_it_was_said_is_fine(home: Path) -> None:
    assert read_from_disk(home, Kept({"a": SAID})) == []


@pytest.mark.parametrize(
    ("name", "said", "told"),
    [
        ("b", SAID, "message 1 is ('assistant', 'Good') instead of ('assistant', 'Good day')"),
        ("c", SAID, "0 messages, and 2 were acknowledged"),
        ("a", SAID + SAID, "2 messages, and 4 were acknowledged"),
    ],
)
def test_a_turn_that_is_not_there_or_another_is_told(
    home: Path, name: str, said: Said, told: str
) -> None:
    assert read_from_disk(home, Kept({name: said})) == [f"{name}, on the disk: {told}"]


def test_no_database_at_all_is_told_if_there_was_a_turn(tmp_path: Path) -> None:
    assert read_from_disk(tmp_path, Kept({"a": SAID})) == ["there is no database"]
    assert read_from_disk(tmp_path, Kept({"a": []})) == []


def turn(text: str, answer: str) -> Turn:
    return Turn(text, Answer((1,), (answer.encode(),), "stop"))


@pytest.mark.parametrize("found", [SAID, [*SAID, ("user", "More?"), ("assistant", "Cert")]])
def test_a_turn_in_doubt_may_be_there_or_not(found: Said) -> None:
    kept = Kept({"a": SAID}, {"a": turn("More?", "Certainly.")})
    assert kept.difference("a", found) is None


@pytest.mark.parametrize(
    "found",
    [
        SAID[:1],
        [],
        [*SAID, ("user", "More?")],
        [*SAID, ("user", "Less?"), ("assistant", "Cert")],
        [*SAID, ("user", "More?"), ("assistant", "No")],
        [*SAID, ("user", "More?"), ("assistant", "Cert"), ("user", "x"), ("assistant", "y")],
        [("user", "Hi"), SAID[1], ("user", "More?"), ("assistant", "Cert")],
    ],
)
def test_nothing_else_may_be(found: Said) -> None:
    kept = Kept({"a": SAID}, {"a": turn("More?", "Certainly.")})
    assert kept.difference("a", found) is not None
