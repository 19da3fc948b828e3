"""One user's machine in a temporary directory: the real scripts/install, with stubs of pip and
systemctl, and a qwenctl that answers.

The whole installation into a booted systemd is in tests/systemd/test_install.py.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import textwrap
from dataclasses import dataclass
from pathlib import Path

from tests.scripts_quickstart.clone import ROOT, Clone, make_clone

DEADLINE_S = 60.0
NOBODY = 65534
# Root is told that --user is not for it.
AS_NOBODY = (
    ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    if os.geteuid() == 0
    else []
)

# Notes its arguments; what is "active" and "enabled" are files that start and enable leave.
FAKE_SYSTEMCTL = r"""
    #!/bin/bash
    here=$(dirname "$0")/state
    [[ $1 == --user ]] && shift
    verb=$1; shift
    case $verb in
        is-active | is-enabled) [[ $1 == --quiet ]] && shift; [[ -e $here/$1.$verb ]]; exit ;;
        show-environment) [[ -z $FAKE_NO_SYSTEMD ]]; exit ;;
    esac
    echo "$verb $*" >>"$here/calls"
    [[ $verb == start && -n $FAKE_START_FAILS ]] && { echo "Job for qwend failed" >&2; exit 1; }
    for unit in "$@"; do
        case $verb in
            start) touch "$here/$unit.is-active" ;;
            enable) touch "$here/$unit.is-enabled" ;;
            stop) rm -f "$here/$unit.is-active" ;;
            disable) rm -f "$here/$unit.is-enabled" ;;
        esac
    done
"""

# Behind the stub of the quick start's tests: an installed qwend has its commands.
FAKE_COMMANDS = """
    if sys.argv[1] == "install" and not sys.argv[-1].endswith(".whl"):
        (pathlib.Path(sys.argv[-1]) / "build").mkdir()  # as setuptools leaves it
        site = pathlib.Path(sysconfig.get_path("purelib"))
        (site / "qwend" / "daemon").mkdir(parents=True, exist_ok=True)
        for name in ("qwend/__init__.py", "qwend/daemon/__init__.py", "qwend/daemon/main.py"):
            (site / name).touch()
        for name in ("qwend", "qwenctl"):
            command = pathlib.Path(sys.prefix) / "bin" / name
            command.write_text("#!/bin/bash\\necho \\"Asked: ${*:3:3}\\"\\n")
            command.chmod(0o755)
"""


@dataclass
class Machine:
    """home: everything that is written to. clone: the sources with scripts/install."""

    home: Path
    clone: Clone

    @property
    def prefix(self) -> Path:
        return self.home / ".local/lib/qwend"

    @property
    def units(self) -> Path:
        return self.home / ".config/systemd/user"

    @property
    def config(self) -> Path:
        return self.home / ".config/qwend/qwend.toml"

    @property
    def models(self) -> Path:
        return self.home / ".local/share/qwend/models"

    @property
    def calls(self) -> list[str]:
        """What systemctl was told to do so far."""
        file = self.home / "bin/state/calls"
        return file.read_text().splitlines() if file.exists() else []

    def install(self, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
        """scripts/install --user, with standard input that is no terminal."""
        return self.call("--user", *arguments, **env)

    def call(self, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*AS_NOBODY, *self.clone.command("install"), *arguments],
            env={**self.clone.env, **env},
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
            timeout=DEADLINE_S,
        )

    def files(self) -> dict[Path, str]:
        """Everything below the home with what tells a change: time, or a link's target."""
        return {
            path: os.readlink(path) if path.is_symlink() else str(path.lstat().st_mtime_ns)
            for path in self.home.rglob("*")
        }


def make_machine(home: Path) -> Machine:
    clone = make_clone(home, "clone")
    shutil.copy(ROOT / "scripts" / "install", clone.path / "scripts")
    shutil.copytree(ROOT / "systemd", clone.path / "systemd")
    (clone.path / "README.md").touch()
    (clone.path / "qwend").mkdir()
    (clone.path / "qwend/__init__.py").write_text('__version__ = "9.9"\n')
    pip = home / "modules/pip/__main__.py"
    pip.write_text(pip.read_text() + textwrap.dedent(FAKE_COMMANDS))
    systemctl = home / "bin/systemctl"
    (systemctl.parent / "state").mkdir(parents=True)
    systemctl.write_text(textwrap.dedent(FAKE_SYSTEMCTL).lstrip())
    systemctl.chmod(0o755)
    clone.env["PATH"] = f"{home}/bin:{clone.env['PATH']}"
    if os.geteuid() == 0:
        for path in (home, *home.rglob("*")):
            os.chown(path, NOBODY, NOBODY, follow_symlinks=False)
    return Machine(home, clone)
