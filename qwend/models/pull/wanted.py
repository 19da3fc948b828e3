"""From what a person named to files of sources: which repositories, which paths, which name.

This file asks nobody anything.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from qwend.errors import ConfigError
from qwend.models.catalogue import DEFAULT_QUANTIZATION, Catalogue, CataloguedFile
from qwend.models.pull import hub, modelscope
from qwend.models.pull.source import RemoteFile, Source
from qwend.models.pull.web import Web
from qwend.models.reference import (
    CatalogueName,
    HubFile,
    Reference,
    WebFile,
    parts_of,
    stem_of,
    store_name,
)

SOURCES = ("auto", "hub", "modelscope")


@dataclass(frozen=True, slots=True)
class FixedFile:
    """A source of one file whose address and digest the person gave."""

    url: str
    sha256: str

    @property
    def name(self) -> str:
        return self.url.partition("://")[2].partition("/")[0]

    def find(self, file: str) -> RemoteFile:
        return RemoteFile(self.url, self.sha256)


@dataclass(frozen=True, slots=True)
class Wanted:
    """name: in the store. files: all parts, in order. sources: to be tried in this order.

    origin: for people, such as hf:owner/repo/file. known: what the catalogue says of it.
    """

    name: str
    files: tuple[str, ...]
    sources: tuple[Source, ...]
    origin: str
    licence: str = ""
    known: CataloguedFile | None = None


def catalogue_store_name(name: str, quantization: str) -> str:
    """NAME for the default quantization, NAME-q8_0 for another: both may be there."""
    if quantization in ("", DEFAULT_QUANTIZATION):
        return name
    return f"{name}-{quantization.lower()}"


def wanted(
    reference: Reference,
    known: Catalogue,
    web: Web,
    environ: Mapping[str, str],
    *,
    source: str = "auto",
    name: str = "",
) -> Wanted:
    """source: one of SOURCES. name: instead of the one it has by itself.

    Raises: ConfigError, ModelError.
    """
    if isinstance(reference, CatalogueName):
        model = known.find(reference.name)
        file = model.file(reference.quantization or DEFAULT_QUANTIZATION)
        return Wanted(
            store_name(name or catalogue_store_name(model.name, reference.quantization)),
            tuple(parts_of(file.file)),
            _hubs(model.repository, "main", web, environ, source),
            f"hf:{model.repository}/{file.file}",
            model.licence,
            file,
        )
    if isinstance(reference, HubFile):
        return Wanted(
            store_name(name or stem_of(reference)),
            tuple(parts_of(reference.file)),
            _hubs(reference.repository, reference.revision, web, environ, source),
            f"hf:{reference.repository}/{reference.file}",
        )
    if isinstance(reference, WebFile):
        if len(parts_of(stem_of(reference))) > 1:
            raise ConfigError("a split file has several digests; fetch its parts and import them")
        return Wanted(
            store_name(name or stem_of(reference)),
            (reference.url,),
            (FixedFile(reference.url, reference.sha256),),
            reference.url.split("?", 1)[0],
        )
    raise ConfigError(f"{reference.path} is a file: `qwenctl models import` takes it")


def _hubs(
    repository: str, revision: str, web: Web, environ: Mapping[str, str], source: str
) -> tuple[Source, ...]:
    def hugging_face() -> Source:
        endpoint, token = hub.endpoint_from(environ), hub.token_from(environ)
        return hub.Hub(web, repository, revision, endpoint, token)

    def model_scope() -> Source:
        return modelscope.ModelScope(web, repository, modelscope.endpoint_from(environ))

    makers: dict[str, Callable[[], Source]] = {"hub": hugging_face, "modelscope": model_scope}
    if source in makers:
        return (makers[source](),)
    # A revision of one hub means nothing to the other.
    return (hugging_face(), model_scope()) if revision == "main" else (hugging_face(),)
