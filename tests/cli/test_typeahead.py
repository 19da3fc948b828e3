"""When a prefill is asked for while someone types; time is moved by hand."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from qwend.cli.chat.conversation import Conversation
from qwend.cli.chat.typeahead import NEW_CHARS, PAUSE_S, REST_S, TypeAhead
from qwend.wire import ChatMessage

GIVEN_UP = "given up"


class Timer:
    def __init__(self, due_s: float, action: Callable[[], None]) -> None:
        self.due_s = due_s
        self.action = action
        self.is_open = True

    def cancel(self) -> None:
        self.is_open = False


class Typist:
    """Types, and rests; `asked` is the last message of each prefill, in order."""

    def __init__(self, conversation: Conversation | None = None) -> None:
        self.asked: list[str] = []
        self.carried: tuple[ChatMessage, ...] = ()
        self._now_s = 0.0
        self._timers: list[Timer] = []
        self._ahead = TypeAhead(self, conversation or Conversation(), self._call_later)

    def ask(self, messages: tuple[ChatMessage, ...]) -> None:
        self.carried = messages
        self.asked.append(messages[-1].content)

    def give_up(self) -> None:
        self.asked.append(GIVEN_UP)

    def type(self, text: str, *, rest_s: float = 0.0) -> None:
        """The line becomes `text`, and no key comes for `rest_s`."""
        self._ahead.typed(text)
        self.rest(rest_s)

    def rest(self, for_s: float) -> None:
        end_s = self._now_s + for_s
        while due := [each for each in self._timers if each.is_open and each.due_s <= end_s]:
            timer = min(due, key=lambda each: each.due_s)
            timer.is_open = False
            self._now_s = timer.due_s
            timer.action()
        self._now_s = end_s

    def leave_line(self) -> None:
        self._ahead.stop()

    def _call_later(self, delay_s: float, action: Callable[[], None]) -> Timer:
        self._timers.append(Timer(self._now_s + delay_s, action))
        return self._timers[-1]


@pytest.fixture
def typist() -> Typist:
    return Typist()


def test_nothing_is_asked_for_before_a_pause(typist: Typist) -> None:
    for end in range(1, 41):
        typist.type("Why is the sky blue, and why the sunset?"[:end], rest_s=PAUSE_S * 0.9)

    assert typist.asked == []


def test_a_pause_asks_for_what_is_there(typist: Typist) -> None:
    typist.type("Why is the sky", rest_s=PAUSE_S)

    assert typist.asked == ["Why is the sky"]


def test_a_pause_after_a_few_more_characters_asks_for_nothing(typist: Typist) -> None:
    typist.type("Why is the sky", rest_s=PAUSE_S)
    typist.type("Why is the sky" + "x" * (NEW_CHARS - 1), rest_s=PAUSE_S)
    assert len(typist.asked) == 1

    typist.type("Why is the sky" + "x" * NEW_CHARS, rest_s=PAUSE_S)
    assert len(typist.asked) == 2


def test_a_longer_rest_asks_for_the_last_few_characters_too(typist: Typist) -> None:
    typist.type("Why is the sky", rest_s=PAUSE_S)
    typist.type("Why is the sky?", rest_s=REST_S)

    assert typist.asked == ["Why is the sky", "Why is the sky?"]


def test_a_rest_asks_once_for_the_same_text(typist: Typist) -> None:
    typist.type("Why is the sky", rest_s=10)
    typist.type("Why is the sky?")
    typist.type("Why is the sky", rest_s=10)

    assert typist.asked == ["Why is the sky"]


def test_what_was_changed_in_the_middle_counts_as_new(typist: Typist) -> None:
    typist.type("Why is the sky blue", rest_s=PAUSE_S)
    typist.type("Why, is the sky blue", rest_s=PAUSE_S)

    assert typist.asked[-1] == "Why, is the sky blue"


@pytest.mark.parametrize("text", ["", "Hi", " " * 20, "/system Be brief, please.", "/save  notes"])
def test_what_is_no_question_yet_is_never_asked_for(typist: Typist, text: str) -> None:
    typist.type(text, rest_s=10)

    assert typist.asked == []


def test_a_path_at_the_beginning_is_no_command(typist: Typist) -> None:
    typist.type("/etc/fstab is empty", rest_s=PAUSE_S)

    assert typist.asked == ["/etc/fstab is empty"]


def test_a_line_that_is_left_gives_up_what_was_asked_for(typist: Typist) -> None:
    typist.type("Why is the sky", rest_s=PAUSE_S)
    typist.leave_line()

    assert typist.asked == ["Why is the sky", GIVEN_UP]


def test_a_line_that_is_left_before_the_pause_asks_for_nothing(typist: Typist) -> None:
    typist.type("Why is the sky")
    typist.leave_line()
    typist.rest(10)

    assert typist.asked == []


def test_the_same_question_on_a_new_line_is_asked_for_again(typist: Typist) -> None:
    typist.type("Why is the sky", rest_s=PAUSE_S)
    typist.leave_line()
    typist.type("Why is the sky", rest_s=PAUSE_S)

    assert typist.asked == ["Why is the sky", GIVEN_UP, "Why is the sky"]


def test_a_prefill_is_what_the_question_itself_will_carry() -> None:
    conversation = Conversation("Be brief.")
    conversation.ask("one")
    conversation.answer("1")
    typist = Typist(conversation)

    typist.type("and two? ", rest_s=PAUSE_S)

    conversation.ask("and two? ")
    assert typist.carried == conversation.messages
