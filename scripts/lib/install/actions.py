"""Each change to the machine: said in one line, made or only said.

Rule 1: every change goes through here, so that a dry run cannot make one.
Rule 2: what is already as wanted is left alone; a change tells its caller that it was one.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from problem import Problem
from running import run

LABEL_WIDTH = 10


class Actions:
    """dry: say what would be done, in the order in which it would be, and do nothing.

    has_changed: whether anything was begun that changes the machine.
    """

    def __init__(self, *, dry: bool, environ: Mapping[str, str]) -> None:
        self.dry = dry
        self.has_changed = False
        self._environ = environ

    def say(self, label: str, text: str) -> None:
        """One step's outcome; the lines together are what was done."""
        if not self.dry:
            print(f"{label:<{LABEL_WIDTH}} {text}", flush=True)

    def note(self, text: str) -> None:
        print(text, flush=True)

    def run(self, what: str, log: Path, *command: str | Path) -> None:
        """Run a command of some length with a live line. Raises: Problem with its last words."""
        line = [str(word) for word in command]
        if self._would(f"run     {shlex.join(line)}"):
            return
        run(what, line, log, self._environ)

    def call(self, *command: str | Path) -> None:
        """Run a short command. Raises: Problem with all that it said."""
        line = [str(word) for word in command]
        if self._would(f"run     {shlex.join(line)}"):
            return
        done = subprocess.run(
            line, capture_output=True, text=True, env=dict(self._environ), check=False
        )
        if done.returncode:
            said = (done.stderr or done.stdout).strip() or f"it ended with {done.returncode}"
            raise Problem(f"{shlex.join(line)} failed:\n{said}")

    def directory(
        self, path: Path, *, mode: int = 0o755, owner: tuple[int, int] | None = None
    ) -> None:
        if path.is_dir() or self._would(f"make    {path}/"):
            return
        path.mkdir(parents=True, exist_ok=True)
        path.chmod(mode)
        if owner is not None:
            os.chown(path, *owner)

    def write(self, path: Path, text: str) -> bool:
        """Make the file hold the text, whole at every moment; True if it did not."""
        try:
            if path.read_text(encoding="utf-8") == text:
                return False
        except OSError:
            pass
        if self._would(f"write   {path}"):
            return True
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = path.with_name(f"{path.name}.new")
        aside.write_text(text, encoding="utf-8")
        aside.chmod(0o644)
        aside.replace(path)
        return True

    def copy(self, source: Path, path: Path, owner: tuple[int, int] | None) -> None:
        """Copy a big file, whole or not at all; readable by owner and group."""
        if self._would(f"copy    {source} to {path}"):
            return
        aside = path.with_name(f"{path.name}.new")
        try:
            shutil.copyfile(source, aside)
            aside.chmod(0o640)
            if owner is not None:
                os.chown(aside, *owner)
            aside.replace(path)
        finally:
            aside.unlink(missing_ok=True)

    def link(self, path: Path, target: str | Path) -> bool:
        """Make `path` a symbolic link to `target`, in one rename; True if it was none.

        Raises: Problem if something else is there, which may be somebody's.
        """
        if path.is_symlink() and os.readlink(path) == str(target):
            return False
        if path.exists() and not path.is_symlink():
            raise Problem(f"{path} is there and is not ours; move it away and run this again")
        if self._would(f"link    {path} -> {target}"):
            return True
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = path.with_name(f"{path.name}.new")
        aside.unlink(missing_ok=True)
        aside.symlink_to(target)
        aside.replace(path)
        return True

    def remove(self, path: Path) -> bool:
        """Remove a file, a link or a whole directory; True if there was one."""
        if not os.path.lexists(path):
            return False
        if self._would(f"remove  {path}"):
            return True
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
        return True

    def remove_if_empty(self, path: Path) -> None:
        if not self.dry and path.is_dir() and not any(path.iterdir()):
            path.rmdir()

    def _would(self, text: str) -> bool:
        if self.dry:
            print(f"would {text}", flush=True)
        else:
            self.has_changed = True
        return self.dry
