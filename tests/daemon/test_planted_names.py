"""Names that are planted where qwend makes its own: nothing outside is changed or waited for.

Who may plant there is root, or we ourselves: all these directories are of mode 0700, but for that
of the socket. 1. Each kind of thing is put at each name, and the code that uses the name does its
work. 2. A thread swaps all kinds at one name while that work is done over and over. Expected: it is
done, or refused with a reason; a bait outside, which all links lead to, stays as it is.
QWEND_TEST_PLANTS sets how often the work is done.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import struct
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from qwend.daemon.listener import SocketPath
from qwend.engine.calibration import Calibration
from qwend.engine.calibration_cache import CalibrationCache, Kept
from qwend.engine.snapshot_files import SnapshotFiles
from qwend.engine.step_cost import StepCost
from qwend.errors import QwendError
from qwend.host.governor_record import Record, drop_record, load_record, store_record
from qwend.host.root import HostRoot
from qwend.host.warm_copy import make_warm_copy

pytestmark = pytest.mark.row("G3")
PLANTINGS = int(os.environ.get("QWEND_TEST_PLANTS", "50"))
MODEL = b"model" * 1000
KEY = "0" * 32
HOST = HostRoot()


def listen(home: Path) -> None:
    claimed = SocketPath.claim(home / "run" / "s")
    try:
        claimed.listen(mode=0o660, group="").close()
    finally:
        claimed.close()


def warm(home: Path) -> None:
    copy = make_warm_copy(home / "model.gguf", home / "run" / "model")
    try:
        assert os.pread(copy.fd, len(MODEL) + 1, 0) == MODEL
    finally:
        os.close(copy.fd)


def keep(home: Path) -> None:
    try:
        files = SnapshotFiles(home / "state" / "engine" / "prefixes", bytes(32))
    except OSError:
        return  # what the store shows as its reason
    list(files.scan())
    info = files.info(1000, (1, 2, 3), 4, 0)
    if files.put(info, b"blob", 1):
        assert files.read(info) in (b"blob", None)
    files.set_time(info, 2)
    files.unlink(info)
    files.close()


def calibrate(home: Path) -> None:
    cache = CalibrationCache(home / "state" / "engine")
    cache.load(KEY)
    cache.store(KEY, Kept(Calibration(StepCost({1: 0.01}), 1, {1: 0.01}, 0, 1.0, 1.0)))
    cache.load(KEY)


def govern(home: Path) -> None:
    place = home / "state" / "governor.json"
    with suppress(QwendError):  # a damaged record stops both ways, and is to be removed
        load_record(HOST, place)
    store_record(place, Record("boot"))
    with suppress(QwendError):
        load_record(HOST, place)
    drop_record(place)


def snapshot_name() -> str:
    """The one that `keep` uses."""
    name = hashlib.sha256(struct.pack("<q3i", 1000, 1, 2, 3) + bytes(32)).hexdigest()[:32]
    return f"{name}.snapshot"


PREFIXES = "state/engine/prefixes"
PLACES: tuple[tuple[Callable[[Path], None], str], ...] = (
    (listen, "run/s"),
    (listen, "run/s.lock"),
    (warm, "run/model"),
    (warm, f"run/model/{hashlib.sha256(MODEL).hexdigest()}.gguf"),
    (warm, "run/model/index.json"),
    (warm, "run/model/.tmp-1-0011223344556677"),
    (keep, PREFIXES),
    (keep, f"{PREFIXES}/{snapshot_name()}"),
    (keep, f"{PREFIXES}/.tmp-{snapshot_name()}"),
    (keep, f"{PREFIXES}/00112233445566778899aabbccddeeff.snapshot"),
    (calibrate, f"state/engine/calibration-{KEY}.json"),
    (govern, "state/governor.json"),
)


@dataclass(frozen=True, slots=True)
class Bait:
    """A directory outside, for links to lead to."""

    directory: Path

    @property
    def file(self) -> Path:
        return self.directory / "precious"

    def lay(self) -> None:
        self.directory.mkdir()
        self.file.write_bytes(b"precious" * 100)
        self.file.chmod(0o640)
        (self.directory / f"{'ab' * 16}.snapshot").write_bytes(b"also precious")

    def state(self) -> list[tuple[str, int, bytes]]:
        """Name, mode and content of everything in it, and its own mode."""
        return [
            (path.name, path.lstat().st_mode, b"" if path.is_dir() else path.read_bytes())
            for path in (self.directory, *sorted(self.directory.rglob("*")))
        ]


def zeros(place: Path, _bait: Bait) -> None:
    with place.open("xb") as file:  # never into a file that is qwend's already
        file.write(bytes(10_000))


def char_device(place: Path, _bait: Bait) -> None:
    os.mknod(place, stat.S_IFCHR | 0o600, os.makedev(1, 5))  # /dev/zero, which has no end


PLANTS: dict[str, Callable[[Path, Bait], None]] = {
    "symlink to a file": lambda place, bait: place.symlink_to(bait.file),
    "symlink to a directory": lambda place, bait: place.symlink_to(bait.directory),
    "symlink to nothing": lambda place, bait: place.symlink_to(bait.directory / "new"),
    "hard link": lambda place, bait: place.hardlink_to(bait.file),
    "FIFO": lambda place, bait: os.mkfifo(place),
    "full directory": lambda place, bait: (place / "full").mkdir(parents=True),
    "file of zeros": zeros,
    "device": char_device,
}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """As it is once all has been made once."""
    (tmp_path / "model.gguf").write_bytes(MODEL)
    Bait(tmp_path / "bait").lay()
    for name in ("run", "state"):
        (tmp_path / name).mkdir(mode=0o700)
    for work in (warm, keep):
        work(tmp_path)
    return tmp_path


def plant(place: Path, kind: str, bait: Bait) -> None:
    clear(place)
    try:
        PLANTS[kind](place, bait)
    except PermissionError:
        pytest.skip("only root may make a device")


def clear(place: Path) -> None:
    if place.is_dir() and not place.is_symlink():
        shutil.rmtree(place, ignore_errors=True)
    else:
        place.unlink(missing_ok=True)


@pytest.mark.parametrize("kind", PLANTS)
@pytest.mark.parametrize(("work", "name"), PLACES)
def test_what_is_planted_is_refused_or_replaced_and_never_followed(
    home: Path, work: Callable[[Path], None], name: str, kind: str
) -> None:
    bait, place = Bait(home / "bait"), home / name
    before = bait.state()
    plant(place, kind, bait)
    with suppress(QwendError):
        work(home)
    assert bait.state() == before
    clear(place)
    work(home)
    assert bait.state() == before


@pytest.mark.timeout(60 + PLANTINGS)
@pytest.mark.parametrize(("work", "name"), PLACES)
def test_what_is_swapped_while_the_work_is_done_leads_nowhere_either(
    home: Path, work: Callable[[Path], None], name: str
) -> None:
    bait, place = Bait(home / "bait"), home / name
    before = bait.state()
    over = threading.Event()
    kinds = [kind for kind in PLANTS if kind != "device" or os.geteuid() == 0]

    def swap() -> None:
        while not over.is_set():
            for kind in kinds:
                with suppress(OSError):
                    clear(place)
                    PLANTS[kind](place, bait)

    swapper = threading.Thread(target=swap)
    swapper.start()
    try:
        for _ in range(PLANTINGS):
            with suppress(QwendError):
                work(home)
    finally:
        over.set()
        swapper.join()
    assert bait.state() == before
