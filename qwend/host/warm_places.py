"""The directories that the warm copy may be in, and the one that has it.

Rule 1: the first place whose file system is large enough has the copy; in the others there is none.
Rule 2: this file does not know what else needs memory; it is told how much.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from qwend.errors import HostError
from qwend.host.root import HostRoot
from qwend.host.space import free_for_copy, place_for_copy
from qwend.host.warm_copy import WarmCopy, find_warm_copy, make_warm_copy, remove_warm_copies


@dataclass(frozen=True, slots=True)
class WarmPlaces:
    """progress, cancelled: as `make_warm_copy` takes them. spare: SHA-256 of copies in use."""

    places: tuple[Path, ...]
    host: HostRoot
    progress: Callable[[int, int], None]
    cancelled: Callable[[], bool]
    spare: Callable[[], frozenset[str]] = frozenset

    def place(self, size: int) -> Path:
        """Where a copy of that many bytes is, or is to be."""
        return place_for_copy(self.places, size)

    def find(self, source_fd: int) -> WarmCopy | None:
        """Return the copy that an earlier start made; what is in another place goes.

        A place that cannot be used has none: making a copy there will say what is wrong.
        """
        place = self.place(os.fstat(source_fd).st_size)
        self.free(but=place)
        try:
            return find_warm_copy(source_fd, place)
        except HostError:
            return None

    def make(self, source_fd: int, *, besides: int, verify: bool) -> WarmCopy:
        """Return an earlier copy or a new one.

        besides: bytes of memory that will be needed for other things. verify: read an earlier copy.
        Raises: HostError with the figures if it does not fit; CopyCancelled.
        """
        return make_warm_copy(
            source_fd,
            self.place(os.fstat(source_fd).st_size),
            progress=self.progress,
            free_bytes=lambda directory: free_for_copy(self.host, directory, besides),
            cancelled=self.cancelled,
            verify=verify,
            spare=self.spare(),
        )

    def free(self, but: Path | None = None) -> None:
        """Remove the copies in all places but one, as far as that is possible now, and as far as
        they are not to be spared."""
        for place in self.places:
            with suppress(HostError):
                if place != but:
                    remove_warm_copies(place, self.spare())
