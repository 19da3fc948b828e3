"""The file of the sessions: made, locked, killed in the middle, damaged in every way, full."""

from __future__ import annotations

import os
import random
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from qwend.config import SessionsConfig
from qwend.daemon import conversation_schema
from qwend.daemon.conversation_file import NAME, ConversationFile, as_refusal
from qwend.daemon.conversation_schema import MIGRATIONS, Damaged
from qwend.daemon.conversation_store import ConversationStore
from qwend.errors import HostError, QwendError, RequestError
from qwend.host.space import free_on_disk
from qwend.wire.prompt import ChatMessage

KILLS = int(os.environ.get("QWEND_TEST_KILLS", "20"))
"""Kills of a writer; a night's run sets a thousand."""
FLIPS = int(os.environ.get("QWEND_TEST_FLIPS", "60"))
"""Flipped bits; a night's run sets ten thousand."""

ANSWER = ChatMessage("assistant", "of the air")


def clock() -> float:
    return 1.7e9


def open_file(folder: Path, degraded: list[str] | None = None) -> ConversationFile:
    return ConversationFile(
        folder / "sessions", clock, ([] if degraded is None else degraded).append
    )


def take_turn(store: ConversationStore, uid: int, name: str, question: str) -> None:
    begun = store.begin(uid, name, (ChatMessage("user", question),), SessionsConfig())
    store.append(uid, name, begun.base, (*begun.new, ANSWER), "stop")


def everything(store: ConversationStore) -> dict[tuple[int, str], list[str]]:
    """All questions by uid and name."""
    found = {}
    for number in store.numbers():
        uid, facts, said = store.conversation(number)
        found[uid, facts.name] = [each.content for each in said if each.role == "user"]
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """With a file that has two sessions of each of two users, closed in order."""
    file = open_file(tmp_path)
    for uid in (1, 2):
        for name in ("a", "b"):
            for turn in range(3):
                take_turn(file.store(), uid, name, f"question {turn} of {name}: " + "why? " * 400)
    file.close()
    return tmp_path


def test_the_file_and_its_directory_are_ours_alone(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        file = open_file(tmp_path)
        take_turn(file.store(), 1, "a", "x")
        found = list((tmp_path / "sessions").iterdir())
        assert {each.name for each in found} == {NAME, f"{NAME}-wal"}
        for each in found:
            assert stat.S_IMODE(each.stat().st_mode) == 0o600
        assert stat.S_IMODE((tmp_path / "sessions").stat().st_mode) == 0o700
        file.close()
    finally:
        os.umask(before)
    assert [each.name for each in (tmp_path / "sessions").iterdir()] == [NAME]


def test_a_commit_waits_for_the_disk(tmp_path: Path) -> None:
    file = open_file(tmp_path)
    connection = file.store()._connection
    found = {
        name: connection.execute(f"PRAGMA {name}").fetchone()[0]
        for name in ("journal_mode", "synchronous", "foreign_keys", "temp_store", "auto_vacuum")
    }
    file.close()
    assert found == {
        "journal_mode": "wal",
        "synchronous": 2,  # FULL
        "foreign_keys": 1,
        "temp_store": 2,  # in memory
        "auto_vacuum": 1,  # FULL
    }


def test_what_was_kept_is_there_when_it_is_opened_again(folder: Path) -> None:
    degraded: list[str] = []
    file = open_file(folder, degraded)
    assert {key: len(said) for key, said in everything(file.store()).items()} == {
        (uid, name): 3 for uid in (1, 2) for name in ("a", "b")
    }
    assert degraded == []
    file.close()


def test_a_database_is_one_process_s_at_a_time(folder: Path) -> None:
    file, other = open_file(folder), open_file(folder)
    file.store()
    with pytest.raises(sqlite3.OperationalError, match="locked") as caught:
        other.store()
    refusal = as_refusal(caught.value, other.path)
    assert refusal.code == "storage_error"
    assert "another program has it open" in str(refusal)
    file.close()
    assert other.store().listing(1)[0]  # and then it may be had
    other.close()


def test_what_is_deleted_is_gone_from_the_disk(folder: Path) -> None:
    file = open_file(folder)
    size = file.path.stat().st_size
    take_turn(file.store(), 1, "secret", "the launch code is 0000 " * 500)
    file.store().delete(1, "secret")
    left = b"".join(each.read_bytes() for each in file.path.parent.iterdir())
    assert b"launch code" not in left
    assert file.path.stat().st_size == size
    file.close()


def test_a_database_of_a_newer_release_is_left_alone(folder: Path) -> None:
    path = folder / "sessions" / NAME
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
        before = list(connection.iterdump())
    with pytest.raises(RequestError, match="newer qwend") as caught:
        open_file(folder).store()
    assert caught.value.code == "storage_error"
    with closing(sqlite3.connect(path)) as connection:
        assert list(connection.iterdump()) == before


def test_a_database_of_an_older_release_is_brought_up_to_date(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = open_file(folder)
    before = everything(file.store())
    file.close()
    further = (*MIGRATIONS, ("CREATE TABLE later (x)",))
    monkeypatch.setattr(conversation_schema, "MIGRATIONS", further)
    degraded: list[str] = []
    newer = open_file(folder, degraded)
    assert everything(newer.store()) == before
    newer.close()
    assert degraded == []
    with closing(sqlite3.connect(file.path)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (len(further),)


def test_a_file_of_no_bytes_is_a_new_database(tmp_path: Path) -> None:
    (tmp_path / "sessions").mkdir(mode=0o700)
    (tmp_path / "sessions" / NAME).touch(0o600)
    degraded: list[str] = []
    file = open_file(tmp_path, degraded)
    assert file.store().listing(1) == ((), False)
    assert degraded == []
    file.close()


PLANTED: dict[str, Callable[[Path, Path], None]] = {
    "link": lambda path, bait: path.symlink_to(bait),
    "dangling link": lambda path, bait: path.symlink_to(bait.parent / "not-there"),
    "hard link": lambda path, bait: os.link(bait, path),
    "directory": lambda path, bait: path.mkdir(),
    "pipe": lambda path, bait: os.mkfifo(path),
}


@pytest.mark.row("G3")
@pytest.mark.parametrize("name", [NAME, f"{NAME}-wal", f"{NAME}-journal"])
@pytest.mark.parametrize("kind", PLANTED)
def test_what_was_planted_under_its_name_is_refused_and_untouched(
    tmp_path: Path, kind: str, name: str
) -> None:
    bait = tmp_path / "bait"
    bait.write_bytes(b"untouched")
    (tmp_path / "sessions").mkdir(mode=0o700)
    PLANTED[kind](tmp_path / "sessions" / name, bait)
    with pytest.raises(HostError, match="no file of ours alone"):
        open_file(tmp_path).store()
    assert bait.read_bytes() == b"untouched"
    assert {each.name for each in tmp_path.iterdir()} == {"bait", "sessions"}


@pytest.mark.parametrize("mode", [0o777, 0o722])
def test_a_directory_that_others_may_write_to_is_refused(tmp_path: Path, mode: int) -> None:
    (tmp_path / "sessions").mkdir()
    (tmp_path / "sessions").chmod(mode)
    with pytest.raises(HostError, match="others may write to it"):
        open_file(tmp_path).store()


# Kills

WRITER = """
import sys
from pathlib import Path
from qwend.config import SessionsConfig
from qwend.daemon import conversation_schema
from qwend.daemon.conversation_file import ConversationFile
from qwend.wire.prompt import ChatMessage
store = ConversationFile(Path(sys.argv[1]) / "sessions", lambda: 1.7e9, print).store()
count = int(sys.argv[2])
while True:
    uid, name = count % 3, "ab"[count % 2]
    new = (ChatMessage("user", f"{count} " + "x" * (count * 997 % 20_000)),)
    begun = store.begin(uid, name, new, SessionsConfig())
    store.append(uid, name, begun.base, (*new, ChatMessage("assistant", "!")), "stop")
    print(count, flush=True)
    count += 1
    if count % 7 == 0:
        store.delete(uid, name)
        print("deleted", count - 1, flush=True)
"""


def replayed(said: list[str]) -> dict[tuple[int, str], list[int]]:
    """What is to be there after these acknowledgements."""
    expected: dict[tuple[int, str], list[int]] = {}
    for line in said:
        count = int(line.rpartition(" ")[2])
        key = (count % 3, "ab"[count % 2])
        if line.startswith("deleted"):
            expected.pop(key, None)
        else:
            expected.setdefault(key, []).append(count)
    return expected


@pytest.mark.row("C1")
def test_a_kill_at_any_moment_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    """1. A writer says each turn, and each deletion, once it has returned.
    2. It is killed with SIGKILL after a random number of bytes of what it says.
    3. The file opens without any repair, and has all that was said; at most one thing more.
    """
    dice = random.Random(7)
    said: list[str] = []
    for _ in range(KILLS):
        count = len([line for line in said if line.isdigit()])
        degraded: list[str] = []
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path), str(count)],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        until = dice.randint(1, 12)
        while until and (line := process.stdout.readline()):
            said.append(line.strip())
            until -= 1
        process.send_signal(signal.SIGKILL)
        said += process.stdout.read().split("\n")[:-1]
        process.wait()
        process.stdout.close()
        file = open_file(tmp_path, degraded)
        found = {
            key: [int(question.split()[0]) for question in questions]
            for key, questions in everything(file.store()).items()
        }
        file.close()
        assert degraded == []
        last = max(int(line) for line in said if line.isdigit())
        further = [said, [*said, str(last + 1)], [*said, f"deleted {last}"]]
        matching = [one for one in further if replayed(one) == found]
        assert matching, (said[-3:], found)
        said = matching[0]


# Damage


def after_damage(folder: Path) -> tuple[dict[tuple[int, str], list[str]] | None, list[str]]:
    """What an opened file has then; None if it is refused. And what was told."""
    degraded: list[str] = []
    file = open_file(folder, degraded)
    try:
        return everything(file.store()), degraded
    except QwendError:
        return None, degraded
    finally:
        file.close()


def set_aside(folder: Path) -> list[Path]:
    found = sorted((folder / "sessions").glob(f"{NAME}.damaged-*"))
    return [each for each in found if not each.name.endswith(("-wal", "-shm", "-journal"))]


@pytest.fixture
def whole(folder: Path) -> tuple[bytes, dict[tuple[int, str], list[str]]]:
    file = open_file(folder)
    expected = everything(file.store())
    file.close()
    return file.path.read_bytes(), expected


@pytest.mark.row("C3")
def test_every_truncation_is_noticed_and_set_aside(
    folder: Path, whole: tuple[bytes, dict[tuple[int, str], list[str]]]
) -> None:
    data, expected = whole
    path = folder / "sessions" / NAME
    lengths = {1, 15, 16, 99, 100, 4095, 4097, len(data) - 1}
    lengths |= set(range(4096, len(data), 4096))
    for length in sorted(lengths):
        shutil.rmtree(path.parent)
        path.parent.mkdir(mode=0o700)
        path.write_bytes(data[:length])
        found, degraded = after_damage(folder)
        if found == expected:
            assert length > len(data) - 4096  # bytes that nothing was in
            continue
        assert len(degraded) == 1, length
        (aside,) = set_aside(folder)
        assert str(aside) in degraded[0]
        assert aside.read_bytes() == data[:length]
        assert found is not None
        for key, said in found.items():
            assert said == expected[key]
        assert after_damage(folder) == (found, [])  # what was saved is sound


@pytest.mark.row("C3")
def test_a_flipped_bit_is_noticed_or_changes_nothing(
    folder: Path, whole: tuple[bytes, dict[tuple[int, str], list[str]]]
) -> None:
    """Whatever bit it is: nobody is ever shown what was not said."""
    data, expected = whole
    path = folder / "sessions" / NAME
    dice = random.Random(11)
    # The header and the first page have the bits that decide most.
    places = [dice.randrange(100 * 8) for _ in range(FLIPS // 3)]
    places += [dice.randrange(4096 * 8) for _ in range(FLIPS // 3)]
    places += [dice.randrange(len(data) * 8) for _ in range(FLIPS // 3)]
    noticed = saved = 0
    for place in places:
        shutil.rmtree(path.parent)
        path.parent.mkdir(mode=0o700)
        flipped = bytearray(data)
        flipped[place // 8] ^= 1 << place % 8
        path.write_bytes(flipped)
        found, degraded = after_damage(folder)
        if found is None:
            assert len(path.read_bytes()) == len(flipped), place  # refused, and left there
        elif degraded:
            noticed += 1
            saved += len(found)
            assert all(expected[key] == said for key, said in found.items()), place
            assert len(set_aside(folder)) == 1
        else:
            assert found == expected, place
    assert noticed > len(places) // 6  # most of the header is reserved
    # One bit of a message does not take the other conversations with it.
    assert saved > noticed


def test_what_is_no_database_is_set_aside_whatever_it_is(tmp_path: Path) -> None:
    for number, content in enumerate((b"x", b"SQLite format 3\0", os.urandom(8192), b"\0" * 4096)):
        folder = tmp_path / str(number)
        (folder / "sessions").mkdir(parents=True, mode=0o700)
        (folder / "sessions" / NAME).write_bytes(content)
        assert after_damage(folder)[0] == {}
        (aside,) = set_aside(folder)
        assert aside.read_bytes() == content


def test_another_program_s_database_is_set_aside_unread(tmp_path: Path) -> None:
    (tmp_path / "sessions").mkdir(mode=0o700)
    with closing(sqlite3.connect(tmp_path / "sessions" / NAME)) as connection:
        connection.execute("CREATE TABLE bookmarks (url TEXT)")
    before = (tmp_path / "sessions" / NAME).read_bytes()
    found, degraded = after_damage(tmp_path)
    assert found == {}
    assert "0 of 0 could be saved" in degraded[0]
    (aside,) = set_aside(tmp_path)
    assert aside.read_bytes() == before


def test_one_damaged_message_costs_its_session_and_no_other(folder: Path) -> None:
    path = folder / "sessions" / NAME
    data = path.read_bytes()
    at = data.index(b"question 1 of b")
    path.write_bytes(data[:at] + b"Question" + data[at + 8 :])
    found, degraded = after_damage(folder)
    assert found is not None
    assert len(found) == 3
    assert "3 of 4 could be saved" in degraded[0]


def test_text_that_is_no_text_any_more_is_not_told(folder: Path) -> None:
    path = folder / "sessions" / NAME
    data = path.read_bytes()
    path.write_bytes(data.replace(b"question 1 of b", b"question \xff of b"))
    found, degraded = after_damage(folder)
    assert found is not None
    assert {name for _, name in found} == {"a"}
    assert "2 of 4 could be saved" in degraded[0]
    assert "question" not in degraded[0]


def test_a_page_that_nobody_reads_is_looked_at_too(folder: Path) -> None:
    """The second page tells which page belongs to which (sqlite.org/fileformat2.html, 1.8)."""
    path = folder / "sessions" / NAME
    data = bytearray(path.read_bytes())
    data[4096] ^= 7
    path.write_bytes(data)
    found, degraded = after_damage(folder)
    assert found is not None
    assert len(found) == 4
    assert "4 of 4 could be saved" in degraded[0]


def test_rows_that_a_changed_schema_mixes_up_are_not_taken_for_one_session(folder: Path) -> None:
    """Without INTEGER the rows are found by another index, which was never written."""
    path = folder / "sessions" / NAME
    data = path.read_bytes()
    path.write_bytes(data.replace(b"id INTEGER PRIMARY", b"id INTEGEB PRIMARY", 1))
    found, degraded = after_damage(folder)
    assert found is not None
    for (_, name), said in found.items():
        assert all(each.split()[3] == f"{name}:" for each in said)
    assert "could be saved" in degraded[0]


def test_a_schema_that_is_no_text_is_damage(folder: Path) -> None:
    """SQLite quotes it in its error, and Python cannot read that."""
    path = folder / "sessions" / NAME
    data = path.read_bytes()
    path.write_bytes(data.replace(b"TABLE message (", b"TABLE \xccess\xcce (", 1))
    found, degraded = after_damage(folder)
    assert found == {}
    assert "0 of 0 could be saved" in degraded[0]


def test_a_format_that_sqlite_does_not_have_is_damage(folder: Path) -> None:
    path = folder / "sessions" / NAME
    data = bytearray(path.read_bytes())
    data[47] = 5  # "schema format number", at most 4 (sqlite.org/fileformat2.html, 1.3.11)
    path.write_bytes(data)
    found, degraded = after_damage(folder)
    assert found == {}
    assert "unsupported file format" in degraded[0]


def test_damage_twice_in_a_second_keeps_both_files(folder: Path) -> None:
    for _ in range(2):
        (folder / "sessions" / NAME).write_bytes(b"damaged")
        after_damage(folder)
    assert len(set_aside(folder)) == 2


def test_damage_that_shows_while_it_is_open_is_set_aside_too(folder: Path) -> None:
    degraded: list[str] = []
    file = open_file(folder, degraded)
    store = file.store()
    store._connection.execute("UPDATE message SET content = 'x' WHERE place = 0")
    with pytest.raises(Damaged) as caught:
        store.show(1, "a")
    file.damaged(caught.value)
    assert file.store().listing(1) == ((), False)
    assert "0 of 4" in degraded[0]
    assert len(set_aside(folder)) == 1
    file.close()


# A full disk


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """4 MiB of tmpfs."""
    if os.geteuid() != 0:
        pytest.skip("only root may mount")
    mounted = tmp_path / "disk"
    mounted.mkdir(mode=0o700)
    options = ["-t", "tmpfs", "-o", "size=4m,mode=0700", "tmpfs", str(mounted)]
    if subprocess.run(["mount", *options], check=False, capture_output=True).returncode:
        pytest.skip("mounting is not allowed here")
    yield mounted
    subprocess.run(["umount", str(mounted)], check=True)


@pytest.mark.row("C4")
def test_a_full_disk_refuses_a_turn_and_keeps_all_before_it(small_disk: Path) -> None:
    filler = small_disk / "filler"
    filler.write_bytes(b"x" * 1_500_000)
    file = open_file(small_disk)
    kept = 0
    while True:
        try:
            take_turn(file.store(), 1, f"s{kept}", "x" * 50_000)
            kept += 1
        except sqlite3.Error as error:
            refusal = as_refusal(error, file.path)
            break
    assert kept >= 5
    assert refusal.code == "no_space"
    assert "free some space" in str(refusal)
    # What was kept can be read, here and after a start, and with room again all goes on.
    assert len(everything(file.store())) == kept
    file.close()
    degraded: list[str] = []
    again = open_file(small_disk, degraded)
    assert len(everything(again.store())) == kept
    filler.unlink()
    for number in range(kept // 2):
        again.store().delete(1, f"s{number}")
    take_turn(again.store(), 1, "new", "x" * 50_000)
    assert len(everything(again.store())) == kept - kept // 2 + 1
    assert degraded == []
    again.close()


@pytest.mark.row("C4")
def test_damage_on_a_full_disk_is_seen_to_once_there_is_room(small_disk: Path) -> None:
    file = open_file(small_disk)
    for number in range(20):
        take_turn(file.store(), 1, f"s{number}", "x" * 50_000)
    file.close()
    data = file.path.read_bytes()
    at = data.rindex(b"of the air")
    file.path.write_bytes(data[:at] + b"Of" + data[at + 2 :])
    filler = small_disk / "filler"
    filler.write_bytes(b"x" * (free_on_disk(small_disk) - 300_000))
    degraded: list[str] = []
    again = open_file(small_disk, degraded)
    with pytest.raises(sqlite3.Error) as caught:
        again.store()
    assert as_refusal(caught.value, again.path).code == "no_space"
    assert [each.name for each in again.path.parent.iterdir()] == [NAME]
    assert degraded == []
    filler.unlink()
    assert len(everything(again.store())) == 19
    assert "19 of 20 could be saved" in degraded[0]
    again.close()


@pytest.mark.row("C4")
def test_a_disk_that_is_full_from_the_start_is_refused_until_there_is_room(
    small_disk: Path,
) -> None:
    filler = small_disk / "filler"
    filler.write_bytes(b"x" * free_on_disk(small_disk))
    file = open_file(small_disk)
    with pytest.raises((sqlite3.Error, HostError)) as caught:
        take_turn(file.store(), 1, "a", "x")
    assert as_refusal(caught.value, file.path).code == "no_space"
    filler.unlink()
    take_turn(file.store(), 1, "a", "x")
    file.close()
