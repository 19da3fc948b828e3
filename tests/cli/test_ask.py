from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import tempfile
from pathlib import Path

import pytest

from qwend.cli.exits import Exit
from qwend.wire import Chat
from tests.cli.qwenctl import QWENCTL, qwenctl
from tests.cli.terminal import terminal
from tests.client.fake_daemon import Talk, fake_daemon
from tests.support.daemon import RunningDaemon, running_daemon, wait_until


def test_the_answer_and_nothing_else_is_on_stdout(daemon: RunningDaemon) -> None:
    done = qwenctl("ask", "good", "morning", socket=daemon.socket)

    assert (done.stdout, done.stderr, done.returncode) == ("good morning\n", "", Exit.DONE)


def test_piped_text_stands_behind_the_question(daemon: RunningDaemon) -> None:
    done = qwenctl("ask", "What is this?", socket=daemon.socket, input="line 1\nline 2\n")

    assert done.stdout == "What is this?\n\nline 1\nline 2\n"


def test_piped_text_alone_is_the_question(daemon: RunningDaemon) -> None:
    assert qwenctl("ask", socket=daemon.socket, input="hello\n").stdout == "hello\n"


def test_a_dash_reads_stdin(daemon: RunningDaemon) -> None:
    assert qwenctl("ask", "-", socket=daemon.socket, input="hello").stdout == "hello\n"


def test_piped_bytes_that_are_no_text_are_replaced(daemon: RunningDaemon) -> None:
    done = subprocess.run(
        [*QWENCTL, "--socket", str(daemon.socket), "ask"],
        input=b"caf\xe9",
        capture_output=True,
        check=True,
    )

    assert done.stdout.decode() == "caf\ufffd\n"


def test_no_question_at_all_is_a_usage_error(daemon: RunningDaemon) -> None:
    done = qwenctl("ask", socket=daemon.socket)

    assert done.returncode == Exit.USAGE
    assert "what to ask" in done.stderr


def test_json_is_one_object_with_everything(daemon: RunningDaemon) -> None:
    done = qwenctl(
        "ask", "--json", "--seed", "7", "--max-tokens", "3", "héllo", socket=daemon.socket
    )

    answer = json.loads(done.stdout)
    assert set(answer) == {
        "text",
        "reasoning",
        "finish_reason",
        "usage",
        "timings",
        "seed",
        "model",
    }
    assert answer["text"] == "hé"
    assert answer["finish_reason"] == "length"
    assert answer["usage"]["completion_tokens"] == 3
    assert answer["seed"] == 7
    assert answer["model"] == "scripted"


def test_no_stream_prints_the_whole_answer(daemon: RunningDaemon) -> None:
    assert qwenctl("ask", "--no-stream", "one two", socket=daemon.socket).stdout == "one two\n"


def test_stop_strings_end_the_answer(daemon: RunningDaemon) -> None:
    done = qwenctl("ask", "--stop", "END", "say this END not this", socket=daemon.socket)

    assert done.stdout == "say this \n"


def test_timings_go_to_stderr(daemon: RunningDaemon) -> None:
    done = qwenctl("ask", "--timings", "one two", socket=daemon.socket)

    assert done.stdout == "one two\n"
    assert "tokens/s; 7 tokens;" in done.stderr


def test_a_refused_value_names_the_field_and_the_code(daemon: RunningDaemon) -> None:
    done = qwenctl("ask", "--temperature", "1000", "x", socket=daemon.socket)

    assert done.returncode == Exit.REQUEST_FAILED
    assert done.stderr.startswith("qwenctl: ")
    assert "temperature" in done.stderr
    assert done.stderr.endswith("(invalid_value)\n")


def test_a_question_beyond_the_context_is_refused_with_its_code(daemon: RunningDaemon) -> None:
    done = qwenctl("ask", socket=daemon.socket, input="x" * 20_000)

    assert done.returncode == Exit.REQUEST_FAILED
    assert "(context_exceeded)" in done.stderr


def test_tokens_are_written_as_they_come(endless: RunningDaemon) -> None:
    process = _asking(endless)
    try:
        assert process.stdout is not None
        assert os.read(process.stdout.fileno(), 1) == b"a"
        assert process.poll() is None
    finally:
        process.kill()
        process.communicate()


def test_ctrl_c_cancels_the_request_and_exits_130(endless: RunningDaemon) -> None:
    process = _asking(endless)
    assert process.stdout is not None
    assert os.read(process.stdout.fileno(), 1)

    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=30)

    assert process.returncode == Exit.INTERRUPTED
    assert output.endswith(b"\n")
    assert errors == b""
    wait_until(lambda: endless.status()["engine"]["running"] == 0, "the request is cancelled")


def test_a_reader_that_goes_away_is_no_error(endless: RunningDaemon) -> None:
    process = _asking(endless)
    assert process.stdout is not None
    assert os.read(process.stdout.fileno(), 1)

    process.stdout.close()
    assert process.stderr is not None
    errors = process.stderr.read()

    assert process.wait(30) == Exit.DONE
    assert errors == b""
    wait_until(lambda: endless.status()["engine"]["running"] == 0, "the request is cancelled")
    process.stderr.close()


def test_a_daemon_that_dies_meanwhile_is_said_in_one_line() -> None:
    with running_daemon(script={"step_s": 0.005, "endless": True}) as daemon:
        process = _asking(daemon)
        assert process.stdout is not None
        assert os.read(process.stdout.fileno(), 1)
        daemon.process.kill()
        daemon.process.wait()
        _, errors = process.communicate(timeout=30)

    assert process.returncode == Exit.REQUEST_FAILED
    assert errors.startswith(b"qwenctl: ")
    assert errors.count(b"\n") == 1


def test_a_daemon_that_is_still_starting_is_waited_for_with_a_word() -> None:
    with tempfile.TemporaryDirectory(prefix="qw") as folder, socket.socket(socket.AF_UNIX) as sock:
        # As systemd does: it listens, and nobody accepts yet.
        sock.bind(f"{folder}/s")
        sock.listen()
        with subprocess.Popen(
            [*QWENCTL, "--socket", f"{folder}/s", "ask", "x"],
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        ) as process:
            assert process.stderr is not None
            assert process.stderr.readline().endswith(b"it may be starting.\n")
            process.send_signal(signal.SIGINT)

            assert process.wait(30) == Exit.INTERRUPTED


def test_escape_sequences_of_the_model_do_not_reach_a_terminal(daemon: RunningDaemon) -> None:
    command = [*QWENCTL, "--socket", str(daemon.socket), "ask", "a\x1b[2Jb\x07c"]

    with terminal(command, daemon.env) as screen:
        assert screen.wait() == Exit.DONE

    assert b"a[2Jbc" in screen.raw


@pytest.mark.parametrize("locale", ["C", "de_DE.ISO-8859-1"])
def test_a_locale_without_the_characters_is_no_crash(daemon: RunningDaemon, locale: str) -> None:
    env = {**daemon.env, "LC_ALL": locale, "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    env["PYTHONIOENCODING"] = "ascii"

    done = qwenctl("ask", "日本", socket=daemon.socket, env=env)

    assert done.returncode == Exit.DONE
    assert done.stdout.strip("?\n") == ""


def _asking(daemon: RunningDaemon) -> subprocess.Popen[bytes]:
    """A `qwenctl ask` whose answer does not end by itself."""
    return subprocess.Popen(
        [*QWENCTL, "--socket", str(daemon.socket), "ask", "a"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=daemon.env,
    )


THOUGHT = "<think>\nHm.\n</think>\n\nYes"


def test_reasoning_is_no_part_of_what_is_piped_on_and_json_has_both(
    thinker: RunningDaemon,
) -> None:
    assert qwenctl("ask", THOUGHT, socket=thinker.socket).stdout == "Yes\n"
    answer = json.loads(qwenctl("ask", "--json", THOUGHT, socket=thinker.socket).stdout)
    assert (answer["reasoning"], answer["text"]) == ("Hm.", "Yes")


def test_no_think_has_the_model_answer_at_once(thinker: RunningDaemon) -> None:
    done = qwenctl("ask", "--no-think", THOUGHT, socket=thinker.socket)
    assert done.stdout == THOUGHT + "\n"


def test_think_is_refused_by_a_model_that_cannot(daemon: RunningDaemon) -> None:
    done = qwenctl("ask", "--think", "x", socket=daemon.socket)
    assert done.returncode == Exit.REQUEST_FAILED
    assert "cannot think" in done.stderr
    assert "(unsupported)" in done.stderr


def test_a_terminal_shows_reasoning_dimmed_above_the_answer(thinker: RunningDaemon) -> None:
    command = [*QWENCTL, "--socket", str(thinker.socket), "ask", THOUGHT]
    env = {name: value for name, value in thinker.env.items() if name != "NO_COLOR"}

    with terminal(command, env) as screen:
        assert screen.wait() == Exit.DONE

    assert "Hm.\r\n\r\nYes\r\n" in screen.shown
    assert b"\x1b[2m" in screen.raw
    assert b"\x1b[2mY" not in screen.raw


@pytest.mark.parametrize(("options", "priority"), [((), None), (("--background",), "background")])
def test_only_in_the_background_others_go_first(
    tmp_path: Path, options: tuple[str, ...], priority: str | None
) -> None:
    def script(talk: Talk) -> None:
        talk.greet()
        assert talk.expect(Chat).priority == priority
        talk.answer(0, "yes")
        talk.finish(0)

    with fake_daemon(tmp_path / "s", script) as path:
        assert qwenctl("ask", *options, "x", socket=path).stdout == "yes\n"
