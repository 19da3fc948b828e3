"""A pull in a temporary store from the stub, with no waiting where the real one waits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from qwend.models.blob_store import BlobStore
from qwend.models.catalogue import catalogue
from qwend.models.pull.progress import Listener, Progress
from qwend.models.pull.pull import Pull, Pulled
from qwend.models.pull.transfer import Persistence
from qwend.models.pull.wanted import wanted
from qwend.models.pull.web import Patience, Web
from qwend.models.reference import read_reference
from tests.models.pull.stub_hub import REPOSITORY, StubHub

# Silence of this long is a stall here; the real one waits 12 s.
QUICK = Patience(connect_s=5.0, head_s=5.0, silence_s=0.3, least_bytes=1024)
SEAL_BYTES = 16 * 1024


@dataclass
class Puller:
    """notices, stages: what it told. waits: the seconds that it would have slept."""

    hub: StubHub
    models_dir: Path
    patience: Patience = field(default_factory=Patience)
    attempts: int = 5
    notices: list[str] = field(default_factory=list)
    told: list[Progress] = field(default_factory=list)
    waits: list[float] = field(default_factory=list)
    on_progress: Callable[[Progress], None] = lambda progress: None
    cancelled: Callable[[], bool] = lambda: False

    @property
    def store(self) -> BlobStore:
        return BlobStore(self.models_dir)

    def pull(
        self,
        what: str = f"hf:{REPOSITORY}/model.gguf",
        sha256: str = "",
        *,
        source: str = "hub",
        **options: Any,
    ) -> Pulled:
        web = Web(environ={}, patience=self.patience)
        target = wanted(
            read_reference(what, sha256),
            catalogue(),
            web,
            self.hub.environ,
            source=source,
            name=options.pop("name", ""),
        )
        return Pull(
            self.store,
            web,
            Listener(self._progress, self.notices.append),
            Persistence(self.attempts, self.waits.append),
            self.cancelled,
            seal_bytes=SEAL_BYTES,
            **options,
        ).run(target)

    def published(self) -> list[bytes]:
        """The bytes of every blob that has a name."""
        store = self.store
        return [store.blob_path(m.sha256).read_bytes() for m in store.manifests()]

    def left_over(self) -> list[str]:
        return sorted(path.name for path in self.store.parts.iterdir())

    def _progress(self, progress: Progress) -> None:
        self.told.append(progress)
        self.on_progress(progress)
