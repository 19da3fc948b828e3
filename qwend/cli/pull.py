"""`qwenctl pull`: a model from a hub into this person's store."""

from __future__ import annotations

import os

import click

from qwend import __version__
from qwend.cli.connection import socket_option
from qwend.cli.exits import Exit
from qwend.cli.models import place
from qwend.cli.models.shown import mebi
from qwend.cli.pull_screen import PullScreen
from qwend.cli.report import say
from qwend.errors import FetchError
from qwend.models.catalogue import catalogue
from qwend.models.intake import import_file
from qwend.models.manifest import Manifest
from qwend.models.pull.wanted import SOURCES, Wanted, wanted
from qwend.models.pull.web import Web
from qwend.models.reference import LocalFile, Reference, read_reference, stem_of, store_name


@click.command("pull")
@click.argument("model", required=False)
@click.option("--name", default="", help="Its name in the store, if not its own.")
@click.option("--sha256", default="", help="What its SHA-256 must be; https:// needs it.")
@click.option(
    "--from",
    "source",
    type=click.Choice(SOURCES),
    default="auto",
    show_default=True,
    help="auto: Hugging Face (or $HF_ENDPOINT), and ModelScope if it does not answer.",
)
@click.option(
    "--use", is_flag=True, help="Have the daemon answer with it, now and after each start."
)
@click.option("--offline", is_flag=True, help="Ask nobody; succeed if it is here already.")
@click.option("--any-architecture", is_flag=True, help="Take it even if it is no Qwen.")
@click.option("--quiet", is_flag=True, help="Say nothing but errors.")
@click.option("--json", "as_json", is_flag=True, help="Print progress and result as JSON lines.")
@socket_option
def command(
    model: str | None,
    name: str,
    sha256: str,
    source: str,
    use: bool,
    offline: bool,
    any_architecture: bool,
    quiet: bool,
    as_json: bool,
    socket_path: str | None,
) -> int:
    """Get a model: NAME or NAME:QUANT of `models available`, hf:OWNER/REPO/FILE.gguf, an https://
    address, or a path. Without one: the model to begin with.

    What was interrupted goes on where it ended when the same is pulled again.
    """
    asked = model or catalogue().default
    reference = read_reference(asked, sha256)
    offline = offline or os.environ.get("HF_HUB_OFFLINE", "") not in ("", "0")
    with PullScreen(quiet=quiet, as_json=as_json) as screen:
        try:
            manifest, news = _got(
                reference, asked, name, sha256, source, offline, any_architecture, screen
            )
        except KeyboardInterrupt:
            again = f"qwenctl pull {asked}" + (f" --sha256 {sha256}" if sha256 else "")
            say(f"\nStopped. What has come is kept; to go on: {again}")
            raise
        screen.done(manifest, news, fetched=news)
    if use and not place.is_for_me_alone(socket_path):
        from qwend.cli.switch_screen import SwitchScreen
        from qwend.cli.use import use as use_it

        name = manifest.name
        return use_it(name, SwitchScreen(name, quiet=quiet, as_json=as_json), socket_path)
    if use:
        from qwend.cli.models.default import choose

        choose(manifest.name, os.geteuid())
    if not (quiet or as_json):
        _say_what_next(manifest.name, socket_path)
    return Exit.DONE


def _got(
    reference: Reference,
    asked: str,
    name: str,
    sha256: str,
    source: str,
    offline: bool,
    any_architecture: bool,
    screen: PullScreen,
) -> tuple[Manifest, str]:
    """The model, and a sentence about it. Raises: QwendError."""
    from qwend.models.pull.pull import Pull, check_free

    store = place.store()
    if isinstance(reference, LocalFile):
        check_free(store, store_name(name or stem_of(reference)))
        manifest = import_file(
            store,
            reference.path,
            name=name,
            sha256=sha256.lower(),
            any_architecture=any_architecture,
            progress=screen.progress,
        )
        return manifest, _news(manifest, "is in the store")
    web = Web(agent=f"qwend/{__version__}")
    target = wanted(reference, catalogue(), web, os.environ, source=source, name=name)
    if offline:
        manifest = _installed(target)
        return manifest, _news(manifest, "is here")
    pull = Pull(store, web, screen.listener(), any_architecture=any_architecture)
    pulled = pull.run(target)
    what = "is in the store" if pulled.fetched_bytes else "is here already, as the hub has it"
    return pulled.manifest, _news(pulled.manifest, what)


def _installed(target: Wanted) -> Manifest:
    store = place.store()
    manifest = store.manifest(target.name)
    if manifest is None or not store.has_blob(manifest.sha256, manifest.size_bytes):
        raise FetchError(
            f"{target.name} is not here, and nobody may be asked (--offline, HF_HUB_OFFLINE)",
            code="offline",
        )
    return manifest


def _news(manifest: Manifest, what: str) -> str:
    kind = f"{manifest.quantization}, " if manifest.quantization else ""
    return f"{manifest.name} ({kind}{mebi(manifest.size_bytes)}) {what}."


def _say_what_next(name: str, socket_path: str | None) -> None:
    if place.is_for_me_alone(socket_path):
        say(
            "It is in your own store; the system's daemon reads another: "
            f"`sudo qwenctl pull {name} --use` is for everybody."
        )
    elif place.configured_name() != name:
        say(f"To have the daemon answer with it: qwenctl use {name}")
