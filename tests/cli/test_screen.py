from __future__ import annotations

import io

import pytest

from qwend.cli.answer import Screen, ending, figures, waited_for
from qwend.wire import Done, Progress, Timings, Usage


class Tty(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_control_characters_are_left_out_on_a_terminal_only() -> None:
    tty, pipe = Tty(), io.StringIO()

    Screen(tty).write("a\x1b]0;title\x07\tb\r\nc\x9b")
    Screen(pipe).write("a\x1b[0m")

    assert tty.getvalue() == "a]0;title\tb\nc"
    assert pipe.getvalue() == "a\x1b[0m"


def test_end_line_adds_a_line_feed_only_where_one_is_missing() -> None:
    stream = io.StringIO()
    screen = Screen(stream)

    screen.end_line()
    screen.write("one")
    screen.end_line()
    screen.write("two\n")
    screen.end_line()

    assert stream.getvalue() == "one\ntwo\n"


def test_speed_counts_the_gaps_between_tokens() -> None:
    done = Done(1, "stop", Usage(10, 8, 11), Timings(ttft_s=0.25, decode_s=2.0))

    line = figures(done)

    assert line == (
        "first token after 0.25 s; 5.0 tokens/s; 11 tokens; 10 in the prompt, 8 of them cached"
    )


def test_energy_is_shown_where_it_is_measured() -> None:
    done = Done(1, "stop", Usage(10, 0, 20, 30.04), None)

    assert figures(done) == "20 tokens; 10 in the prompt; 30.0 J, 1.50 J a token"


def test_an_answer_of_one_token_has_no_speed() -> None:
    assert "tokens/s" not in figures(Done(1, "stop", Usage(3, 0, 1), Timings()))


def test_only_an_unusual_end_is_worth_a_remark() -> None:
    assert ending(Done(1, "stop", Usage(1, 0, 5))) == ""
    assert ending(Done(1, "stop_string", Usage(1, 0, 5))) == ""
    assert ending(Done(1, "length", Usage(1, 0, 5))) == "cut off after 5 tokens"
    assert ending(Done(1, "cancelled", Usage(1, 0, 5))) == "cancelled"


def test_what_keeps_an_answer_is_said() -> None:
    said = {
        waited_for(Progress(1, "queued", 0, 2)): "waiting for 2 before you",
        waited_for(Progress(1, "queued", 0, 0)): "waiting",
        waited_for(Progress(1, "prefill", 16, 99)): "reading 16 of 99 tokens",
        waited_for(Progress(1, "recovering", 0, 0)): "the engine died; it is started again",
        waited_for(Progress(1, "loading", 42, 100)): "the model is being loaded: 42 %",
        waited_for(
            Progress(1, "waiting", 0, 1)
        ): "the model is changed; waiting for 1 answer of the one before",
    }
    assert list(said) == list(said.values())


# Reasoning


def test_reasoning_is_dimmed_and_set_apart_by_an_empty_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    tty = Tty()
    screen = Screen(tty)
    screen.aside("Hm")
    screen.aside(".")
    screen.write("")
    screen.write("Yes")
    screen.end_line()
    assert tty.getvalue() == "\x1b[2mHm\x1b[22m\x1b[2m.\x1b[22m\n\nYes\n"


def test_reasoning_is_plain_where_colours_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    tty = Tty()
    screen = Screen(tty)
    screen.aside("Hm\n")
    screen.write("Yes")
    assert tty.getvalue() == "Hm\n\nYes"


def test_reasoning_is_not_written_where_no_person_looks() -> None:
    pipe = io.StringIO()
    screen = Screen(pipe)
    screen.aside("Hm")
    screen.write("Yes")
    assert pipe.getvalue() == "Yes"


def test_an_answer_of_reasoning_alone_ends_its_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    tty = Tty()
    screen = Screen(tty)
    screen.aside("Hm")
    screen.end_line()
    screen.write("next")
    assert tty.getvalue() == "Hm\nnext"
