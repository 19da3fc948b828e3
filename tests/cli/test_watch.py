"""`qwenctl status --watch`, as a person sees it."""

from __future__ import annotations

from qwend.cli.exits import Exit
from tests.cli.qwenctl import QWENCTL, qwenctl
from tests.cli.terminal import terminal
from tests.support.daemon import running_daemon


def test_the_screen_is_drawn_again_until_ctrl_c_and_outlives_the_daemon() -> None:
    # 1. It is shown, and again.  2. The daemon stops: that is shown.  3. Ctrl-C leaves with 0.
    with running_daemon() as daemon:
        command = [*QWENCTL, "--socket", str(daemon.socket), "status", "--watch"]
        with terminal(command, daemon.env) as screen:
            first = screen.wait_for("state     ready")
            again = screen.wait_for("state     ready", after=first)
            assert daemon.stop() == 0
            screen.wait_for("scripts/quickstart", after=again)
            screen.type("\x03")
            assert screen.wait() == Exit.DONE


def test_without_a_terminal_it_says_what_to_take_instead() -> None:
    with running_daemon() as daemon:
        done = qwenctl("status", "--watch", socket=daemon.socket)
    assert done.returncode == Exit.USAGE
    assert "--json" in done.stderr
