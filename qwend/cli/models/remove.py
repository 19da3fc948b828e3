"""`qwenctl models rm`: a model out of the store, unless somebody needs it."""

from __future__ import annotations

import click

from qwend.cli.connection import socket_option
from qwend.cli.models import place
from qwend.cli.models.shown import mebi
from qwend.errors import ModelError
from qwend.models.blob_store import BlobStore
from qwend.models.store import resolve_model

# By what it is to the daemon.
_WHY = {
    "resident": "is what the daemon answers with; choose another first: `qwenctl use NAME`",
    "unloaded": "is what the daemon loads at the next request; choose another first: "
    "`qwenctl use NAME`",
    "loading": "is being loaded by the daemon; choose another then: `qwenctl use NAME`",
    "leaving": "still ends the answers that it has begun; remove it when they are done",
}


@click.command("rm")
@click.argument("names", nargs=-1, required=True)
@socket_option
def command(names: tuple[str, ...], socket_path: str | None) -> None:
    """Remove the models NAMES from the store."""
    store = place.store()
    held = place.held(place.daemon_status(socket_path))
    default = place.configured_name()
    for name in names:
        stored_as = stored_name(store, name)
        manifest = None
        if stored_as in store.names():
            try:
                manifest = store.manifest(stored_as)
            except ModelError:
                manifest = None  # damaged: it can be removed, and nothing can have loaded it
        role = held.get(store.blob_path(manifest.sha256).absolute()) if manifest else None
        if role is not None:
            raise ModelError(f"{stored_as} {_WHY.get(role, _WHY['resident'])}", code="in_use")
        if stored_as == default:
            raise ModelError(
                f"{stored_as} is what the daemon loads at its next start; choose another first: "
                "`qwenctl use NAME`",
                code="in_use",
            )
        freed = store.remove(stored_as)
        click.echo(f"{stored_as} is removed; {mebi(freed)} are free again.")


def stored_name(store: BlobStore, name: str) -> str:
    """The name of its manifest: NAME:Q8_0 may be stored as NAME-q8_0. Raises: ModelError."""
    if name in store.names():
        return name
    model = resolve_model(name, store.models_dir)
    if model.name not in store.names():
        raise ModelError(
            f"{name} was not pulled or imported; if {model.path} is yours, remove it yourself",
            code="not_found",
        )
    return model.name
