"""The pull itself: ask a source, make sure of room, bring the bytes over, check, publish.

Rule 1: nothing gets a name in the store that has not the digest its source announced, and a header
that the engine can be given. Rule 2: whatever ends it, what has come stays, and a pull of the same
goes on from there. Rule 3: it never asks a person anything, and shows nothing; both are the
caller's. `cancelled` lets a daemon stop it from another thread.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

from qwend.errors import FetchError, HostError, ModelError
from qwend.models.blob_store import BlobStore
from qwend.models.catalogue import differences
from qwend.models.intake import add_file
from qwend.models.manifest import Manifest
from qwend.models.pull.failure import Again, Changed, Never
from qwend.models.pull.part import SEAL_BYTES, Part, bytes_so_far
from qwend.models.pull.progress import Listener, Progress, Rate
from qwend.models.pull.source import RemoteFile, Source
from qwend.models.pull.transfer import Persistence, Transfer, disk_error
from qwend.models.pull.wanted import Wanted
from qwend.models.pull.web import Web

# A system whose disk is full to the last byte cannot even say so.
ROOM_TO_SPARE_BYTES = 64 << 20
_POLL_S = 0.25
# A source may change its file while it is fetched; one that does it all the time is none.
_MOST_CHANGES = 3


@dataclass(frozen=True, slots=True)
class Pulled:
    """fetched_bytes: that came over the network now; 0 if everything was there."""

    manifest: Manifest
    fetched_bytes: int


@dataclass(slots=True)
class Pull:
    """One pull into one store. seal_bytes: what a kill may cost of each file."""

    store: BlobStore
    web: Web
    listener: Listener = field(default_factory=Listener)
    persistence: Persistence = field(default_factory=Persistence)
    cancelled: Callable[[], bool] = lambda: False
    any_architecture: bool = False
    seal_bytes: int = SEAL_BYTES
    _fetched_bytes: int = 0
    _last: Source | None = None

    def run(self, wanted: Wanted) -> Pulled:
        """Raises: FetchError, ModelError, HostError, ConfigError."""
        self._check_name(wanted.name)
        self.store.prepare()
        self._last = wanted.sources[-1]
        failures: list[str] = []
        code = "fetch_failed"
        for source in wanted.sources:
            try:
                return self._from(source, wanted)
            except (Again, Never) as failed:
                failures.append(str(failed))
                code = failed.code if isinstance(failed, Never) else code
            except FetchError as failed:
                if failed.code != "wrong_bytes" or source is self._last:
                    raise
                failures.append(str(failed))
            if source is not self._last:
                self.listener.notice(f"{failures[-1]}; asking another source")
        told = "; ".join(dict.fromkeys(failures))
        raise FetchError(f"{wanted.name} cannot be fetched: {told}", code=code)

    def _from(self, source: Source, wanted: Wanted) -> Pulled:
        changes = 0
        while True:
            remotes = self._ask(source, wanted)
            try:
                return self._get(source, wanted, remotes)
            except Changed as changed:
                changes += 1
                if changes >= _MOST_CHANGES:
                    raise Never(f"{source.name} changes the file while it is fetched") from changed
                self.listener.notice(f"{changed}; asking again what it is")

    def _ask(self, source: Source, wanted: Wanted) -> list[RemoteFile]:
        self.listener.progress(Progress("asking", source.name))
        remotes = [self._find(source, file) for file in wanted.files]
        if wanted.known is not None:
            whole = None not in (sizes := [remote.size_bytes for remote in remotes])
            size = sum(size or 0 for size in sizes) if whole else None
            sha256 = remotes[0].sha256 if len(remotes) == 1 else ""
            for sentence in differences(wanted.known, size, sha256):
                self.listener.notice(f"{sentence}; going by the hub")
        return remotes

    def _find(self, source: Source, file: str) -> RemoteFile:
        """Ask until there is an answer. Raises: Again, Never."""
        attempt = 1
        while True:
            try:
                return source.find(file)
            except Again as failed:
                if attempt >= self._patience_with(source):
                    raise
                self.listener.notice(f"{failed}; trying again")
                self.persistence.sleep(max(failed.wait_s or 0.0, 2.0 ** (attempt - 1)))
                attempt += 1

    def _patience_with(self, source: Source) -> int:
        """How often it is asked: where another can be asked, not for long."""
        return self.persistence.attempts // 2 if source is self._last else 2

    def _get(self, source: Source, wanted: Wanted, remotes: Sequence[RemoteFile]) -> Pulled:
        with ExitStack() as held:
            parts = [self._hold(remote, wanted, held) for remote in remotes]
            there = self._is_there(wanted, remotes)
            if there is not None:
                for part in parts:
                    part.discard()
                return Pulled(there, 0)
            self._make_sure_of_room(remotes)
            counter = _Counter(remotes, self.listener, self.web.clock)
            paths = []
            for number, (part, remote) in enumerate(zip(parts, remotes, strict=True)):
                counter.part = number + 1
                paths.append(self._bring(source, wanted.files[number], part, remote, counter))
            return Pulled(self._publish(wanted, remotes, paths, parts), self._fetched_bytes)

    def _hold(self, remote: RemoteFile, wanted: Wanted, held: ExitStack) -> Part:
        """The part, ours alone; while another pull has it, show how far that one is."""
        told = False
        while True:
            try:
                part = Part.open(self.store.parts, remote.sha256, self.seal_bytes)
            except OSError as error:
                cause = error.strerror or error
                raise HostError(str(self.store.parts), "writing to", cause) from error
            if part is not None:
                return held.enter_context(part)
            if not told:
                self.listener.notice("another pull is fetching the same; waiting for it")
                told = True
            done = bytes_so_far(self.store.parts, remote.sha256)
            total = remote.size_bytes or 0
            self.listener.progress(
                Progress("waiting", wanted.name, done_bytes=done, total_bytes=total)
            )
            if self.cancelled():
                raise FetchError("the pull was cancelled", code="cancelled")
            time.sleep(_POLL_S)

    def _is_there(self, wanted: Wanted, remotes: Sequence[RemoteFile]) -> Manifest | None:
        """The model under this name, if it is exactly this one."""
        manifest = None
        with suppress(ModelError):  # one that cannot be read is written anew
            manifest = self.store.manifest(wanted.name)
        if manifest is None or not self.store.has_blob(manifest.sha256, manifest.size_bytes):
            return None
        asked = tuple(remote.sha256 for remote in remotes)
        same = manifest.parts == asked if len(asked) > 1 else (manifest.sha256,) == asked
        return manifest if same else None

    def _make_sure_of_room(self, remotes: Sequence[RemoteFile]) -> None:
        sizes = [remote.size_bytes or 0 for remote in remotes]
        missing = sum(
            max(0, size - bytes_so_far(self.store.parts, remote.sha256))
            for size, remote in zip(sizes, remotes, strict=True)
            if not self.store.has_blob(remote.sha256, remote.size_bytes)
        )
        joined = sum(sizes) if len(sizes) > 1 else 0  # the parts and the whole are there together
        info = os.statvfs(self.store.parts)
        needed, free = missing + joined + ROOM_TO_SPARE_BYTES, info.f_bavail * info.f_frsize
        if missing + joined and needed > free:
            raise FetchError(
                f"{self.store.models_dir} has {free >> 20} MiB free, and this takes "
                f"{needed >> 20} MiB; `qwenctl models gc` or `rm` makes room",
                code="no_space",
            )

    def _bring(
        self, source: Source, file: str, part: Part, remote: RemoteFile, counter: _Counter
    ) -> Path:
        """The path of the whole file, of the right digest."""
        if self.store.has_blob(remote.sha256, remote.size_bytes):
            part.discard()
            return self.store.blob_path(remote.sha256)
        try:
            had = part.resume(lambda done: counter.tell("rereading", file, done))
            if had:
                self.listener.notice(f"going on behind {had >> 20} MiB that are there already")
            Transfer(
                web=self.web,
                part=part,
                find=lambda: self._find(source, file),
                persistence=self.persistence,
                progress=lambda done: counter.tell("fetching", file, done),
                notice=self.listener.notice,
                cancelled=self.cancelled,
            ).run(remote)
            self._fetched_bytes += part.size_bytes - had
            counter.finished(part.size_bytes)
            return part.finish()
        except OSError as error:
            raise disk_error(part, error) from error

    def _publish(
        self,
        wanted: Wanted,
        remotes: Sequence[RemoteFile],
        paths: Sequence[Path],
        parts: Sequence[Part],
    ) -> Manifest:
        manifest = add_file(
            self.store,
            paths,
            names=wanted.files,
            digests=[remote.sha256 for remote in remotes],
            described=Manifest(
                name=wanted.name,
                sha256=remotes[0].sha256,
                size_bytes=1,
                origin=wanted.origin,
                added_at=time.time(),
                revision=remotes[0].revision,
                licence=wanted.licence,
            ),
            any_architecture=self.any_architecture,
            progress=self.listener.progress,
        )
        for part in parts:
            part.discard()
        return manifest

    def _check_name(self, name: str) -> None:
        check_free(self.store, name)


def check_free(store: BlobStore, name: str) -> None:
    """Raises: FetchError if a file that somebody put there would be found instead."""
    path = store.models_dir / f"{name}.gguf"
    if os.path.lexists(path):
        raise FetchError(
            f"{path} has this name already, and would be used instead; move it away, or give "
            "another name with --name",
            code="name_taken",
        )


class _Counter:
    """Adds up the parts of one model, for whoever watches."""

    def __init__(
        self, remotes: Sequence[RemoteFile], listener: Listener, clock: Callable[[], float]
    ) -> None:
        sizes = [remote.size_bytes for remote in remotes]
        self._total = 0 if None in sizes else sum(size or 0 for size in sizes)
        self._parts, self._listener = len(remotes), listener
        self._before, self.part = 0, 1
        self._rate, self._clock = Rate(clock), clock

    def tell(self, stage: str, file: str, done: int) -> None:
        rate = self._rate.note(self._before + done) if stage == "fetching" else 0.0
        left = self._total - self._before - done
        self._listener.progress(
            Progress(
                stage,
                file.rpartition("/")[2],
                self.part,
                self._parts,
                self._before + done,
                self._total,
                rate,
                left / rate if rate and self._total else None,
            )
        )

    def finished(self, size_bytes: int) -> None:
        self._before += size_bytes
