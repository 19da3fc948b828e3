"""Model files: which one is meant, opening it, and checking it before the engine sees it.

This package knows nothing of the engine and imports neither llama_cpp nor numpy.
"""

from __future__ import annotations

from qwend.models.fingerprint import fingerprint
from qwend.models.header_check import GgufFacts, check_gguf
from qwend.models.store import ModelFile, installed_models, open_model, resolve_model

__all__ = [
    "GgufFacts",
    "ModelFile",
    "check_gguf",
    "fingerprint",
    "installed_models",
    "open_model",
    "resolve_model",
]
