"""A clone in a temporary directory: the real scripts, with a pip and a qwend that are stubs."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DEADLINE_S = 60.0
# The one below our own .venv: prepare takes what the Python that runs it already has.
PYTHON = str(Path(sys.base_prefix) / "bin" / f"python3.{sys.version_info.minor}")

# Stands in for pip in the clone's .venv: notes each call, "builds" and "installs" at once.
FAKE_PIP = """
    import os, pathlib, sys, sysconfig, time
    with open(os.environ["FAKE_PIP_CALLS"], "a") as calls:
        print(sys.argv[1], file=calls)
    if sys.argv[1] == "--version":
        print("pip 0")
    if sys.argv[1] == "wheel":
        print("[1/2] compiling one file", flush=True)
        with open(os.environ["FAKE_PIP_CALLS"] + ".cxxflags", "w") as flags:
            flags.write(os.environ.get("CXXFLAGS", ""))
        out = pathlib.Path(sys.argv[sys.argv.index("-w") + 1])
        out.mkdir()
        if os.environ.get("FAKE_PIP_DOES") == "fail":
            (out / "half.whl").touch()
            sys.exit("error: the compiler is out of sorts")
        if os.environ.get("FAKE_PIP_DOES") == "hang":
            (out / "half.whl").touch()
            print("hanging", flush=True)
            time.sleep(600)
        (out / "llama_cpp_python-0.3.36-py3-none-any.whl").touch()
    if sys.argv[1] == "install" and sys.argv[-1].endswith(".whl"):
        site = pathlib.Path(sysconfig.get_path("purelib"))
        (site / "compiled").touch()
        about = site / "llama_cpp_python-0.3.36.dist-info"
        about.mkdir(exist_ok=True)
        (about / "METADATA").write_text("Name: llama-cpp-python\\nVersion: 0.3.36\\n")
"""

# Imports only where the stub of pip has installed it, whatever this machine has.
FAKE_LLAMA = """
    import pathlib, sysconfig
    if not (pathlib.Path(sysconfig.get_path("purelib")) / "compiled").exists():
        raise ImportError("not installed")
"""

# The real module without pip, which takes seconds to install; ours is a stub.
QUICK_VENV = """
    import importlib.util, os, sys, sysconfig
    file = os.path.join(sysconfig.get_path("stdlib"), "venv", "__init__.py")
    spec = importlib.util.spec_from_file_location("real_venv", file)
    real = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(real)
    if __name__ == "__main__":
        shared = "--system-site-packages" in sys.argv
        builder = real.EnvBuilder(clear=True, symlinks=True, system_site_packages=shared)
        builder.create(sys.argv[-1])
"""

FAKE_QWEND = """
    import os, signal, socket, sys
    if os.environ.get("FAKE_QWEND_DOES") == "fail":
        sys.exit("qwend: this model is no model")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(sys.argv[sys.argv.index("--socket") + 1])
    listener.listen()
    signal.pause()
"""

# Prints what it was called with; `chat` goes on until a signal ends it.
FAKE_QWENCTL = """
    import os, signal, sys
    print(*sys.argv[3:], flush=True)
    print("config", os.environ["QWEND_CONFIG"], flush=True)
    print("python", os.environ.get("QWEND_PYTHON"), flush=True)
    if "chat" in sys.argv:
        signal.pause()
"""


@dataclass
class Clone:
    """path: the clone. env: an environment in which nothing outside `path.parent` is written."""

    path: Path
    env: dict[str, str]

    @property
    def cache(self) -> Path:
        return Path(self.env["XDG_CACHE_HOME"]) / "qwend"

    @property
    def pip_calls(self) -> list[str]:
        calls = Path(self.env["FAKE_PIP_CALLS"])
        return calls.read_text().split() if calls.exists() else []

    @property
    def cxx_flags(self) -> list[str]:
        """What the last build of the wheel was compiled with."""
        return Path(self.env["FAKE_PIP_CALLS"] + ".cxxflags").read_text().split()

    def command(self, script: str) -> list[str]:
        return [str(self.path / "scripts" / script)]

    def run(self, script: str, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*self.command(script), *arguments],
            env={**self.env, **env},
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
            timeout=DEADLINE_S,
        )

    def prepare(self, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
        """Run scripts/lib/prepare as the scripts do."""
        command = [PYTHON, "-B", str(self.path / "scripts/lib/prepare"), *arguments]
        return subprocess.run(
            command,
            env={**self.env, **env},
            capture_output=True,
            text=True,
            check=False,
            timeout=DEADLINE_S,
        )

    def files(self) -> set[Path]:
        """Every file of the clone outside .venv, and of the temporary directory."""
        tmp = Path(self.env["TMPDIR"])
        in_clone = {each for each in self.path.rglob("*") if ".venv" not in each.parts}
        return in_clone | set(tmp.rglob("*"))

    def add_stubs(self) -> None:
        """Put the stub commands into a .venv that is stamped as complete."""
        venv = self.path / ".venv"
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(venv)], check=True)
        for name, code in (("qwend", FAKE_QWEND), ("qwenctl", FAKE_QWENCTL)):
            file = venv / "bin" / name
            file.write_text(f"#!{venv}/bin/python\n" + textwrap.dedent(code))
            file.chmod(0o755)
        stamp = (
            "import pathlib, environment as e, places as p;"
            f"at = p.Places(pathlib.Path({str(self.path)!r}), pathlib.Path('/'));"
            "e.write_stamp(at, e.Stamp(e.project_digest(at), ('dev',), ''))"
        )
        modules = str(self.path / "scripts/lib/prepare")
        command = [sys.executable, "-B", "-c", stamp]
        subprocess.run(command, env={**self.env, "PYTHONPATH": modules}, check=True)


def make_clone(home: Path, name: str) -> Clone:
    """Copy the scripts to `home`/`name`. Clones of one home share cache and temporary directory."""
    path = home / name
    shutil.copytree(
        ROOT / "scripts" / "lib",
        path / "scripts" / "lib",
        ignore=shutil.ignore_patterns("__pycache__", ".mypy_cache"),
    )
    for script in ("quickstart", "test", "check"):
        shutil.copy(ROOT / "scripts" / script, path / "scripts")
    shutil.copy(ROOT / "pyproject.toml", path)
    modules = home / "modules"
    (modules / "pip").mkdir(parents=True, exist_ok=True)
    (modules / "pip" / "__init__.py").touch()
    (modules / "pip" / "__main__.py").write_text(textwrap.dedent(FAKE_PIP))
    (modules / "llama_cpp.py").write_text(textwrap.dedent(FAKE_LLAMA))
    (modules / "venv.py").write_text(textwrap.dedent(QUICK_VENV))
    (home / "tmp").mkdir(exist_ok=True)
    kept = {key: value for key, value in os.environ.items() if key in ("PATH", "LANG")}
    return Clone(
        path,
        {
            **kept,
            "HOME": str(home),
            "XDG_CACHE_HOME": str(home / "cache"),
            "TMPDIR": str(home / "tmp"),
            "PYTHONPATH": str(modules),
            "PYTHONDONTWRITEBYTECODE": "1",
            "FAKE_PIP_CALLS": str(home / "pip-calls"),
        },
    )


def wait_until(condition: Callable[[], object], what: str) -> None:
    end = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < end, f"never: {what}"
        time.sleep(0.02)


def processes_below(path: Path) -> list[str]:
    """Command lines of the running processes that name something below `path`."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue
            if str(path) in line:
                found.append(line)
    return found


def end(process: subprocess.Popen[str], number: signal.Signals) -> int:
    process.send_signal(number)
    process.communicate(timeout=DEADLINE_S)
    return process.returncode
