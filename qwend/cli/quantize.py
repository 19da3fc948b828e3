"""`qwenctl quantize`: a smaller file of a model, by llama.cpp's own quantizer.

Rule 1: the result gets its name, in a directory or in the store, when it is whole and checked.
Rule 2: llama.cpp runs in a process of its own (`quantizer`), which gets open files and no names.
"""

from __future__ import annotations

import json
import os
import re
import time
from contextlib import ExitStack
from pathlib import Path

import click

from qwend.cli.models import place
from qwend.cli.models.shown import mebi
from qwend.cli.pull_screen import PullScreen
from qwend.cli.quantization import KINDS, Quantization, check_sense, known, opened
from qwend.cli.report import say
from qwend.cli.result_file import ResultFile, ended_by_signals, result_file, taken
from qwend.errors import ConfigError, FetchError
from qwend.models.blob_store import BlobStore, file_digest
from qwend.models.ggml_types import FILE_TYPES
from qwend.models.intake import add_file
from qwend.models.manifest import Manifest
from qwend.models.pull.progress import Progress
from qwend.models.reference import store_name
from qwend.models.store import resolve_model

_KIND_AT_END = re.compile(rf"[-._](?:{'|'.join(FILE_TYPES.values())}|FP16|FP32)$", re.IGNORECASE)


@click.command("quantize")
@click.argument("source")
@click.option("--to", "kind", required=True, metavar="TYPE", help=f"One of {', '.join(KINDS)}.")
@click.option(
    "-o", "--output", metavar="FILE", help="Else NAME-TYPE.gguf, beside a source given by its path."
)
@click.option("--force", is_flag=True, help="Replace what has the result's name.")
@click.option(
    "--import", "into_store", is_flag=True, help="Put it into the store, not into a file."
)
@click.option("--name", default="", help="Its name in the store; with --import, which it implies.")
@click.option("--requantize", is_flag=True, help="Take a source that is quantized already.")
@click.option("--any-architecture", is_flag=True, help="Take it even if it is no Qwen.")
@click.option("--quiet", is_flag=True, help="Say nothing but errors.")
@click.option("--json", "as_json", is_flag=True, help="Print progress and result as JSON lines.")
def command(
    source: str,
    kind: str,
    output: str | None,
    force: bool,
    into_store: bool,
    name: str,
    requantize: bool,
    any_architecture: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    """Make a smaller file of the model SOURCE, a path or a name of `models list`.

    The source should be in F16, BF16 or F32. Whatever ends it early leaves nothing behind.
    """
    kind = known(kind)
    if output and (into_store or name):
        raise ConfigError("--output names a file, and --import wants none: choose one")
    with ExitStack() as held:
        held.enter_context(ended_by_signals())
        by_path = "/" in source or source.endswith(".gguf")
        model = resolve_model(source, place.paths().models)
        origin = opened(model, by_path, any_architecture, held)
        check_sense(origin, kind, requantize)
        screen = held.enter_context(PullScreen(quiet=quiet, as_json=as_json))
        work = Quantization(origin, kind, requantize, any_architecture, screen)
        try:
            if into_store or name:
                _into_store(work, name, force)
            else:
                _into_file(work, output, force, as_json)
        except KeyboardInterrupt:
            say("\nStopped. Nothing is left of what was begun.")
            raise


def _into_file(work: Quantization, output: str | None, force: bool, as_json: bool) -> None:
    target = _target(work, output)
    if os.path.lexists(target):
        if not force:
            raise taken(target)
        if target.exists() and target.samefile(work.source.path):
            raise ConfigError(f"{target} is the source; --output names another place")
    with result_file(target.parent) as result:
        work.run(result, target.name)
        # Who may read the source may read this; and the owner may remove it again.
        result.flush(os.fstat(work.source.fd).st_mode & 0o644 | 0o600)
        size = result.bytes
        result.publish(target, replace=force)
    event = {"event": "done", "path": str(target), "quantization": work.kind, "size_bytes": size}
    if as_json:
        click.echo(json.dumps(event))
    work.screen.say(f"{target} ({_from_to(work, size)}) is written.")


def _into_store(work: Quantization, name: str, force: bool) -> None:
    from qwend.models.pull.pull import check_free

    name = store_name(name or f"{_stem(work.source.name)}-{work.kind.lower()}")
    store = place.store()
    check_free(store, name)
    if not force and name in store.names():
        raise FetchError(
            f"the store has a model {name!r} already; --force replaces it, --name names another",
            code="name_taken",
        )
    store.prepare()
    with result_file(store.parts) as result:
        work.run(result, name)
        result.flush()
        manifest = _added(store, work, result, name)
    news = f"{name} ({_from_to(work, manifest.size_bytes)}) is in the store."
    work.screen.done(manifest, news)
    if place.configured_name() != name:
        work.screen.say(f"To have the daemon answer with it: qwenctl use {name}")


def _added(store: BlobStore, work: Quantization, result: ResultFile, name: str) -> Manifest:
    """It becomes a blob as it lies; nothing is copied."""
    size = result.bytes

    def rereading(done: int) -> None:
        work.screen.progress(Progress("rereading", name, 1, 1, done, size))

    digest = file_digest(result.path, rereading)
    origin = f"{work.source.path} ({work.source.name}), quantized"
    return add_file(
        store,
        [result.path],
        names=[name],
        digests=[digest],
        described=Manifest(name, digest, size, origin, time.time()),
        any_architecture=work.any_architecture,
        progress=work.screen.progress,
    )


def _target(work: Quantization, output: str | None) -> Path:
    source = work.source
    name = f"{_stem(source.name)}-{work.kind}.gguf"
    if output:
        path = Path(os.path.expanduser(output)).absolute()
        return path / name if path.is_dir() else path
    # What is named lies in the store or in the package: no places for files of somebody's.
    return (source.path.parent if source.by_path else Path.cwd()) / name


def _stem(name: str) -> str:
    """The name without what it says of its own quantization."""
    return _KIND_AT_END.sub("", name) or name


def _from_to(work: Quantization, size: int) -> str:
    before = work.source
    was = f"{before.facts.quantization}, {mebi(before.bytes)}"
    return f"{work.kind}, {mebi(size)}; the source is {was}"
