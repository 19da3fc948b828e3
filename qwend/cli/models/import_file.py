"""`qwenctl models import`: a GGUF file that is on this machine already, copied into the store."""

from __future__ import annotations

import click

from qwend.cli.models import place
from qwend.cli.models.shown import mebi
from qwend.cli.pull_screen import PullScreen
from qwend.models.intake import import_file
from qwend.models.reference import LocalFile, read_reference, stem_of, store_name


@click.command("import")
@click.argument("path")
@click.option("--name", default="", help="Its name in the store, if not the file's.")
@click.option("--sha256", default="", help="What its SHA-256 must be.")
@click.option("--any-architecture", is_flag=True, help="Take it even if it is no Qwen.")
@click.option("--quiet", is_flag=True, help="Say nothing but errors.")
@click.option("--json", "as_json", is_flag=True, help="Print progress and result as JSON lines.")
def command(
    path: str, name: str, sha256: str, any_architecture: bool, quiet: bool, as_json: bool
) -> None:
    """Copy the GGUF file at PATH into the store, all parts of it if it is split."""
    read_reference("./" + path, sha256)  # says what is wrong with the digest
    store = place.store()
    from qwend.models.pull.pull import check_free

    check_free(store, store_name(name or stem_of(LocalFile(path))))
    with PullScreen(quiet=quiet, as_json=as_json) as screen:
        manifest = import_file(
            store,
            path,
            name=name,
            sha256=sha256.lower(),
            any_architecture=any_architecture,
            progress=screen.progress,
        )
        screen.done(manifest, f"{manifest.name} ({mebi(manifest.size_bytes)}) is in the store.")
