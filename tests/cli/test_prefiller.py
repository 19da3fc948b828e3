"""The worker that prefills beside a chat, against a daemon that says what the test wants."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from qwend.cli.chat.prefiller import Prefiller
from qwend.client import Client
from qwend.wire import Cancel, ChatMessage, EndOfStream, Error, Hello, Prefill, Welcome
from tests.client.fake_daemon import DEADLINE_S, Talk, fake_daemon
from tests.support.daemon import wait_until

WELCOME = Welcome(server="fake 1", model="fake", context=512, capabilities=("partial",))


class Beside:
    """A prefiller and the daemons it finds, one after the other."""

    def __init__(self, stack: ExitStack, folder: Path) -> None:
        self.allowed: Callable[[], bool] = lambda: True
        self.connected = 0
        self.fault: Exception | None = None
        self._stack = stack
        self._folder = folder
        self._path = folder / "none"
        self.prefiller = Prefiller(self._connect, lambda: self.allowed(), thinking=False)

    def daemon(self, script: Callable[[Talk], None]) -> None:
        """The next connection finds a daemon with this script."""
        self._path = self._folder / str(len(list(self._folder.iterdir())))
        self._stack.enter_context(fake_daemon(self._path, script))

    def ask(self, text: str) -> None:
        self.prefiller.ask((ChatMessage("user", text),))

    def is_off(self) -> bool:
        return "type-ahead" not in {thread.name for thread in threading.enumerate()}

    def _connect(self) -> Client:
        self.connected += 1
        if self.fault is not None:
            raise self.fault
        return Client(self._path, timeout_s=DEADLINE_S)


@pytest.fixture
def beside() -> Iterator[Beside]:
    with tempfile.TemporaryDirectory(prefix="qw") as folder, ExitStack() as stack:
        one = Beside(stack, Path(folder))
        yield one
        one.prefiller.close()
        wait_until(one.is_off, "the worker has ended")


def greet(talk: Talk, welcome: Welcome = WELCOME) -> None:
    talk.expect(Hello)
    talk.say(welcome)


def text_of(prefill: Prefill) -> str:
    assert (prefill.partial, prefill.thinking) == (True, False)
    assert prefill.messages is not None
    return prefill.messages[-1].content


def test_nothing_is_connected_before_the_first_prefill(beside: Beside) -> None:
    beside.prefiller.give_up()

    assert (beside.connected, beside.is_off()) == (0, True)


def test_a_newer_prefill_cancels_the_one_before_and_waits_for_its_end(beside: Beside) -> None:
    began = threading.Event()
    texts: list[str] = []
    seen = threading.Event()

    def script(talk: Talk) -> None:
        greet(talk)
        texts.append(text_of(talk.expect(Prefill)))
        began.set()
        assert talk.expect(Cancel) == Cancel(0)
        talk.finish(0, "cancelled")
        texts.append(text_of(talk.expect(Prefill)))
        seen.set()
        talk.expect_end()

    beside.daemon(script)
    beside.ask("Why is")
    assert began.wait(DEADLINE_S)
    beside.ask("Why is the sky")
    assert seen.wait(DEADLINE_S)
    beside.prefiller.close()

    assert texts == ["Why is", "Why is the sky"]


def test_of_those_that_came_meanwhile_only_the_newest_is_asked_for(beside: Beside) -> None:
    began = threading.Event()
    ending = threading.Event()
    more = threading.Event()
    seen = threading.Event()

    def script(talk: Talk) -> None:
        greet(talk)
        talk.expect(Prefill)
        began.set()
        talk.expect(Cancel)
        ending.set()
        assert more.wait(DEADLINE_S)
        talk.finish(0, "cancelled")
        assert text_of(talk.expect(Prefill)) == "four"
        seen.set()
        talk.expect_end()

    beside.daemon(script)
    beside.ask("one")
    assert began.wait(DEADLINE_S)
    beside.ask("two")
    assert ending.wait(DEADLINE_S)
    beside.ask("three")
    beside.ask("four")
    more.set()
    assert seen.wait(DEADLINE_S)
    beside.prefiller.close()


def test_giving_up_cancels(beside: Beside) -> None:
    began = threading.Event()
    cancelled = threading.Event()

    def script(talk: Talk) -> None:
        greet(talk)
        talk.expect(Prefill)
        began.set()
        talk.expect(Cancel)
        talk.finish(0, "cancelled")
        cancelled.set()
        talk.expect_end()

    beside.daemon(script)
    beside.ask("Why is the sky")
    assert began.wait(DEADLINE_S)
    beside.prefiller.give_up()
    assert cancelled.wait(DEADLINE_S)
    beside.prefiller.close()


def test_an_error_of_the_daemon_ends_it_for_good(beside: Beside) -> None:
    refused = threading.Event()

    def script(talk: Talk) -> None:
        greet(talk)
        talk.expect(Prefill)
        talk.say(Error("busy", "too many", id=0))
        refused.set()
        talk.expect(Cancel)
        talk.expect_end()

    beside.daemon(script)
    beside.ask("Why is the sky")
    assert refused.wait(DEADLINE_S)
    beside.ask("Why is the sky blue")
    wait_until(beside.is_off, "it is off")
    beside.ask("Why is the sky blue at noon")

    assert beside.connected == 1


def test_a_daemon_that_cannot_do_it_is_asked_for_nothing(beside: Beside) -> None:
    def script(talk: Talk) -> None:
        greet(talk, Welcome(server="fake 0", model="fake", context=512))
        talk.expect_end()

    beside.daemon(script)
    beside.ask("Why is the sky")

    wait_until(beside.is_off, "it is off")


@pytest.mark.parametrize("farewell", [False, True])
def test_a_restarted_daemon_is_found_again(beside: Beside, farewell: bool) -> None:
    gone = threading.Event()
    found = threading.Event()

    def first(talk: Talk) -> None:
        greet(talk)
        talk.expect(Prefill)
        if farewell:
            talk.say(Error("shutting_down", "the daemon stops", id=0))
        talk.socket.close()
        gone.set()

    def second(talk: Talk) -> None:
        greet(talk)
        assert text_of(talk.expect(Prefill)) == "Why is the sky blue"
        found.set()
        while not isinstance(event := talk.expect(object), EndOfStream):
            if isinstance(event, Cancel):
                talk.finish(event.id, "cancelled")

    def asks_until_heard() -> bool:
        beside.ask("Why is the sky blue")  # the first one finds out that the connection is lost
        return found.is_set()

    beside.daemon(first)
    beside.ask("Why is the sky")
    assert gone.wait(DEADLINE_S)
    beside.daemon(second)

    wait_until(asks_until_heard, "the second daemon is asked")
    beside.prefiller.close()


def test_no_daemon_is_no_end(beside: Beside) -> None:
    found = threading.Event()

    def script(talk: Talk) -> None:
        greet(talk)
        talk.expect(Prefill)
        found.set()
        talk.expect_end()

    beside.ask("Why is the sky")
    wait_until(lambda: beside.connected == 1, "it has tried")
    beside.daemon(script)
    beside.ask("Why is the sky blue")

    assert found.wait(DEADLINE_S)
    beside.prefiller.close()


def test_nothing_is_sent_while_it_is_not_allowed(beside: Beside) -> None:
    asked = threading.Event()

    def not_now() -> bool:
        asked.set()
        return False

    beside.allowed = not_now
    beside.ask("Why is the sky")
    assert asked.wait(DEADLINE_S)
    beside.prefiller.close()
    wait_until(beside.is_off, "the worker has ended")

    assert beside.connected == 0


def test_a_fault_of_its_own_shows_nothing(
    beside: Beside, capsys: pytest.CaptureFixture[str]
) -> None:
    beside.fault = RuntimeError("a fault")
    beside.ask("Why is the sky")
    wait_until(beside.is_off, "it is off")

    assert capsys.readouterr() == ("", "")
