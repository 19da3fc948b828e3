"""The last step of a pull and the whole of an import: check what came, and give it its name.

Rule 1: a model gets its name once its header has passed the check that the daemon makes. Rule 2:
parts become one file here, so that everything behind the store knows whole files only.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from qwend.errors import FetchError, HostError, ModelError
from qwend.models.blob_store import BlobStore
from qwend.models.disk import TEMPORARY
from qwend.models.header_check import GgufFacts, check_gguf
from qwend.models.manifest import Manifest
from qwend.models.pull.progress import Progress
from qwend.models.reference import LocalFile, parts_of, stem_of, store_name
from qwend.models.split_join import join
from qwend.models.store import open_model

_BLOCK_BYTES = 1 << 20
Tell = Callable[[Progress], None]


def add_file(
    store: BlobStore,
    paths: Sequence[Path],
    *,
    names: Sequence[str],
    digests: Sequence[str],
    described: Manifest,
    any_architecture: bool = False,
    progress: Tell = lambda progress: None,
) -> Manifest:
    """Check the model, publish it, and return its manifest, completed.

    paths: all parts, flushed, in the store's parts or blobs. names: what messages call them.
    digests: theirs. described: what is known of it by now.
    Raises: ModelError, HostError; the files are left where they are then.
    """
    with ExitStack() as left_over:
        path, sha256 = paths[0], digests[0]
        if len(paths) > 1:
            path, sha256 = _joined(store, paths, names, left_over, progress)
        size = path.stat().st_size
        progress(Progress("checking", names[0].rpartition("/")[2], 1, 1, size, size))
        facts = _facts(path, names[0], any_architecture)
        manifest = replace(
            described,
            sha256=sha256,
            size_bytes=size,
            quantization=facts.quantization,
            architecture=facts.architecture,
            parameters=facts.parameter_count,
            context=facts.context_length,
            parts=tuple(digests) if len(digests) > 1 else (),
        )
        is_blob = path == store.blob_path(sha256)
        store.publish(manifest, None if is_blob else path)
        return manifest


def import_file(
    store: BlobStore,
    path: str,
    *,
    name: str = "",
    sha256: str = "",
    any_architecture: bool = False,
    progress: Tell = lambda progress: None,
) -> Manifest:
    """Copy a model that lies somewhere else, all of its parts, into the store.

    sha256: what it must be, of a file that is not split; empty: whatever it is.
    Raises: ModelError, HostError, ConfigError, FetchError.
    """
    first = Path(os.path.expanduser(path)).absolute()
    stored_as = store_name(name or stem_of(LocalFile(str(first))))
    files = parts_of(str(first))
    store.prepare()
    with ExitStack() as left_over:
        copies, digests = [], []
        for file in files:
            copied, digest = _copied(store, Path(file), left_over, progress)
            copies.append(copied)
            digests.append(digest)
        if sha256 and digests != [sha256]:
            raise FetchError(
                f"{path} has the SHA-256 {', '.join(digests)} and not {sha256}", code="wrong_bytes"
            )
        return add_file(
            store,
            copies,
            names=files,
            digests=digests,
            described=Manifest(stored_as, digests[0], 1, str(first), time.time()),
            any_architecture=any_architecture,
            progress=progress,
        )


def _joined(
    store: BlobStore,
    paths: Sequence[Path],
    names: Sequence[str],
    left_over: ExitStack,
    progress: Tell,
) -> tuple[Path, str]:
    total = sum(path.stat().st_size for path in paths)
    target, file = _temporary(store, left_over)

    def tell(done: int) -> None:
        progress(Progress("joining", names[0].rpartition("/")[2], 1, 1, done, total))

    try:
        return target, join(paths, file, names, tell)
    except OSError as error:
        raise _cannot_write(store, error) from error


def _copied(
    store: BlobStore, source: Path, left_over: ExitStack, progress: Tell
) -> tuple[Path, str]:
    """A copy of our own, flushed, and its SHA-256."""
    fd = open_model(source)
    left_over.callback(os.close, fd)
    total, done, digest = os.fstat(fd).st_size, 0, hashlib.sha256()
    try:
        target, file = _temporary(store, left_over)
        while block := os.pread(fd, _BLOCK_BYTES, done):
            file.write(block)
            digest.update(block)
            done += len(block)
            progress(Progress("copying", source.name, 1, 1, done, total))
        file.flush()
        os.fsync(file.fileno())
    except OSError as error:
        raise _cannot_write(store, error) from error
    return target, digest.hexdigest()


def _facts(path: Path, name: str, any_architecture: bool) -> GgufFacts:
    fd = open_model(path)
    try:
        return check_gguf(
            fd,
            os.fstat(fd).st_size,
            path=name.rpartition("/")[2],
            allow_any_architecture=any_architecture,
        )
    except ModelError as error:
        hint = "" if any_architecture else "; --any-architecture takes models that are not Qwen"
        raise ModelError(f"{error} (it was not added to the store{hint})") from error
    finally:
        os.close(fd)


def _temporary(store: BlobStore, left_over: ExitStack) -> tuple[Path, BinaryIO]:
    """An empty file in the store; removed in the end, if it still has that name."""
    fd, name = tempfile.mkstemp(prefix=TEMPORARY, dir=store.parts)
    file = left_over.enter_context(os.fdopen(fd, "wb"))
    left_over.callback(_remove, Path(name))
    fcntl.flock(fd, fcntl.LOCK_EX)  # `BlobStore.sweep` leaves alone what is in use
    return Path(name), file


def _remove(path: Path) -> None:
    with suppress(OSError):
        path.unlink(missing_ok=True)


def _cannot_write(store: BlobStore, error: OSError) -> HostError:
    return HostError(str(store.parts), "writing to", error.strerror or error)
