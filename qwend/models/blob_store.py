"""The models that were pulled or imported: blobs by their digest, a manifest for each name.

    MODELS/store/blobs/SHA256            the file, whole and checked, never written again
    MODELS/store/manifests/NAME.json     which blob a name is
    MODELS/store/parts/                  what is being fetched (`pull/part.py`)
    MODELS/store/lock                    held while names and blobs are brought together

Rule 1: a blob is there before a manifest names it, and goes after the last that does: kill -9 at
any point leaves names whose blob is there, and at worst a blob without a name for `gc`. Rule 2: a
path is made of a digest or a name that has been checked, of nothing else.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from qwend.errors import ConfigError, HostError, ModelError
from qwend.models.disk import (
    TEMPORARY,
    locked,
    make_directory,
    move_whole,
    remove_unless_locked,
    write_whole,
)
from qwend.models.manifest import MOST_BYTES, Manifest, decode
from qwend.models.reference import DIGEST, NAME, store_name

_MANIFEST = ".json"
_BLOCK_BYTES = 1 << 20
# Parts that nobody went on with for so long are not wanted any more.
STALE_PART_S = 30 * 24 * 3600.0


@dataclass(frozen=True, slots=True)
class Swept:
    """What `sweep` removed: blobs without a name, parts and temporary files of nobody."""

    files: int
    freed_bytes: int


class BlobStore:
    """models_dir: made with its parents when something is written, not before."""

    def __init__(self, models_dir: Path) -> None:
        self.models_dir = models_dir
        self._root = models_dir / "store"
        self._blobs = self._root / "blobs"
        self._manifests = self._root / "manifests"
        self.parts = self._root / "parts"

    def blob_path(self, sha256: str) -> Path:
        """Where it is, or would be. Raises: ConfigError if that is no digest."""
        if not DIGEST.fullmatch(sha256):
            raise ConfigError(f"{sha256!r} is no SHA-256: 64 of 0-9 a-f")
        return self._blobs / sha256

    def names(self) -> list[str]:
        """Those that have a manifest, sorted; what has no possible name is not ours."""
        try:
            found = [entry.removesuffix(_MANIFEST) for entry in os.listdir(self._manifests)]
        except OSError:  # no store yet, or not ours to read
            return []
        return sorted(name for name in found if NAME.fullmatch(name) and not name.startswith("."))

    def manifest(self, name: str) -> Manifest | None:
        """None: there is no such model. Raises: ModelError if what is there cannot be used."""
        if not NAME.fullmatch(name) or name.startswith("."):
            return None
        try:
            with open(self._manifests / f"{name}{_MANIFEST}", "rb") as file:
                data = file.read(MOST_BYTES + 1)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise ModelError(
                f"what the store says of {name!r} cannot be read: {error.strerror}",
                code="store_damaged",
            ) from error
        return decode(data[: MOST_BYTES + 1], name)

    def manifests(self) -> list[Manifest]:
        """All that can be used."""
        found = []
        for name in self.names():
            with suppress(ModelError):
                manifest = self.manifest(name)
                if manifest is not None:
                    found.append(manifest)
        return found

    def has_blob(self, sha256: str, size_bytes: int | None = None) -> bool:
        """Whether a file of that digest is there; it was checked before it got its name."""
        try:
            found = self.blob_path(sha256).stat()
        except OSError:
            return False
        return size_bytes is None or found.st_size == size_bytes

    def prepare(self) -> None:
        """Make what is missing of the directories. Raises: HostError."""
        for directory in (self._blobs, self._manifests, self.parts):
            make_directory(directory)

    def publish(self, manifest: Manifest, file: Path | None) -> None:
        """Give the model its name. file: on this file system, flushed, of that digest; it becomes
        the blob. None: the blob is there already. Raises: HostError, ConfigError, ModelError.
        """
        store_name(manifest.name)
        blob = self.blob_path(manifest.sha256)
        try:
            with locked(self._root / "lock"):
                if file is not None:
                    _make_read_only(file)
                    move_whole(file, blob)
                elif not self.has_blob(manifest.sha256, manifest.size_bytes):
                    raise ModelError(
                        f"the blob of {manifest.name!r} has gone meanwhile; try again",
                        code="store_damaged",
                    )
                write_whole(self._manifests / f"{manifest.name}{_MANIFEST}", manifest.encode())
        except OSError as error:
            raise HostError(str(self._root), "writing to", error.strerror or error) from error

    def remove(self, name: str) -> int:
        """Take the name away, and its blob if no other has it; return the bytes that are free then.

        Raises: ModelError if there is no such name; HostError.
        """
        path = self._manifests / f"{store_name(name)}{_MANIFEST}"
        if not path.exists():
            raise ModelError(
                f"the store has no model {name!r}; `qwenctl models list` lists them",
                code="not_found",
            )
        try:
            with locked(self._root / "lock"):
                blob = None
                with suppress(ModelError):
                    manifest = self.manifest(name)
                    blob = self.blob_path(manifest.sha256) if manifest else None
                path.unlink(missing_ok=True)
                if blob is None or self._is_named(blob.name):
                    return 0
                return _removed(blob)
        except OSError as error:
            raise HostError(str(path), "removing", error.strerror or error) from error

    def sweep(self, now_s: float | None = None, *, all_parts: bool = False) -> Swept:
        """Remove what no name leads to. all_parts: unfinished ones too. Raises: HostError.

        A part that is being fetched is locked, and left alone.
        """
        from qwend.models.pull.part import remove_idle_parts  # it knows what its files are called

        if not self._root.is_dir():
            return Swept(0, 0)
        now_s = time.time() if now_s is None else now_s
        try:
            with locked(self._root / "lock"):
                named = self._named()
                removed = [
                    _removed(path) for path in self._files(self._blobs) if path.name not in named
                ]
                for directory in (self._manifests, self.parts):
                    removed += [
                        remove_unless_locked(path)
                        for path in self._files(directory)
                        if path.name.startswith(TEMPORARY)
                    ]
                older_than = now_s if all_parts else now_s - STALE_PART_S
                removed += remove_idle_parts(self.parts, older_than)
        except OSError as error:
            raise HostError(str(self._root), "cleaning", error.strerror or error) from error
        removed = [size for size in removed if size]
        return Swept(len(removed), sum(removed))

    def set_aside(self, manifest: Manifest) -> None:
        """Take a blob that turned out to be damaged out of use; `sweep` removes it."""
        blob = self.blob_path(manifest.sha256)
        with locked(self._root / "lock"):
            os.replace(blob, self.parts / f"{TEMPORARY}damaged-{manifest.sha256}")

    def _is_named(self, sha256: str) -> bool:
        try:
            return sha256 in self._named()
        except ModelError:
            return True  # whose manifest cannot be read, may be this blob's

    def _named(self) -> set[str]:
        """Digests that a manifest names. Raises: ModelError for one that cannot be read."""
        named = set()
        for name in self.names():
            manifest = self.manifest(name)
            if manifest is not None:
                named.add(manifest.sha256)
        return named

    def _files(self, directory: Path) -> list[Path]:
        return [path for path in directory.iterdir() if path.is_file() or path.is_symlink()]


def file_digest(path: Path, progress: Callable[[int], None] = lambda done: None) -> str:
    """SHA-256 of the file as it is on the disk. progress: told the bytes done. Raises: OSError."""
    digest, done = hashlib.sha256(), 0
    block = bytearray(_BLOCK_BYTES)
    with open(path, "rb", buffering=0) as file:
        while count := file.readinto(block):
            digest.update(memoryview(block)[:count])
            done += count
            progress(done)
    return digest.hexdigest()


def _make_read_only(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        os.fchmod(fd, 0o444)
    finally:
        os.close(fd)


def _removed(path: Path) -> int:
    size = path.lstat().st_size
    path.unlink()
    return size
