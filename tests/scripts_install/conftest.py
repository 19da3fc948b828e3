from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.scripts_install.machine import AS_NOBODY, Machine, make_machine


@pytest.fixture
def machine() -> Iterator[Machine]:
    """A home without qwend. Not below pytest's own directory, which only its owner may enter."""
    recent = "import sys; sys.exit(sys.version_info < (3, 11))"
    if AS_NOBODY and subprocess.run([*AS_NOBODY, "/usr/bin/python3", "-c", recent]).returncode:
        pytest.skip("as root this needs a Python of 3.11 that others can read, in /usr/bin")
    home = Path(tempfile.mkdtemp(prefix="qwend-install-test-"))
    try:
        yield make_machine(home)
    finally:
        shutil.rmtree(home)
