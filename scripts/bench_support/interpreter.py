"""Running under an interpreter that has what a script needs. Imports nothing but the library."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
MARK = "QWEND_SCRIPT_REEXECUTED"  # so that an environment that lacks a package is not tried twice


def use_environment(*packages: str) -> None:
    """Go on if `packages` can be imported; else under the repository's .venv; else end.

    Also makes the repository's own qwend importable.
    """
    lacking = [name for name in packages if importlib.util.find_spec(name) is None]
    if lacking:
        python = ROOT / ".venv" / "bin" / "python"
        if python.exists() and MARK not in os.environ:
            os.environ[MARK] = "1"
            os.execv(python, [str(python), *sys.argv])
        sys.exit(
            f"{Path(sys.argv[0]).name}: {sys.executable} lacks {', '.join(lacking)}; "
            f"run `{sys.executable} -m pip install -e '{ROOT}[bench]'`"
        )
    os.environ.pop(MARK, None)
    sys.path.insert(0, str(ROOT))
