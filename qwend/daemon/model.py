"""The model as the daemon holds it: opened, checked, and kept in memory where that is wanted.

What was checked is what runs: the descriptor that passed the check is the one the engine gets,
whatever happens to the file's name afterwards.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from qwend.config import ModelConfig
from qwend.errors import HostError
from qwend.host.root import HostRoot
from qwend.host.space import free_for_copy
from qwend.host.warm_copy import make_warm_copy
from qwend.models import GgufFacts, ModelFile, check_gguf, fingerprint, open_model, resolve_model


@dataclass(frozen=True, slots=True)
class HeldModel:
    """fd: open for as long as the daemon lives, shared with every engine it starts.

    sha256: of the whole file; empty where it runs from the disk without having been read.
    fingerprint: tells its weights from others, by samples of the file.
    """

    file: ModelFile
    fd: int
    size_bytes: int
    sha256: str
    warm: bool
    facts: GgufFacts
    fingerprint: str

    @property
    def engine_path(self) -> str:
        """A path to the very file that is open, good in any process that inherits `fd`."""
        return f"/proc/self/fd/{self.fd}"


def hold_model(
    config: ModelConfig,
    models_dir: Path,
    warm_dir: Path,
    host: HostRoot,
    progress: Callable[[int, int], None],
    degraded: Callable[[str], None],
    undo: ExitStack,
) -> HeldModel:
    """Open, warm and check the configured model; `undo` closes it.

    progress: bytes done, bytes in all. degraded: told why it runs from the disk, if it does.
    Raises: ModelError; HostError if the warm copy is required and cannot be had.
    """
    file = resolve_model(config.name, models_dir)
    fd = open_model(file.path)
    undo.callback(os.close, fd)
    size = os.fstat(fd).st_size
    sha256 = ""
    warm = False
    if config.warm_copy != "off":
        try:
            copy = make_warm_copy(
                fd,
                warm_dir,
                progress=progress,
                free_bytes=lambda directory: free_for_copy(host, directory),
            )
        except HostError as error:
            if config.warm_copy == "required":
                raise
            degraded(f"running from disk: {error}")
        else:
            undo.callback(os.close, copy.fd)
            fd, sha256, warm = copy.fd, copy.sha256, True
    facts = check_gguf(
        fd, size, path=str(file.path), allow_any_architecture=config.allow_any_architecture
    )
    return HeldModel(file, fd, size, sha256, warm, facts, fingerprint(fd, size))
