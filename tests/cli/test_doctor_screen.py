"""The screen of `qwenctl doctor`, and the whole command beside a daemon and without one."""

from __future__ import annotations

import json
from pathlib import Path

from qwend.cli.doctor.finding import Finding, Level, note, ok, warn, wrong
from qwend.cli.doctor.screen import screen, verdict
from tests.cli.qwenctl import qwenctl
from tests.support.daemon import RunningDaemon

NAMES = {"what", "why", "mend", "name", "level"}


def test_what_is_well_is_one_line() -> None:
    lines = list(screen("qwend on a box", [ok("swap", "none")], 80))

    assert lines == ["qwend on a box", "", "ok    swap      none", "", "All is well."]


def test_the_remedy_stands_below_its_reason() -> None:
    found = warn("governor", "ondemand", "It is slower.", "do this")

    assert list(screen("t", [found], 80))[2:5] == [
        "warn  governor  ondemand",
        "                It is slower.",
        "                -> do this",
    ]


def test_each_step_of_a_remedy_is_a_line_of_its_own() -> None:
    found = warn("governor", "ondemand", mend="first\nsecond")

    assert list(screen("t", [found], 80))[3:5] == [
        "                -> first",
        "                -> second",
    ]


def test_no_line_is_wider_than_the_terminal() -> None:
    words = "word " * 40
    lines = list(screen(words, [wrong("daemon", words, words, words)], 60))

    assert max(map(len, lines)) <= 60


def test_a_long_path_is_not_broken() -> None:
    path = "/" + "x" * 90

    assert any(path in line for line in screen("t", [note("disk", path, mend=path)], 60))


def test_colour_is_only_on_the_word_of_the_level() -> None:
    lines = list(screen("t", [ok("swap", "none")], 80, lambda text, level: f"<{level}:{text}>"))

    assert lines[2] == "<ok:ok    >swap      none"


def test_the_verdict_counts() -> None:
    bad, poor = wrong("a", "b"), warn("c", "d")
    said: list[tuple[list[Finding], str]] = [
        ([], "All is well."),
        ([note("a", "b")], "All is well."),
        ([poor], "Nothing is wrong; 1 thing could be better."),
        ([poor, poor, bad], "1 thing is wrong, 2 things could be better."),
        ([bad, bad], "2 things are wrong."),
    ]
    for findings, words in said:
        assert verdict(findings) == words


def test_it_examines_a_machine_whose_daemon_answers(daemon: RunningDaemon) -> None:
    done = qwenctl("doctor", "--quick", socket=daemon.socket, env=daemon.env)

    lines = done.stdout.splitlines()
    assert done.returncode == 0, done.stdout
    assert len(lines) <= 35
    assert max(map(len, lines)) <= 80
    assert any(line.startswith("ok    daemon    ready") for line in lines)
    assert "None" not in done.stdout
    assert "\x1b" not in done.stdout
    assert done.stderr == ""


def test_a_daemon_that_is_down_makes_it_fail(tmp_path: Path) -> None:
    done = qwenctl("doctor", "--quick", socket=tmp_path / "none.sock")

    assert done.returncode == 1
    assert "wrong daemon" in done.stdout
    assert "1 thing is wrong" in done.stdout


def test_as_json_it_is_one_object(daemon: RunningDaemon, tmp_path: Path) -> None:
    done = qwenctl("doctor", "--json", socket=daemon.socket, env=daemon.env)

    shown = json.loads(done.stdout)
    assert shown["machine"]
    assert {each["level"] for each in shown["findings"]} <= set(Level)
    assert all(set(each) == NAMES for each in shown["findings"])
    assert any(each["name"] == "disk" for each in shown["findings"])

    down = qwenctl("doctor", "--json", "--quick", socket=tmp_path / "none.sock")
    assert down.returncode == 1
    named = {each["name"]: each["level"] for each in json.loads(down.stdout)["findings"]}
    assert named["daemon"] == "wrong"
    assert "disk" not in named
