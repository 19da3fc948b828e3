"""`qwenctl pull`: a model from a hub into this person's store, or for everybody by the daemon."""

from __future__ import annotations

import os

import click

from qwend import __version__
from qwend.cli.connection import connect, socket_option
from qwend.cli.exits import Exit
from qwend.cli.models import place
from qwend.cli.models.shown import mebi
from qwend.cli.pull_screen import PullScreen
from qwend.cli.report import say
from qwend.client import Client
from qwend.errors import ConfigError
from qwend.models.catalogue import catalogue
from qwend.models.intake import import_file
from qwend.models.manifest import Manifest
from qwend.models.pull.order import Order
from qwend.models.pull.pull import check_free
from qwend.models.pull.wanted import SOURCES
from qwend.models.pull.web import Web
from qwend.models.reference import LocalFile, read_reference, stem_of, store_name


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
@click.option(
    "--system/--own",
    "system",
    default=None,
    help="For everybody, by the daemon, as its administrator; or into your own store. Without "
    "either: for everybody, if you may.",
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
    system: bool | None,
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
    offline = offline or os.environ.get("HF_HUB_OFFLINE", "") not in ("", "0")
    order = Order(asked, name, sha256.lower(), source, any_architecture, offline)
    if system:
        from qwend.cli.system_pull import systems_socket

        socket_path = systems_socket(socket_path, os.environ)
    with PullScreen(quiet=quiet, as_json=as_json) as screen:
        try:
            client = _daemon(order, socket_path, system)
            name = _by(client, order, screen) if client else _here(order, screen)
        except KeyboardInterrupt:
            again = f"qwenctl pull {asked}" + (f" --sha256 {sha256}" if sha256 else "")
            again += " --system" if system else ""
            say(f"\nStopped. What has come is kept; to go on: {again}")
            raise
    if use and (client or not place.is_for_me_alone(socket_path)):
        from qwend.cli.switch_screen import SwitchScreen
        from qwend.cli.use import use as use_it

        return use_it(name, SwitchScreen(name, quiet=quiet, as_json=as_json), socket_path)
    if use:
        from qwend.cli.models.default import choose

        choose(name, os.geteuid())
    if not (quiet or as_json):
        _say_what_next(name, socket_path, by_daemon=client is not None)
    return Exit.DONE


def _daemon(order: Order, socket_path: str | None, system: bool | None) -> Client | None:
    """Who is to pull it for everybody; None: we do, into the store that is ours.

    Raises: ClientError, ConfigError.
    """
    is_file = isinstance(read_reference(order.model, order.sha256), LocalFile)
    if system and is_file:
        raise ConfigError(
            f"{order.model} is a file of yours, which the daemon cannot read: `sudo qwenctl models "
            "import` copies it for everybody"
        )
    if system:
        return connect(socket_path, patient=True)
    if system is False or is_file:
        return None
    from qwend.cli.system_pull import who_may_pull

    return who_may_pull(socket_path)


def _by(client: Client, order: Order, screen: PullScreen) -> str:
    """Its name in the daemon's store. Raises: ClientError."""
    from qwend.cli.system_pull import pull

    with client:
        name = pull(client, order, screen)
    news = f"{name} is in the daemon's store."
    screen.done(name, news, fetched=news)
    return name


def _here(order: Order, screen: PullScreen) -> str:
    """Its name in this person's store. Raises: QwendError."""
    store, what = place.store(), "is in the store"
    reference = read_reference(order.model, order.sha256)
    if isinstance(reference, LocalFile):
        check_free(store, store_name(order.name or stem_of(reference)))
        manifest = import_file(
            store,
            reference.path,
            name=order.name,
            sha256=order.sha256,
            any_architecture=order.any_architecture,
            progress=screen.progress,
        )
    else:
        web = Web(agent=f"qwend/{__version__}")
        pulled = order.carry_out(store, web, os.environ, screen.listener())
        manifest = pulled.manifest
        if not pulled.fetched_bytes:
            what = "is here" if order.offline else "is here already, as the hub has it"
    news = _news(manifest, what)
    screen.done(manifest, news, fetched=news)
    return manifest.name


def _news(manifest: Manifest, what: str) -> str:
    kind = f"{manifest.quantization}, " if manifest.quantization else ""
    return f"{manifest.name} ({kind}{mebi(manifest.size_bytes)}) {what}."


def _say_what_next(name: str, socket_path: str | None, *, by_daemon: bool) -> None:
    if by_daemon and os.geteuid() != 0:
        say(
            f"To have the daemon answer with it: qwenctl load {name}; after each of its starts "
            f"too: sudo qwenctl use {name}"
        )
    elif not by_daemon and place.is_for_me_alone(socket_path):
        say(
            "It is in your own store; the system's daemon reads another: "
            f"`sudo qwenctl pull {name} --use` is for everybody."
        )
    elif by_daemon or place.configured_name() != name:
        say(f"To have the daemon answer with it: qwenctl use {name}")
