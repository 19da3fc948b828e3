"""The warm copy is whole, private, known by its hash, and made again only when it must be."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import random
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from qwend.errors import HostError
from qwend.host import warm_copy
from qwend.host.warm_copy import (
    CopyCancelled,
    WarmCopy,
    find_warm_copy,
    make_warm_copy,
    remove_warm_copies,
)

CHUNK = 4096
CONTENT = bytes(range(256)) * 40
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warm_copy, "CHUNK_BYTES", CHUNK)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "model.gguf"
    path.write_bytes(CONTENT)
    return path


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "run" / "model"


@pytest.fixture
def make(source: Path, directory: Path) -> Iterator[Callable[..., WarmCopy]]:
    """make_warm_copy whose descriptors are closed at the end."""
    opened: list[int] = []

    def call(model: Path | int = source, **options: object) -> WarmCopy:
        copy = make_warm_copy(model, directory, **options)  # type: ignore[arg-type]
        opened.append(copy.fd)
        return copy

    yield call
    for fd in opened:
        os.close(fd)


Make = Callable[..., WarmCopy]


def content(copy: WarmCopy) -> bytes:
    return os.pread(copy.fd, 10**6, 0)


def no_progress(done: int, total: int) -> None:
    pytest.fail("the source was read")


def test_the_copy_is_whole_and_known_by_its_hash(make: Make, directory: Path) -> None:
    seen: list[tuple[int, int]] = []
    copy = make(progress=lambda done, total: seen.append((done, total)))
    assert content(copy) == CONTENT
    assert (copy.sha256, copy.size_bytes, copy.reused) == (SHA256, len(CONTENT), False)
    assert copy.path == directory / f"{SHA256}.gguf"
    assert copy.path.read_bytes() == CONTENT
    assert seen == [(4096, 10240), (8192, 10240), (10240, 10240)]


@pytest.mark.row("G2")
def test_modes_are_exact_under_any_umask_at_every_moment(
    make: Make, directory: Path, umask: int
) -> None:
    modes: set[int] = set()

    def sample(done: int, total: int) -> None:
        modes.update(stat.S_IMODE(p.lstat().st_mode) for p in [directory, *directory.iterdir()])

    copy = make(progress=sample)
    sample(0, 0)
    assert modes == {0o700, 0o400, 0o600}
    assert stat.S_IMODE(copy.path.stat().st_mode) == 0o400
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700


def test_the_descriptor_can_only_read_and_is_not_inherited(make: Make) -> None:
    fd = make().fd
    assert fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY
    assert fcntl.fcntl(fd, fcntl.F_GETFD) & fcntl.FD_CLOEXEC


def test_a_second_start_takes_the_copy_without_reading_the_source(make: Make) -> None:
    first = make()
    again = make(progress=no_progress)
    assert again.reused
    assert (again.sha256, again.path, again.size_bytes) == (SHA256, first.path, len(CONTENT))
    assert content(again) == CONTENT


def test_a_link_to_the_same_file_takes_the_same_copy(make: Make, tmp_path: Path) -> None:
    make()
    (tmp_path / "link").symlink_to("model.gguf")
    assert make(tmp_path / "link", progress=no_progress).reused


@pytest.mark.row("E1")
def test_a_changed_source_is_copied_again_and_the_old_copy_goes(
    make: Make, source: Path, directory: Path
) -> None:
    old = make()
    before = source.stat()
    source.write_bytes(CONTENT[::-1])
    # Same inode, size and mtime, as `rsync --inplace --times` leaves it.
    os.utime(source, ns=(before.st_atime_ns, before.st_mtime_ns))
    new = make()
    assert not new.reused
    assert content(new) == CONTENT[::-1]
    assert sorted(p.name for p in directory.glob("*.gguf")) == [new.path.name]
    assert content(old) == CONTENT


def test_another_model_replaces_the_copy(make: Make, tmp_path: Path, directory: Path) -> None:
    make()
    (tmp_path / "other.gguf").write_bytes(b"other")
    new = make(tmp_path / "other.gguf")
    assert sorted(os.listdir(directory)) == sorted([new.path.name, "index.json"])


def test_a_copy_in_use_is_spared_and_known_again(
    make: Make, tmp_path: Path, directory: Path
) -> None:
    first = make()
    other = tmp_path / "other.gguf"
    other.write_bytes(b"other")
    second = make(other, spare={first.sha256})
    copies = sorted([first.path.name, second.path.name, "index.json"])
    assert sorted(os.listdir(directory)) == copies
    assert make(spare={second.sha256}).reused
    assert make(other, spare={first.sha256}).reused
    remove_warm_copies(directory, spare={first.sha256})
    assert sorted(os.listdir(directory)) == sorted([first.path.name, "index.json"])
    assert make().reused


def _truncate(path: Path) -> None:
    path.chmod(0o600)
    os.truncate(path, 100)
    path.chmod(0o400)


def _loosen(path: Path) -> None:
    path.chmod(0o600)


def _link_elsewhere(path: Path) -> None:
    (path.parent / "second").hardlink_to(path)


def _swap_for_link(path: Path) -> None:
    bait = path.parent.parent / "bait"
    bait.write_bytes(CONTENT)
    bait.chmod(0o400)
    path.unlink()
    path.symlink_to(bait)


def _swap_for_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path, 0o400)


def _remove(path: Path) -> None:
    path.unlink()


@pytest.mark.row("E1")
@pytest.mark.parametrize(
    "spoil", [_truncate, _loosen, _link_elsewhere, _swap_for_link, _swap_for_pipe, _remove]
)
def test_a_copy_that_is_not_as_we_left_it_is_made_again(
    make: Make, spoil: Callable[[Path], None]
) -> None:
    spoil(make().path)
    again = make()
    assert not again.reused
    assert content(again) == CONTENT
    assert stat.S_ISREG(again.path.lstat().st_mode)
    assert again.path.stat().st_nlink == 1


@pytest.mark.row("E4")
def test_a_flipped_bit_is_found_when_asked_to_verify(make: Make) -> None:
    path = make().path
    path.chmod(0o600)
    data = bytearray(CONTENT)
    data[5] ^= 1
    path.write_bytes(data)
    path.chmod(0o400)
    assert make().reused
    copy = make(verify=True)
    assert not copy.reused
    assert content(copy) == CONTENT
    again = make(verify=True)
    assert again.reused
    assert os.lseek(again.fd, 0, os.SEEK_CUR) == 0


@pytest.mark.row("E4")
def test_each_of_a_thousand_flipped_bits_in_the_copy_is_found(make: Make) -> None:
    chance = random.Random(4)
    path = make().path
    for _ in range(1_000):
        path.chmod(0o600)
        place = chance.randrange(8 * len(CONTENT))
        with path.open("r+b") as file:
            file.seek(place // 8)
            file.write(bytes([CONTENT[place // 8] ^ 1 << place % 8]))
        path.chmod(0o400)
        copy = make(verify=True)
        assert not copy.reused
        assert content(copy) == CONTENT


@pytest.mark.row("E4")
def test_a_flipped_bit_in_the_source_is_another_hash_and_in_transit_too(
    make: Make, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hash is of what was read, so whoever knows the right one sees that it is wrong; it is
    told of no other bytes than those that run."""
    chance, pread = random.Random(5), os.preadv
    for _ in range(200):
        place = chance.randrange(8 * len(CONTENT))
        flipped = bytearray(CONTENT)
        flipped[place // 8] ^= 1 << place % 8
        source.write_bytes(flipped)
        copy = make()
        assert copy.sha256 == hashlib.sha256(flipped).hexdigest() != SHA256
        assert content(copy) == flipped

    def in_transit(fd: int, buffers: list[memoryview], at: int) -> int:
        count = pread(fd, buffers, at)
        buffers[0][0] ^= 1
        return count

    source.write_bytes(CONTENT)
    monkeypatch.setattr(os, "preadv", in_transit)
    copy = make()
    monkeypatch.undo()
    assert copy.sha256 == hashlib.sha256(content(copy)).hexdigest() != SHA256


@pytest.mark.parametrize("text", ["", "[]", "{}", "null", '{"copies": 1}', "[" * 60_000, "\xff"])
def test_a_damaged_index_costs_a_copy_and_no_more(make: Make, directory: Path, text: str) -> None:
    make()
    (directory / "index.json").write_text(text, encoding="latin-1")
    assert not make().reused
    assert make().reused


@pytest.mark.parametrize("sha256", ["../../bait", "x", "A" * 64, ""])
def test_a_name_in_the_index_that_is_no_hash_is_not_opened(
    make: Make, directory: Path, sha256: str
) -> None:
    make()
    bait = directory.parents[1] / "bait.gguf"
    bait.write_bytes(CONTENT)
    bait.chmod(0o400)
    index = json.loads((directory / "index.json").read_text())
    (source,) = index["copies"].values()
    (directory / "index.json").write_text(json.dumps({"copies": {sha256: source}}))
    assert not make().reused


@pytest.mark.row("D2")
def test_what_does_not_fit_is_known_before_the_first_byte(make: Make, directory: Path) -> None:
    with pytest.raises(HostError, match=r"needs 0\.0 MiB \(10240 bytes\), .*\(10239 bytes\) are"):
        make(free_bytes=lambda where: 10239, progress=no_progress)
    assert os.listdir(directory) == []
    assert make(free_bytes=lambda where: 10240).sha256 == SHA256


@pytest.mark.row("D2")
def test_room_that_others_take_meanwhile_is_missed_at_the_reservation(tmp_path: Path) -> None:
    """A real tmpfs of 64 KiB, asked for 96 KiB, with a `free_bytes` that knows nothing of it."""
    (tmp_path / "model.gguf").write_bytes(b"x" * 98304)
    mount = tmp_path / "mount"
    mount.mkdir()
    program = (
        "import os, sys; from pathlib import Path; from qwend.errors import HostError\n"
        "from qwend.host import warm_copy; from qwend.host.warm_copy import make_warm_copy\n"
        "warm_copy.CHUNK_BYTES = 4096\n"
        "where = Path(sys.argv[2])\n"
        "try: make_warm_copy(Path(sys.argv[1]), where / 'm', progress=lambda d, t: print('read'),"
        " free_bytes=lambda d: 98304 if not any(d.iterdir()) else os.statvfs(d).f_bavail * 4096)\n"
        "except HostError as error: print(error, os.listdir(where / 'm'))\n"
    )
    script = (
        'mount -t tmpfs -o size=64k,mode=700 tmpfs "$3" || exit 77; exec "$0" -c "$1" "$2" "$3"'
    )
    command = ["unshare", "-m", "sh", "-c", script, sys.executable, program]
    done = subprocess.run(
        [*command, str(tmp_path / "model.gguf"), str(mount)],
        capture_output=True,
        text=True,
        timeout=30,
        env=os.environ | {"PYTHONPATH": str(Path(warm_copy.__file__).parents[2])},
        check=False,
    )
    if done.returncode == 77 or "unshare" in done.stderr:
        pytest.skip(f"a tmpfs cannot be mounted here: {done.stderr.strip()}")
    assert "needs 0.1 MiB (98304 bytes)" in done.stdout, done.stderr
    assert done.stdout.strip().endswith("[]")
    assert "read" not in done.stdout


@pytest.mark.row("E2")
def test_a_source_that_shrinks_meanwhile_is_no_copy(
    make: Make, source: Path, directory: Path
) -> None:
    with pytest.raises(HostError, match="it ends after 5000 of 10240 bytes"):
        make(progress=lambda done, total: os.truncate(source, 5000))
    assert os.listdir(directory) == []


@pytest.mark.row("E2", "E4")
def test_a_source_that_is_written_to_meanwhile_is_no_copy(
    make: Make, source: Path, directory: Path
) -> None:
    def scribble(done: int, total: int) -> None:
        with source.open("r+b") as stream:
            stream.write(b"new")

    with pytest.raises(HostError, match="changed meanwhile"):
        make(progress=scribble)
    assert os.listdir(directory) == []


def test_an_interruption_leaves_nothing_behind(make: Make, directory: Path) -> None:
    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(KeyboardInterrupt):
        make(progress=interrupt)
    assert os.listdir(directory) == []
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_copy_that_is_cancelled_reads_no_further_and_leaves_nothing(
    make: Make, directory: Path
) -> None:
    read: list[int] = []
    with pytest.raises(CopyCancelled):
        make(
            progress=lambda done, total: read.append(done),
            cancelled=lambda: bool(read),
        )
    assert read == [CHUNK]
    assert os.listdir(directory) == []
    assert make().sha256 == SHA256


def test_a_check_that_is_cancelled_keeps_the_copy(make: Make) -> None:
    path = make().path
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(CopyCancelled):
        make(verify=True, cancelled=lambda: True)
    assert len(os.listdir("/proc/self/fd")) == before
    assert path.exists()


def test_a_killed_starts_leftovers_go_but_not_a_copy_under_way(make: Make, directory: Path) -> None:
    directory.mkdir(parents=True, mode=0o700)
    (directory / ".tmp-1-dead").write_bytes(b"half")
    living = directory / ".tmp-2-alive"
    living.write_bytes(b"half")
    (directory / "README").write_text("not ours to remove")
    with living.open("rb") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        make()
        assert living.exists()
    assert not (directory / ".tmp-1-dead").exists()
    assert (directory / "README").exists()
    make()
    assert not living.exists()


def test_a_copy_is_locked_while_it_is_written(make: Make, directory: Path) -> None:
    def second_start(done: int, total: int) -> None:
        if done == CHUNK:
            other.append(make())

    other: list[WarmCopy] = []
    copy = make(progress=second_start)
    assert content(copy) == content(other[0]) == CONTENT
    assert sorted(os.listdir(directory)) == sorted([copy.path.name, "index.json"])


@pytest.mark.row("G3")
def test_planted_links_are_removed_and_never_followed(
    make: Make, directory: Path, tmp_path: Path
) -> None:
    bait = tmp_path / "bait"
    bait.write_bytes(b"bait")
    directory.mkdir(parents=True, mode=0o700)
    for name in (".tmp-soft", f"{'a' * 64}.gguf", f"{SHA256}.gguf", "index.json"):
        (directory / name).symlink_to(bait)
    (directory / f"{'b' * 64}.gguf").hardlink_to(bait)
    os.mkfifo(directory / ".tmp-pipe")
    before = bait.stat()
    copy = make()
    after = bait.stat()
    assert bait.read_bytes() == b"bait"
    assert (after.st_mtime_ns, after.st_mode) == (before.st_mtime_ns, before.st_mode)
    assert sorted(os.listdir(directory)) == sorted([copy.path.name, "index.json"])
    assert not copy.path.is_symlink()


def test_a_planted_directory_is_an_error_that_names_it(make: Make, directory: Path) -> None:
    (directory / f"{SHA256}.gguf").mkdir(parents=True)
    directory.chmod(0o700)
    with pytest.raises(HostError, match="Is a directory"):
        make()


def test_a_copy_that_cannot_be_published_leaves_nothing_behind(make: Make, directory: Path) -> None:
    def plant(done: int, total: int) -> None:
        (directory / f"{SHA256}.gguf").mkdir(exist_ok=True)

    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(HostError, match="Is a directory"):
        make(progress=plant)
    assert os.listdir(directory) == [f"{SHA256}.gguf"]
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_linked_or_shared_directory_is_refused(
    source: Path, directory: Path, tmp_path: Path
) -> None:
    directory.parent.mkdir()
    (tmp_path / "elsewhere").mkdir()
    directory.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(HostError, match="opening the directory"):
        make_warm_copy(source, directory)
    assert os.listdir(tmp_path / "elsewhere") == []
    (tmp_path / "elsewhere").chmod(0o777)
    with pytest.raises(HostError, match="others may write"):
        make_warm_copy(source, tmp_path / "elsewhere")


def test_a_descriptor_is_as_good_as_a_path_and_stays_where_it_was(make: Make, source: Path) -> None:
    with source.open("rb") as stream:
        stream.seek(7)
        copy = make(stream.fileno())
        assert content(copy) == CONTENT
        assert os.lseek(stream.fileno(), 0, os.SEEK_CUR) == 7
        assert make(stream.fileno()).reused
    assert make(source).reused


def test_what_is_no_file_is_refused_before_a_directory_is_made(
    make: Make, directory: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty").touch()
    os.mkfifo(tmp_path / "pipe")
    for name, said in (
        ("none", "opening .*none: No such file"),
        ("empty", "it is empty"),
        ("pipe", "not a regular file"),
        ("", "not a regular file"),
    ):
        with pytest.raises(HostError, match=said):
            make(tmp_path / name)
    assert not directory.exists()


@pytest.mark.row("E1")
def test_a_copy_outlives_its_name(make: Make) -> None:
    copy = make()
    copy.path.unlink()
    assert content(copy) == CONTENT


def test_an_earlier_copy_is_found_and_nothing_is_made(
    make: Make, source: Path, directory: Path, tmp_path: Path
) -> None:
    (tmp_path / "other").write_bytes(b"other")
    with source.open("rb") as stream, (tmp_path / "other").open("rb") as other:
        assert find_warm_copy(stream.fileno(), directory) is None
        copy = make()
        assert find_warm_copy(other.fileno(), directory) is None
        found = find_warm_copy(stream.fileno(), directory)
        assert found is not None
        assert (found.path, found.sha256, found.reused) == (copy.path, SHA256, True)
        assert content(found) == CONTENT
        os.close(found.fd)
        _truncate(copy.path)
        assert find_warm_copy(stream.fileno(), directory) is None


def test_copies_are_removed_but_for_one_under_way(make: Make, directory: Path) -> None:
    remove_warm_copies(directory)
    assert not directory.exists()
    copy = make()
    living = directory / ".tmp-2-alive"
    living.write_bytes(b"half")
    with living.open("rb") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        remove_warm_copies(directory)
    assert os.listdir(directory) == [living.name]
    assert content(copy) == CONTENT
    assert not make().reused


def test_copies_in_a_directory_that_is_not_ours_are_left_alone(
    directory: Path, tmp_path: Path
) -> None:
    directory.parent.mkdir()
    (tmp_path / "elsewhere").mkdir()
    bait = tmp_path / "elsewhere" / f"{SHA256}.gguf"
    bait.write_bytes(CONTENT)
    directory.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(HostError, match="opening the directory"):
        remove_warm_copies(directory)
    assert bait.exists()
