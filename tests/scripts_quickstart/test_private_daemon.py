"""scripts/quickstart leaves nothing, however it ends."""

from __future__ import annotations

import signal
import subprocess

import pytest

from tests.scripts_quickstart.clone import Clone, end, processes_below, wait_until


def test_a_prompt_is_asked_and_nothing_is_left(ready_clone: Clone) -> None:
    before = ready_clone.files()

    done = ready_clone.run("quickstart", "--prompt", "-n is no option here")

    assert done.returncode == 0
    assert done.stdout.splitlines()[0] == "ask -- -n is no option here"
    assert processes_below(ready_clone.path) == []
    assert ready_clone.files() == before


def test_the_users_configuration_is_left_out(ready_clone: Clone) -> None:
    done = ready_clone.run("quickstart", "--prompt", "x", QWEND_PYTHON="python3")

    # The daemon refuses variables with its prefix that are no setting.
    assert "python None" in done.stdout
    assert f"config {ready_clone.env['TMPDIR']}/qwend-quickstart-" in done.stdout


def test_a_daemon_that_does_not_start_is_quoted(ready_clone: Clone) -> None:
    done = ready_clone.run("quickstart", FAKE_QWEND_DOES="fail")

    assert done.returncode == 1
    assert "qwend: this model is no model" in done.stderr
    assert "Traceback" not in done.stderr
    assert not _leftovers(ready_clone)


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGKILL, -9)]
)
def test_a_killed_chat_leaves_no_process_and_no_file(
    ready_clone: Clone, number: signal.Signals, code: int
) -> None:
    process = _chatting(ready_clone)

    assert end(process, number) == code

    wait_until(lambda: not processes_below(ready_clone.path), "all processes end")
    wait_until(lambda: not _leftovers(ready_clone), "the private directory goes")


def test_ctrl_c_is_the_chats_to_understand(ready_clone: Clone) -> None:
    process = _chatting(ready_clone)

    # A terminal sends it to the whole foreground group; the stub ends by it, with a traceback.
    process.send_signal(signal.SIGINT)
    assert process.poll() is None
    end(process, signal.SIGTERM)

    wait_until(lambda: not _leftovers(ready_clone), "the private directory goes")


def _chatting(clone: Clone) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        clone.command("quickstart"),
        env=clone.env,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "chat\n"
    return process


def _leftovers(clone: Clone) -> list[str]:
    return [each.name for each in clone.files() if each.name.startswith("qwend-quickstart-")]
