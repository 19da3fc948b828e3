"""`qwenctl` run in this process: half a second less for each command than one of its own takes."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

import pytest

from qwend.cli.main import run

NOWHERE = "/nowhere/qwend.sock"


@dataclass(frozen=True, slots=True)
class Ended:
    returncode: int
    stdout: str
    stderr: str


@dataclass(frozen=True, slots=True)
class InProcess:
    """env: all of the environment that a command sees."""

    capture: pytest.CaptureFixture[str]
    monkeypatch: pytest.MonkeyPatch

    def run(self, *arguments: str, env: Mapping[str, str], socket: object = NOWHERE) -> Ended:
        with self.monkeypatch.context() as patched:
            for name in set(os.environ) - set(env):
                patched.delenv(name)
            for name, value in env.items():
                patched.setenv(name, value)
            self.capture.readouterr()
            code = run(["--socket", str(socket), *arguments])
        told = self.capture.readouterr()
        return Ended(code, told.out, told.err)
