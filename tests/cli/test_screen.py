from __future__ import annotations

import io

from qwend.cli.answer import Screen, ending, figures
from qwend.wire import Done, Timings, Usage


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


def test_an_answer_of_one_token_has_no_speed() -> None:
    assert "tokens/s" not in figures(Done(1, "stop", Usage(3, 0, 1), Timings()))


def test_only_an_unusual_end_is_worth_a_remark() -> None:
    assert ending(Done(1, "stop", Usage(1, 0, 5))) == ""
    assert ending(Done(1, "stop_string", Usage(1, 0, 5))) == ""
    assert ending(Done(1, "length", Usage(1, 0, 5))) == "cut off after 5 tokens"
    assert ending(Done(1, "cancelled", Usage(1, 0, 5))) == "cancelled"
