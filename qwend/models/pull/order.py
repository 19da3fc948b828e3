"""What somebody wants to have pulled, as they said it, and the way from there into a store.

Rule 1: `qwenctl pull` and the daemon's worker both go through here, so both mean the same by it.
Rule 2: this file does not know who asked, nor who watches.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from qwend.errors import FetchError
from qwend.models.blob_store import BlobStore
from qwend.models.catalogue import catalogue
from qwend.models.pull.progress import Listener
from qwend.models.pull.pull import Pull, Pulled
from qwend.models.pull.wanted import Wanted, wanted
from qwend.models.pull.web import Web
from qwend.models.reference import read_reference


@dataclass(frozen=True, slots=True)
class Order:
    """model: what `read_reference` takes, but for a path. name: in the store; empty: its own.

    sha256: empty: whatever the hub announces. source: one of SOURCES. offline: ask nobody.
    """

    model: str
    name: str = ""
    sha256: str = ""
    source: str = "auto"
    any_architecture: bool = False
    offline: bool = False

    def carry_out(
        self,
        store: BlobStore,
        web: Web,
        environ: Mapping[str, str],
        listener: Listener,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> Pulled:
        """Raises: FetchError, ModelError, HostError, ConfigError."""
        reference = read_reference(self.model, self.sha256)
        target = wanted(reference, catalogue(), web, environ, source=self.source, name=self.name)
        if self.offline:
            return _installed(store, target)
        pull = Pull(
            store,
            web,
            listener,
            cancelled=cancelled,
            any_architecture=self.any_architecture,
        )
        return pull.run(target)


def _installed(store: BlobStore, target: Wanted) -> Pulled:
    manifest = store.manifest(target.name)
    if manifest is None or not store.has_blob(manifest.sha256, manifest.size_bytes):
        raise FetchError(
            f"{target.name} is not here, and nobody may be asked (--offline, HF_HUB_OFFLINE)",
            code="offline",
        )
    return Pulled(manifest, 0)
