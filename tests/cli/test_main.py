from __future__ import annotations

import subprocess
import sys

import pytest

from qwend.cli.main import COMMANDS, run
from tests.support.daemon import RunningDaemon

HEAVY = ("llama_cpp", "numpy", "rich", "prompt_toolkit", "asyncio", "psutil")


def modules_after(*arguments: str) -> set[str]:
    """The modules that a process has imported after this command line."""
    code = (
        "import sys; from qwend.cli.main import run; run(sys.argv[1:]);"
        "print(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True
    )
    return set(done.stderr.split())


def test_help_lists_every_command_and_imports_none() -> None:
    modules = modules_after("--help")

    assert not modules & {module for module, _ in COMMANDS.values()}
    assert not modules & {"qwend.client", "qwend.wire", *HEAVY}


def test_status_imports_nothing_heavy(daemon: RunningDaemon) -> None:
    assert not modules_after("--socket", str(daemon.socket), "status") & set(HEAVY)


def test_ask_imports_nothing_heavy(daemon: RunningDaemon) -> None:
    assert not modules_after("--socket", str(daemon.socket), "ask", "x") & set(HEAVY)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([name, "-h"]) == 0
    assert f"Usage: qwenctl {name}" in capsys.readouterr().out


def test_without_a_command_the_help_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([]) == 0
    shown = capsys.readouterr().out
    assert all(f"\n  {name} " in shown for name in COMMANDS)


def test_a_misspelt_command_is_answered_with_the_nearest(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(["stauts"]) == 2
    assert "Did you mean 'status'?" in capsys.readouterr().err


def test_a_command_like_no_other_is_answered_with_all(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["zzz"]) == 2
    assert "There are: chat, ask," in capsys.readouterr().err


def test_a_question_in_place_of_a_command_is_told_about_ask(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(["Why is the sky blue?"]) == 2
    assert 'qwenctl ask "..."' in capsys.readouterr().err


def test_a_misspelt_option_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["ask", "--temprature", "1", "x"]) == 2
    assert "--temperature" in capsys.readouterr().err
