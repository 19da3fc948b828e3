"""`qwenctl models verify`: every byte of a model read again, and compared with its SHA-256."""

from __future__ import annotations

import click

from qwend.cli.exits import Exit
from qwend.cli.models import place
from qwend.cli.models.shown import mebi
from qwend.cli.pull_screen import PullScreen
from qwend.errors import HostError, ModelError
from qwend.models.blob_store import BlobStore, file_digest
from qwend.models.manifest import Manifest
from qwend.models.pull.progress import Progress
from qwend.models.store import resolve_model


@click.command("verify")
@click.argument("names", nargs=-1)
@click.option("--quiet", is_flag=True, help="Say nothing but what is wrong.")
def command(names: tuple[str, ...], quiet: bool) -> int:
    """Read the models NAMES again, or all of the store, and compare with their SHA-256.

    A damaged one is taken out of use, so that the next pull gets it again.
    """
    store, wrong = place.store(), 0
    with PullScreen(quiet=quiet, as_json=False) as screen:
        for name in names or store.names():
            manifest = _manifest(store, name)
            told = problem(store, manifest, screen)
            if told:
                wrong += 1
                screen.notice(f"{manifest.name}: {told}")
            else:
                screen.say(f"{manifest.name}: {mebi(manifest.size_bytes)}, as it was fetched")
    return Exit.REQUEST_FAILED if wrong else Exit.DONE


def problem(store: BlobStore, manifest: Manifest, screen: PullScreen) -> str:
    """What is wrong with its blob, empty if nothing is. Raises: HostError."""
    path, total = store.blob_path(manifest.sha256), manifest.size_bytes
    again = f"`qwenctl pull {manifest.name}` gets it again"

    def tell(done: int) -> None:
        screen.progress(Progress("rereading", manifest.name, 1, 1, done, total))

    try:
        found = file_digest(path, tell)
    except FileNotFoundError:
        return f"its file is missing; {again}"
    except OSError as error:
        raise HostError(str(path), "reading", error.strerror or error) from error
    if found == manifest.sha256:
        return ""
    store.set_aside(manifest)
    return f"damaged: the SHA-256 is {found} and should be {manifest.sha256}; {again}"


def _manifest(store: BlobStore, name: str) -> Manifest:
    manifest = store.manifest(name)
    if manifest is not None:
        return manifest
    model = resolve_model(name, store.models_dir)
    manifest = store.manifest(model.name)
    if manifest is None:
        raise ModelError(
            f"{name} was not pulled or imported, so nobody knows what its SHA-256 should be: "
            f"{model.path}",
            code="not_found",
        )
    return manifest
