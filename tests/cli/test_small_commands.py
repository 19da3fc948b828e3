from __future__ import annotations

import json
from pathlib import Path

from qwend import __version__
from qwend.cli.exits import Exit
from tests.cli.qwenctl import QWENCTL, qwenctl
from tests.cli.terminal import terminal
from tests.support.daemon import RunningDaemon


def test_ping_says_who_answered_and_how_fast(daemon: RunningDaemon) -> None:
    done = qwenctl("ping", socket=daemon.socket)

    assert done.stdout.startswith(f"qwend {__version__} answered in ")


def test_version_names_both_sides(daemon: RunningDaemon) -> None:
    done = qwenctl("version", socket=daemon.socket)

    assert done.stdout == f"qwenctl {__version__}\ndaemon qwend {__version__}, protocol qwend/1\n"


def test_tokenize_prints_ids(daemon: RunningDaemon) -> None:
    assert qwenctl("tokenize", "Hi", socket=daemon.socket).stdout == "72 105\n"


def test_tokenize_takes_a_pipe_to_the_last_byte(daemon: RunningDaemon) -> None:
    assert qwenctl("tokenize", socket=daemon.socket, input="Hi\n").stdout == "72 105 10\n"


def test_tokenize_reads_control_tokens_only_if_told(daemon: RunningDaemon) -> None:
    plain = qwenctl("tokenize", "--json", "<|im_end|>", socket=daemon.socket)
    special = qwenctl("tokenize", "--json", "--special", "<|im_end|>", socket=daemon.socket)

    assert json.loads(plain.stdout)["count"] == 10
    assert json.loads(special.stdout)["count"] == 1


def test_status_is_one_screen_of_plain_words(daemon: RunningDaemon) -> None:
    done = qwenctl("status", socket=daemon.socket)

    lines = done.stdout.splitlines()
    assert len(lines) < 24
    assert max(map(len, lines)) < 100
    assert lines[0] == "state     ready: it answers at once"
    assert str(daemon.socket) in done.stdout
    assert "None" not in done.stdout
    assert "\x1b" not in done.stdout


def test_status_as_json_is_the_daemons_own_map(daemon: RunningDaemon) -> None:
    done = qwenctl("status", "--json", socket=daemon.socket)

    assert json.loads(done.stdout)["pid"] == daemon.process.pid


def test_no_color_is_honoured(daemon: RunningDaemon) -> None:
    command = [*QWENCTL, "--socket", str(daemon.socket), "status"]

    with terminal(command, {**daemon.env, "NO_COLOR": "1"}) as plain:
        assert plain.wait() == Exit.DONE
    with terminal(command, daemon.env) as coloured:
        assert coloured.wait() == Exit.DONE

    assert b"\x1b[" not in plain.raw
    assert b"\x1b[32mready" in coloured.raw


def test_config_check_accepts_a_good_file(daemon: RunningDaemon, tmp_path: Path) -> None:
    file = tmp_path / "q.toml"
    file.write_text("[model]\ncontext = 4096\n")

    done = qwenctl("config", "check", "--config", str(file), socket=daemon.socket, env={})

    assert done.returncode == Exit.DONE
    assert "1 settings changed" in done.stdout


def test_config_check_names_file_setting_and_the_nearest_name(
    daemon: RunningDaemon, tmp_path: Path
) -> None:
    file = tmp_path / "q.toml"
    file.write_text("[model]\ncontxt = 4096\n")

    done = qwenctl("config", "check", "--config", str(file), socket=daemon.socket, env={})

    assert done.returncode == Exit.USAGE
    assert done.stderr.startswith("qwenctl: ")
    for word in (str(file), "contxt", "context"):
        assert word in done.stderr


def test_config_show_prints_a_file_that_gives_the_same_again(
    daemon: RunningDaemon, tmp_path: Path
) -> None:
    file = tmp_path / "q.toml"
    file.write_text('[chat]\nsystem_prompt = "Sprich Deutsch."\n')
    shown = qwenctl("config", "show", "--config", str(file), socket=daemon.socket, env={}).stdout
    again = tmp_path / "again.toml"
    again.write_text(shown)

    done = qwenctl("config", "show", "--config", str(again), socket=daemon.socket, env={})

    assert 'system_prompt = "Sprich Deutsch."' in done.stdout
    assert done.returncode == Exit.DONE


def test_drain_and_reload_say_what_holds_from_now_on(daemon: RunningDaemon) -> None:
    drained = qwenctl("drain", socket=daemon.socket)
    refused = qwenctl("tokenize", "Hi", socket=daemon.socket)
    again = qwenctl("reload", socket=daemon.socket)

    assert drained.stdout == "new requests are refused; 0 open ones go on\n"
    assert (refused.returncode, refused.stdout) == (Exit.REQUEST_FAILED, "")
    assert "qwenctl reload" in refused.stderr
    assert again.stdout == "the configuration is read again, and requests are taken\n"
    assert qwenctl("tokenize", "Hi", socket=daemon.socket).stdout == "72 105\n"
