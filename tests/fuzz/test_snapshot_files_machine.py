"""The directory of snapshots against a plain model of it: writes, restarts, and a disk that lies.

The model is a map of what was written. A file that nobody touched gives its blob; one that was
changed in any way gives nothing, at the scan or at the read; names that are not ours stay, and what
another model has there stays as it is.
"""

from __future__ import annotations

import os
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from qwend.engine.snapshot_files import SnapshotFiles, SnapshotInfo

FINGERPRINT = b"model"
FOREIGN = "notes.txt"
tokens = st.lists(st.integers(-(2**31), 2**31 - 1), max_size=6).map(tuple)


class Directory(RuleBasedStateMachine):
    """kept: what must come back. spoiled: what was written, and changed by somebody else since."""

    def __init__(self) -> None:
        super().__init__()
        self.place = TemporaryDirectory(prefix="qwend-test-")
        self.path = Path(self.place.name)
        (self.path / FOREIGN).write_text("mine")
        self.files = SnapshotFiles(self.path, FINGERPRINT)
        self.kept: dict[str, tuple[SnapshotInfo, bytes]] = {}
        self.spoiled: dict[str, SnapshotInfo] = {}
        self.clock = 0
        self.other = SnapshotFiles(self.path, b"another model")
        self.theirs: dict[str, tuple[SnapshotInfo, bytes]] = {}

    @rule(uid=st.sampled_from((-1, 0, 1000, 2**32 - 2)), tokens=tokens, blob=st.binary(max_size=50))
    def write(self, uid: int, tokens: tuple[int, ...], blob: bytes) -> None:
        self.clock += 1
        info = self.files.info(uid, tokens, len(blob), self.clock)
        assert self.files.put(info, blob, self.clock)
        self.kept[info.name] = info, blob
        self.spoiled.pop(info.name, None)

    @rule(tokens=tokens, blob=st.binary(max_size=50))
    def another_model_writes(self, tokens: tuple[int, ...], blob: bytes) -> None:
        self.clock += 1
        info = self.other.info(1000, tokens, len(blob), self.clock)
        assert self.other.put(info, blob, self.clock)
        self.theirs[info.name] = info, blob

    @precondition(lambda self: self.theirs)
    @rule(data=st.data())
    def another_model_removes(self, data: st.DataObject) -> None:
        info, _ = self.theirs.pop(data.draw(st.sampled_from(sorted(self.theirs))))
        self.other.unlink(info)

    @precondition(lambda self: self.kept)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        info, _ = self.kept.pop(data.draw(st.sampled_from(sorted(self.kept))))
        self.files.unlink(info)

    @precondition(lambda self: self.kept)
    @rule(data=st.data())
    def the_disk_changes_a_byte(self, data: st.DataObject) -> None:
        path = self.spoil(data)
        content = bytearray(path.read_bytes())
        place = data.draw(st.integers(0, len(content) - 1))
        content[place] ^= data.draw(st.integers(1, 255))
        path.write_bytes(content)

    @precondition(lambda self: self.kept)
    @rule(data=st.data(), garbage=st.binary(max_size=80))
    def the_disk_has_something_else(self, data: st.DataObject, garbage: bytes) -> None:
        self.spoil(data).write_bytes(garbage)

    @precondition(lambda self: self.kept)
    @rule(data=st.data())
    def the_disk_cuts_it_short(self, data: st.DataObject) -> None:
        path = self.spoil(data)
        os.truncate(path, data.draw(st.integers(0, path.stat().st_size - 1)))

    @precondition(lambda self: len(self.kept) > 1)
    @rule(data=st.data())
    def one_file_takes_the_place_of_another(self, data: st.DataObject) -> None:
        path = self.spoil(data)
        other = data.draw(st.sampled_from(sorted(self.kept)))
        path.write_bytes((self.path / other).read_bytes())

    @rule(key=st.binary(min_size=16, max_size=16), content=st.binary(max_size=80))
    def a_writer_dies(self, key: bytes, content: bytes) -> None:
        (self.path / f".tmp-{key.hex()}.snapshot").write_bytes(content)

    @rule()
    def restart(self) -> None:
        self.files.close()
        self.files = SnapshotFiles(self.path, FINGERPRINT)
        found = {info.name: info for info, _ in self.files.scan()}
        assert self.kept.keys() <= found.keys() <= self.kept.keys() | self.spoiled.keys()
        assert set(os.listdir(self.path)) == {*found, *self.theirs, FOREIGN}
        assert {one.name: one.file_bytes for one in self.files.others} == {
            name: info.file_bytes for name, (info, _) in self.theirs.items()
        }
        for name, (info, _) in self.kept.items():
            assert (found[name].header, found[name].tokens) == (info.header, info.tokens)
        for name in self.spoiled.keys() & found.keys():
            assert self.files.read(found[name]) is None
        self.spoiled = {name: found[name] for name in self.spoiled.keys() & found.keys()}

    @invariant()
    def every_file_gives_what_was_written_or_nothing(self) -> None:
        for info, blob in self.kept.values():
            assert self.files.read(info) == blob
        for info in self.spoiled.values():
            assert self.files.read(info) is None
        for info, blob in self.theirs.values():
            assert self.other.read(info) == blob

    def spoil(self, data: st.DataObject) -> Path:
        name = data.draw(st.sampled_from(sorted(self.kept)))
        self.spoiled[name], _ = self.kept.pop(name)
        return self.path / name

    def teardown(self) -> None:
        self.restart()
        assert (self.path / FOREIGN).read_text() == "mine"
        self.files.close()
        self.other.close()
        self.place.cleanup()


TestDirectory = Directory.TestCase
TestDirectory.settings = settings(max_examples=25, stateful_step_count=20, deadline=None)
