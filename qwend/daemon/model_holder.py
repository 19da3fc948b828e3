"""Opening the configured model, warming it as memory allows, and looking at it again.

Owns the model's descriptors. `hold` is for the start of the daemon, `hold_again` for each start of
an engine after a death: a copy that was damaged in memory is made again, and a file that was
changed on the disk is not taken for the one that was checked.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from qwend.config import Config
from qwend.daemon.memory_plan import MemoryPlan, fits_beside, needed, plan_memory
from qwend.daemon.model import HeldModel
from qwend.errors import ConfigError, HostError, ModelError
from qwend.host.memory_policy import Need, Policy
from qwend.host.root import HostRoot
from qwend.host.warm_copy import WarmCopy
from qwend.host.warm_index import SourceId, identify
from qwend.host.warm_places import WarmPlaces
from qwend.models import GgufFacts, ModelFile, check_gguf, fingerprint, open_model, resolve_model

log = logging.getLogger(__name__)

# How a process ends that somebody else ended: the OOM killer, an operator. Every other death may be
# the model's fault: SIGBUS of a copy that was cut short, an abort or numbers that are none of one
# that was written to.
_ENDED_FROM_OUTSIDE = ("killed by SIGKILL", "killed by SIGTERM")


@dataclass(frozen=True, slots=True)
class Candidate:
    """A model that was looked at and not held: it can be used. source: the file as it is now.

    fits_beside: the memory at hand holds it beside all that is there.
    """

    file: ModelFile
    source: SourceId
    fits_beside: bool


@dataclass(frozen=True, slots=True)
class ModelHolder:
    """warm_places: directories for the copy; the first that is large enough has it.

    progress: told bytes done and bytes in all. degraded: told why it runs from the disk, if it
    does. cancelled: the daemon is being stopped; asked between pieces of a few MiB.
    damaged: the copy was found to be bad, and with it all that was computed.
    spare: SHA-256 of the copies of other models that are in use.
    """

    config: Config
    models_dir: Path
    warm_places: tuple[Path, ...]
    host: HostRoot
    progress: Callable[[int, int], None]
    degraded: Callable[[str], None]
    cancelled: Callable[[], bool] = lambda: False
    damaged: Callable[[], None] = lambda: None
    spare: Callable[[], frozenset[str]] = frozenset

    def look(self) -> Candidate:
        """Find and check the model, and let go of it. Raises: ConfigError; ModelError."""
        self._check_settings()
        file = resolve_model(self.config.model.name, self.models_dir)
        with ExitStack() as opened:
            fd = open_model(file.path)
            opened.callback(os.close, fd)
            source = identify(fd, str(file.path))
            facts = self._checked(fd, source.size_bytes, source.path)
        need = needed(self.config, facts, source.size_bytes, self.host)
        place = self._copies.place(source.size_bytes)
        return Candidate(file, source, fits_beside(self.config, need, self.host, place))

    def free(self) -> None:
        """Remove the copies of all models but those in use by others."""
        self._copies.free()

    def hold(self, undo: ExitStack) -> HeldModel:
        """Open, check and warm the model; `undo` closes it.

        Raises: ConfigError; ModelError; HostError if the warm copy is required and cannot be had;
        CopyCancelled.
        """
        self._check_settings()
        file = resolve_model(self.config.model.name, self.models_dir)
        source_fd = open_model(file.path)
        undo.callback(os.close, source_fd)
        source = identify(source_fd, str(file.path))
        copy_open = undo.enter_context(ExitStack())
        # Before anything is read from the disk: an earlier copy says what the file is, too.
        earlier = self._earlier_copy(source_fd, source.path, copy_open)
        copy, facts = earlier or (None, self._checked(source_fd, source.size_bytes, source.path))
        fd = source_fd if copy is None else copy.fd
        need = needed(self.config, facts, source.size_bytes, self.host)
        memory = self._plan(need, copy, makes_copy=self._wants_copy)
        if memory.policy is Policy.DROP:
            copy_open.close()
            self._copies.free()
            copy = None
        elif self._wants_copy and copy is None:
            copy = self._new_copy(source_fd, need, memory, copy_open)
            if copy is None:
                memory = self._plan(need, None, makes_copy=False)
        now = source_fd if copy is None else copy.fd
        if now != fd and (copy is None or identify(source_fd, source.path) != source):
            facts = self._checked(now, source.size_bytes, source.path)
        log.info("memory: %s (%s)", memory.policy, memory.reason)
        return HeldModel(
            file=file,
            fd=now,
            size_bytes=source.size_bytes,
            sha256="" if copy is None else copy.sha256,
            warm=copy is not None,
            facts=facts,
            fingerprint=fingerprint(now, source.size_bytes),
            memory=memory,
            source_fd=source_fd,
            source=source,
        )

    def hold_again(self, held: HeldModel, death: str) -> HeldModel:
        """Make sure that the next engine gets the model that was checked, by the same descriptor.

        For a time when no engine runs. death: how the last one ended, in words.
        Raises: ModelError if the file itself is another one now; HostError as `hold`.
        """
        if not held.warm:
            self._check_unchanged(held)
            return held
        if death.endswith(_ENDED_FROM_OUTSIDE):
            return held
        # A bad copy is let go of first, for there is seldom room for two.
        os.dup2(held.source_fd, held.fd, inheritable=False)
        with ExitStack() as opened:
            need = needed(self.config, held.facts, held.size_bytes, self.host)
            copy = self._new_copy(held.source_fd, need, held.memory, opened, verify=True)
            if copy is not None:
                os.dup2(copy.fd, held.fd, inheritable=False)
        if copy is None or not copy.reused:
            self._note_damage()
        if copy is None or copy.sha256 != held.sha256:
            self._check_unchanged(held)
        return replace(held, warm=copy is not None)

    @property
    def _copies(self) -> WarmPlaces:
        return WarmPlaces(self.warm_places, self.host, self.progress, self.cancelled, self.spare)

    @property
    def _wants_copy(self) -> bool:
        return self.config.model.warm_copy != "off"

    def _check_settings(self) -> None:
        settings = self.config.model
        if (settings.memory, settings.warm_copy) == ("drop", "required"):
            raise ConfigError(
                '`memory = "drop"` under [model] keeps no copy, and `warm_copy = "required"` '
                "refuses to start without one: change one of them"
            )

    def _checked(self, fd: int, size: int, path: str) -> GgufFacts:
        allow_any = self.config.model.allow_any_architecture
        return check_gguf(fd, size, path=path, allow_any_architecture=allow_any)

    def _check_unchanged(self, held: HeldModel) -> None:
        assert held.source is not None
        path, fd = held.source.path, held.source_fd
        if identify(fd, path) == held.source:
            return
        size = os.fstat(fd).st_size
        self._checked(fd, size, path)
        if fingerprint(fd, size) != held.fingerprint:
            raise ModelError(
                f"{path} was changed while it was in use: restart qwend to load what is there now"
            )

    def _plan(self, need: Need, copy: WarmCopy | None, *, makes_copy: bool) -> MemoryPlan:
        there = 0 if copy is None else copy.size_bytes
        warm_dir = self._copies.place(need.file_bytes)
        return plan_memory(
            self.config, need, self.host, warm_dir, copy_bytes=there, makes_copy=makes_copy
        )

    def _earlier_copy(
        self, source_fd: int, path: str, opened: ExitStack
    ) -> tuple[WarmCopy, GgufFacts] | None:
        """None if there is none, or none that may be used."""
        if not self._wants_copy:
            self._copies.free()  # of a time when it was wanted
            return None
        copy = self._copies.find(source_fd)
        if copy is None:
            return None
        with ExitStack() as unless_good:
            unless_good.callback(os.close, copy.fd)
            try:
                facts = self._checked(copy.fd, copy.size_bytes, path)
            except ModelError:
                # It passed when it was made. If it is the file that is bad, the file will say so.
                self._note_damage()
                self._copies.free()
                return None
            opened.push(unless_good.pop_all())
        return copy, facts

    def _new_copy(
        self,
        source_fd: int,
        need: Need,
        memory: MemoryPlan,
        opened: ExitStack,
        *,
        verify: bool = False,
    ) -> WarmCopy | None:
        """None, and `degraded` told why, where it may be done without."""
        besides = need.working_bytes + (need.repacked_bytes if memory.is_repacked else 0)
        try:
            copy = self._copies.make(source_fd, besides=besides, verify=verify)
        except HostError as error:
            if self.config.model.warm_copy == "required":
                raise
            self.degraded(f"running from disk: {error}")
            return None
        opened.callback(os.close, copy.fd)
        return copy

    def _note_damage(self) -> None:
        log.warning("the warm copy of the model was damaged")
        self.damaged()
