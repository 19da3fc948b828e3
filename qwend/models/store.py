"""From a model's name or path to an open file.

A name is NAME.gguf in the models directory, or one that was pulled or imported (`blob_store`),
perhaps with :QUANT behind it; or `guide`, the model that comes with the package. Whatever has a
slash or ends in .gguf is a path. This file does not look into a model; that is `header_check`.
"""

from __future__ import annotations

import difflib
import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path

from qwend.errors import ConfigError, ModelError

GUIDE = "guide"
SUFFIX = ".gguf"
NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
LISTED = 12  # names in a message; more would hide what to do

KINDS = {
    stat.S_IFDIR: "a directory",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


@dataclass(frozen=True, slots=True)
class ModelFile:
    """`name` is how people see it, `path` is absolute."""

    name: str
    path: Path


def is_path(name_or_path: str) -> bool:
    return "/" in name_or_path or name_or_path.endswith(SUFFIX)


def resolve_model(name_or_path: str, models_dir: Path) -> ModelFile:
    """Find the file that `name_or_path` means; whether it can be used is `open_model`'s to say.

    Raises: ModelError listing what is there if there is no such file.
    """
    if is_path(name_or_path):
        path = Path(os.path.expanduser(name_or_path)).absolute()
        name = path.name.removesuffix(SUFFIX)
    elif name_or_path == GUIDE:
        path, name = guide_path(), GUIDE
    else:
        name, quantization = _split(name_or_path)
        path = (models_dir / f"{name}{SUFFIX}").absolute()
        if quantization or not os.path.lexists(path):
            stored = _stored(name, quantization, models_dir)
            if stored is not None:
                return stored
        if quantization:
            raise _missing(name_or_path, path, models_dir)
    if not os.path.lexists(path):
        raise _missing(name_or_path, path, models_dir)
    return ModelFile(name, path)


def installed_models(models_dir: Path) -> list[str]:
    """The names that can be given to `resolve_model`, the built-in one first."""
    try:
        found = [path.name.removesuffix(SUFFIX) for path in models_dir.glob(f"*{SUFFIX}")]
    except OSError:  # no directory, or not ours to read: then nothing of it can be used either
        found = []
    from qwend.models.blob_store import BlobStore

    named = {*found, *BlobStore(models_dir).names()}
    return [GUIDE, *(name for name in sorted(named) if NAME.fullmatch(name) and name != GUIDE)]


def guide_path() -> Path:
    """The model that comes with the package."""
    return Path(__file__).with_name(f"{GUIDE}{SUFFIX}")


def open_model(path: Path) -> int:
    """A descriptor of the model file, close-on-exec; the caller closes it.

    Raises: ModelError if it is not a regular, readable file with something in it.
    """
    try:
        # O_NONBLOCK: opening a named pipe would otherwise wait for a writer (open(2)).
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise _cannot_open(path, error) from error
    try:
        _check_usable(path, os.fstat(descriptor))
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _split(text: str) -> tuple[str, str]:
    # Imported when a name asks for it: 15 ms that a start with a path or the guide does not need.
    from qwend.models.reference import split_name

    try:
        return split_name(text)
    except ConfigError as error:
        raise ModelError(
            f"{error}; for a file anywhere else give its path, with a slash in it"
        ) from error


def _stored(name: str, quantization: str, models_dir: Path) -> ModelFile | None:
    """A model that was pulled or imported. Raises: ModelError if the store has been damaged."""
    from qwend.models.blob_store import BlobStore

    store = BlobStore(models_dir)
    for stored_as in (name, f"{name}-{quantization.lower()}") if quantization else (name,):
        manifest = store.manifest(stored_as)
        if manifest is not None and quantization in ("", manifest.quantization):
            path = store.blob_path(manifest.sha256).absolute()
            if not path.exists():
                raise ModelError(
                    f"the file of {stored_as} is missing: {path}; pull or import it again "
                    f"({manifest.origin})"
                )
            return ModelFile(stored_as, path)
    return None


def _check_usable(path: Path, status: os.stat_result) -> None:
    kind = KINDS.get(stat.S_IFMT(status.st_mode))
    if kind is not None:
        raise ModelError(f"{path} is {kind}, not a model; give the path of a GGUF file")
    if status.st_size == 0:
        raise ModelError(f"{path} is empty; was its download interrupted? Fetch it again")


def _cannot_open(path: Path, error: OSError) -> ModelError:
    if isinstance(error, PermissionError):
        user = f"uid {os.geteuid()}"
        return ModelError(
            f"{path} may not be read by {user}; give {user} the right to read it "
            "and to pass the directories above it"
        )
    if isinstance(error, FileNotFoundError):
        gone = "is a link to nothing" if path.is_symlink() else "is not there any more"
        return ModelError(f"{path} {gone}; give the path of a GGUF file")
    # ENXIO: a socket, or a pipe of another kind; the reason is in the system's words.
    return ModelError(f"{path} cannot be opened: {error.strerror}; give the path of a GGUF file")


def _missing(asked: str, path: Path, models_dir: Path) -> ModelError:
    if asked == GUIDE:
        return ModelError(
            f"the built-in model is missing from this installation ({path}); "
            "install qwend again, or give the path of another model"
        )
    what = f"there is no model {asked!r}: {path} does not exist."
    # Imported by an error alone, as the others above: a start does not need it.
    from qwend.models.catalogue import catalogue

    name, known = path.name.removesuffix(SUFFIX), catalogue().models
    if not is_path(asked) and name in known:
        return ModelError(f"{what} `qwenctl pull {asked}` gets it")
    names = installed_models(models_dir)
    near = difflib.get_close_matches(name, names, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    if not near and (near := difflib.get_close_matches(name, known, n=1)):
        hint = f" Did you mean {near[0]!r}, which `qwenctl pull {near[0]}` gets?"
    listed = ", ".join(names[:LISTED]) + (", ..." if len(names) > LISTED else "")
    if is_path(asked):
        return ModelError(f"{what}{hint} These have a name: {listed}")
    return ModelError(
        f"{what}{hint} Installed: {listed}. To install one, `qwenctl pull NAME`, or put its GGUF "
        f"file into {models_dir} as NAME{SUFFIX}, or give the path of the file"
    )
