"""qwend of this working tree as /opt/qwend: a real environment of the system's Python.

The packages are those that run these tests, bound in beside it: nothing is fetched, compiled or
copied, and a clone below /root, which no service user may enter, does as well as any.
"""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PLACE = Path("/opt/qwend")
PYTHON = Path("/usr/bin/python3")
# What qwend imports, and what those import; each is looked for where this Python finds it.
PACKAGES = (
    *("llama_cpp", "numpy", "typing_extensions", "diskcache", "jinja2", "markupsafe"),
    *("msgpack", "click", "sdnotify", "psutil"),
    *("rich", "markdown_it", "mdurl", "pygments", "prompt_toolkit", "wcwidth"),
)
COMMANDS = {"qwend": "qwend.daemon.main", "qwenctl": "qwend.cli.main"}


@dataclass(frozen=True, slots=True)
class Installation:
    """binds: (what is on this machine, where it goes in another), read-only."""

    binds: tuple[tuple[Path, Path], ...]


def why_not() -> str:
    """The reason why the system's Python cannot run it, "" if it can."""
    if not PYTHON.exists():
        return f"there is no {PYTHON}"
    probe = [str(PYTHON), "-c", "import sys, venv; print(*sys.version_info[:2])"]
    done = subprocess.run(probe, capture_output=True, text=True, check=False)
    ours = f"{sys.version_info[0]} {sys.version_info[1]}"
    if done.stdout.strip() != ours:
        found = done.stdout.strip() or done.stderr.strip()
        return f"{PYTHON} is Python {found}, and the packages here are for {ours}"
    if importlib.util.find_spec("llama_cpp") is None:
        return "llama-cpp-python is not installed"
    return ""


def install(directory: Path) -> Installation:
    """Make the environment in `directory`, which must stay; it is to be seen at PLACE."""
    command = [str(PYTHON), "-m", "venv", "--without-pip", str(directory)]
    subprocess.run(command, check=True, capture_output=True)
    directory.chmod(0o755)
    (site,) = directory.glob("lib/python3*/site-packages")
    # A copy: what others do to the tree meanwhile must not reach a running daemon.
    shutil.copytree(ROOT / "qwend", site / "qwend", ignore=shutil.ignore_patterns("__pycache__"))
    compiled = [str(PYTHON), "-m", "compileall", "-q", str(site / "qwend")]
    subprocess.run(compiled, check=True, capture_output=True)
    places = sorted({found for name in PACKAGES if (found := _where(name))})
    seen = [PLACE / "packages" / str(number) for number in range(len(places))]
    for number in range(len(places)):
        (directory / "packages" / str(number)).mkdir(parents=True)
    # In a .pth file, whose directories are not searched for .pth files of their own.
    (site / "packages.pth").write_text("".join(f"{place}\n" for place in seen))
    for name, module in COMMANDS.items():
        _write_command(directory / "bin" / name, module)
    return Installation(((directory, PLACE), *zip(places, seen, strict=True)))


def _where(package: str) -> Path | None:
    """The directory to search for a package; None where it is not there and not needed."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        return None
    origin = Path(spec.origin)
    return origin.parents[1] if spec.submodule_search_locations else origin.parent


def _write_command(path: Path, module: str) -> None:
    """As pip writes them."""
    path.write_text(
        f"#!{PLACE}/bin/python3\nimport sys\nfrom {module} import main\nsys.exit(main())\n"
    )
    path.chmod(0o755)
