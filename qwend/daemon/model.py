"""The model as the daemon holds it: opened, checked, and kept in memory where that is wanted.

What was checked is what runs: the descriptor that passed the check is the one the engine gets,
whatever happens to the file's name afterwards.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from qwend.daemon.memory_plan import MemoryPlan
from qwend.host.warm_index import SourceId
from qwend.models import GgufFacts, ModelFile


@dataclass(frozen=True, slots=True)
class HeldModel:
    """fd: open for as long as the daemon lives, shared with every engine it starts.

    sha256: of the whole file; empty where it runs from the disk without having been read.
    warm: `fd` is the warm copy. fingerprint: tells its weights from others, by samples of the file.
    source_fd: the file that was configured; source: what it was when it was checked.
    """

    file: ModelFile
    fd: int
    size_bytes: int
    sha256: str
    warm: bool
    facts: GgufFacts
    fingerprint: str
    memory: MemoryPlan = field(default_factory=MemoryPlan)
    source_fd: int = -1
    source: SourceId | None = None
