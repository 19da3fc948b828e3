"""The models that have a name of their own: where their files are, and what they will take.

Owns the reading of catalogue.toml, which ships with the package. What it says of a file is a hint;
the hub's word at pull time is what counts (`differences`). This file fetches nothing.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from qwend.errors import ModelError
from qwend.models.shape import MemoryNeed, Shape, memory_need

FILE = Path(__file__).with_name("catalogue.toml")
# Quickest on a CPU, for it is repacked: 18 against 23 ms a token and 187 against 117 tokens/s read
# than Q4_K_M (0.5B, two x86-64 cores with AVX2).
DEFAULT_QUANTIZATION = "Q4_0"


@dataclass(frozen=True, slots=True)
class CataloguedFile:
    """One file of a repository, the first of its parts if it is split. origin: a key of [from].

    size_bytes, sha256: None where nobody has told; of split files the size of all parts together.
    """

    quantization: str
    file: str
    origin: str
    size_bytes: int | None = None
    sha256: str | None = None


@dataclass(frozen=True, slots=True)
class CataloguedModel:
    """context: tokens it was made for. repository: owner/name, the same on both hubs."""

    name: str
    title: str
    repository: str
    licence: str
    context: int
    shape: Shape
    files: Mapping[str, CataloguedFile]

    def file(self, quantization: str = DEFAULT_QUANTIZATION) -> CataloguedFile:
        """Raises: ModelError listing the quantizations there are."""
        found = self.files.get(quantization.upper())
        if found is None:
            raise ModelError(
                f"{self.name} is not known as {quantization}; there are: {', '.join(self.files)}. "
                f"Another file of {self.repository}: hf:{self.repository}/FILE.gguf",
                code="not_found",
            )
        return found

    def size_bytes(self, quantization: str = DEFAULT_QUANTIZATION) -> int:
        """Of the file; computed from the shape where it is not known."""
        known = self.file(quantization).size_bytes
        return known if known is not None else self.shape.file_bytes(quantization.upper())

    def need(
        self, quantization: str, *, context: int, repacked: frozenset[str] = frozenset()
    ) -> MemoryNeed:
        return memory_need(
            self.shape,
            quantization.upper(),
            file_bytes=self.size_bytes(quantization),
            context=min(context, self.context),
            repacked=repacked,
        )


@dataclass(frozen=True, slots=True)
class Catalogue:
    """default: the name that a pull without one means."""

    default: str
    models: Mapping[str, CataloguedModel]

    def find(self, name: str) -> CataloguedModel:
        """Raises: ModelError naming the nearest."""
        found = self.models.get(name.lower())
        if found is not None:
            return found
        near = difflib.get_close_matches(name.lower(), self.models, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ModelError(
            f"the catalogue has no model {name!r}.{hint} `qwenctl models available` lists it; "
            "any other file goes as hf:OWNER/REPO/FILE.gguf, https://... or a path",
            code="not_found",
        )


@cache
def catalogue() -> Catalogue:
    """The one that ships with the package."""
    return read_catalogue(FILE.read_text("utf-8"))


def read_catalogue(text: str) -> Catalogue:
    """Raises: KeyError, TypeError, ValueError: it is part of the program, and tested with it."""
    document = tomllib.loads(text)
    origins = document["from"].keys()
    shapes = {name: _shape(fields) for name, fields in document["shape"].items()}
    models = {name: _model(name, fields, shapes) for name, fields in document["model"].items()}
    unknown = {file.origin for model in models.values() for file in model.files.values()} - origins
    if unknown or document["default"] not in models:
        raise ValueError(f"the catalogue is inconsistent: {unknown or document['default']}")
    return Catalogue(document["default"], models)


def differences(known: CataloguedFile, size_bytes: int | None, sha256: str) -> list[str]:
    """What the hub says of the whole file that the catalogue says otherwise, as sentences."""
    found = []
    if None not in (known.size_bytes, size_bytes) and known.size_bytes != size_bytes:
        found.append(
            f"the hub's {known.file} has {size_bytes} bytes, the catalogue says {known.size_bytes}"
        )
    if known.sha256 and sha256 and known.sha256 != sha256:
        found.append(
            f"the hub's {known.file} has the SHA-256 {sha256}, the catalogue says {known.sha256}"
        )
    return found


def _model(name: str, fields: Mapping[str, Any], shapes: Mapping[str, Shape]) -> CataloguedModel:
    return CataloguedModel(
        name=name,
        title=fields["title"],
        repository=fields["repository"],
        licence=fields["licence"],
        context=fields["context"],
        shape=shapes[fields["shape"]],
        files={
            quantization: CataloguedFile(
                quantization, file["file"], file["from"], file.get("bytes"), file.get("sha256")
            )
            for quantization, file in fields["quantizations"].items()
        },
    )


def _shape(fields: Mapping[str, Any]) -> Shape:
    return Shape(**{name: value for name, value in fields.items() if name != "from"})
