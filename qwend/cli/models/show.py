"""`qwenctl models show`: what is known of one model, of this machine or of the catalogue."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import click

from qwend.cli.models import place
from qwend.cli.models.shown import mebi, parameters, say_fields
from qwend.models.blob_store import BlobStore
from qwend.models.catalogue import DEFAULT_QUANTIZATION, catalogue
from qwend.models.header_check import check_gguf
from qwend.models.manifest import Manifest
from qwend.models.reference import split_name
from qwend.models.store import installed_models, open_model, resolve_model


@click.command("show")
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(name: str, as_json: bool) -> None:
    """Show what is known of the model NAME, or NAME:QUANT, or of the file at a path."""
    fields = known(name, place.store())
    if as_json:
        click.echo(json.dumps(fields))
        return
    say_fields((key.replace("_", " "), _shown(key, value)) for key, value in fields.items())


def known(name: str, store: BlobStore) -> dict[str, Any]:
    """Raises: ModelError."""
    plain = name if "/" in name else split_name(name)[0]
    installed = "/" in name or name.endswith(".gguf") or plain in installed_models(store.models_dir)
    if not installed and plain in catalogue().models:
        return _of_the_catalogue(name)
    model = resolve_model(name, store.models_dir)
    manifest = store.manifest(model.name)
    stored = manifest is not None and model.path == store.blob_path(manifest.sha256).absolute()
    return {
        "name": model.name,
        **(_of_the_manifest(manifest) if manifest and stored else {}),
        **_of_the_file(model.path),
        "path": str(model.path),
    }


def _of_the_manifest(manifest: Manifest) -> dict[str, Any]:
    return {
        "origin": manifest.origin,
        "revision": manifest.revision,
        "licence": manifest.licence,
        "sha256": manifest.sha256,
        "parts": list(manifest.parts),
        "added_at": manifest.added_at,
    }


def _of_the_file(path: Path) -> dict[str, Any]:
    fd = open_model(path)
    try:
        size = os.fstat(fd).st_size
        facts = check_gguf(fd, size, path=str(path), allow_any_architecture=True)
    finally:
        os.close(fd)
    return {
        "title": facts.name,
        "quantization": facts.quantization,
        "architecture": facts.architecture,
        "parameters": facts.parameter_count,
        "context": facts.context_length,
        "size_bytes": size,
    }


def _of_the_catalogue(name: str) -> dict[str, Any]:
    plain, quantization = split_name(name)
    model = catalogue().find(plain)
    file = model.file(quantization or DEFAULT_QUANTIZATION)
    return {
        "name": model.name,
        "title": model.title,
        "quantizations": list(model.files),
        "quantization": file.quantization,
        "origin": f"hf:{model.repository}/{file.file}",
        "licence": model.licence,
        "context": model.context,
        "size_bytes": model.size_bytes(file.quantization),
        "sha256": file.sha256 or "",
        "here": f"no; `qwenctl pull {name}` gets it",
    }


def _shown(key: str, value: Any) -> str:
    if key == "size_bytes":
        return f"{mebi(value)} ({value:,} bytes)"
    if key == "parameters":
        return parameters(value)
    if key == "context":
        return f"{value:,} tokens"
    if key == "added_at":
        return time.strftime("%Y-%m-%d %H:%M", time.localtime(value))
    return ", ".join(value) if isinstance(value, list) else str(value)
