"""The C API of llama.cpp, and nothing else of the package that brings it.

The package's own __init__ also loads what a Python server needs (numpy, jinja2, a disk cache), of
which the engine uses nothing: 0.14 s of every start. Its module of bindings stands alone, so that
one is imported past the package; who imports the package later gets the same module in it.
"""

from __future__ import annotations

import importlib
import re
import sys
from importlib.util import find_spec, module_from_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

PACKAGE = "llama_cpp"

if TYPE_CHECKING:
    from llama_cpp import llama_cpp as llama_cpp


def _past_the_package() -> Any:
    """Raises: ModuleNotFoundError, as an import would."""
    if PACKAGE in sys.modules:
        return importlib.import_module(f"{PACKAGE}.{PACKAGE}")
    spec = find_spec(PACKAGE)
    if spec is None:
        raise ModuleNotFoundError(f"No module named {PACKAGE!r}", name=PACKAGE)
    sys.modules[PACKAGE] = module_from_spec(spec)  # with its path, and without its contents
    try:
        return importlib.import_module(f"{PACKAGE}.{PACKAGE}")
    finally:
        del sys.modules[PACKAGE]


def _version() -> str:
    """As the package says it; importlib.metadata would say the same 30 ms later."""
    told = (Path(llama_cpp.__file__).parent / "__init__.py").read_text()
    found = re.search(r'^__version__ = "([^"]+)"', told, re.MULTILINE)
    return found[1] if found else "unknown"


if not TYPE_CHECKING:
    llama_cpp = _past_the_package()

VERSION = _version()
