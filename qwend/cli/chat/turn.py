"""One turn: a question sent, its answer shown as it comes, the conversation kept whatever happens.

Rule 1: after a turn the conversation ends with an answer, if only a part of one, or is as before.
Rule 2: this file does not know where questions come from.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from qwend.cli.answer import BEGINS_ANEW, Screen, Waiting, ending, figures
from qwend.cli.chat.conversation import Conversation
from qwend.cli.chat.link import Link
from qwend.cli.chat.session import answer_kept
from qwend.cli.interrupt import first_calls
from qwend.cli.report import describe, say_dim
from qwend.client import (
    AskedAgain,
    ClientError,
    ConnectionLost,
    Done,
    Progress,
    RequestFailed,
    Token,
)
from qwend.client.options import GenerationOptions
from qwend.errors import QwendError


@dataclass(slots=True)
class Settings:
    generation: GenerationOptions
    timings: bool = False


class Turns:
    """notice: shows a remark beside the answers."""

    def __init__(
        self,
        link: Link,
        conversation: Conversation,
        settings: Settings,
        screen: Screen,
        notice: Callable[[str], None],
    ) -> None:
        self._link = link
        self._conversation = conversation
        self._settings = settings
        self._screen = screen
        self._notice = notice
        self._text = ""

    def take(self, question: str) -> bool:
        """Ask and show; return whether an answer came to its end, or was stopped on purpose."""
        self._text = ""
        self._conversation.ask(question)
        remark = ""
        done = None
        answered = False
        try:
            done = self._answer_or_reconnect()
            answered = True
            remark = ending(done) if done is not None else ""
        except KeyboardInterrupt:
            # Somewhere in the middle of reading: the connection cannot be used any more.
            self._link.drop()
            remark = "cancelled"
        except QwendError as error:
            self._screen.end_line()
            self._notice(f"qwenctl: {describe(error)}")
        # A session does not keep a turn that has failed, and so neither do we.
        kept = answered or self._conversation.session is None
        self._conversation.answer(self._text if kept else "")
        self._screen.end_line()
        if remark:
            self._notice(f"({remark})")
        if done is not None and self._settings.timings:
            self._notice(f"({figures(done)})")
        return answered or bool(remark)

    def _answer_or_reconnect(self) -> Done | None:
        """None: the daemon was gone before it could say how the answer ended, but has kept it."""
        try:
            return self._answer()
        except ClientError as error:
            if not is_loss(error):
                raise
            self._link.drop()
            if self._conversation.session is None and self._text:
                # Asking again would say the beginning twice, in other words.
                raise
            self._link.reconnect()
            if self._show_what_was_kept():
                return None
            if self._text:
                raise
        return self._answer()

    def _show_what_was_kept(self) -> bool:
        """Say the rest of the answer, if the daemon has kept it: asking again would keep two."""
        answer = answer_kept(self._link.client(), self._conversation)
        if answer is None or not answer.startswith(self._text):
            return False
        self._screen.write(answer[len(self._text) :])
        self._text = answer
        return True

    def _answer(self) -> Done:
        client = self._link.client()
        waiting = Waiting()
        stream = client.chat(
            self._conversation.request,
            session=self._conversation.session,
            **self._settings.generation,
        )
        try:
            with first_calls(stream.cancel) as interrupts:
                for event in stream.events():
                    if isinstance(event, Progress):
                        waiting.show(event)
                    elif isinstance(event, AskedAgain):
                        self._screen.end_line()
                        say_dim(BEGINS_ANEW)
                        self._text = ""
                    elif isinstance(event, Token) and not interrupts.count:
                        waiting.clear()
                        # No part of the conversation: the model is not to look back on it.
                        self._screen.aside(event.reasoning)
                        self._text += event.text
                        self._screen.write(event.text)
                return stream.wait()
        finally:
            waiting.clear()


def is_loss(error: ClientError) -> bool:
    """Is the daemon gone, or about to go?"""
    return isinstance(error, ConnectionLost) or (
        isinstance(error, RequestFailed) and error.code == "shutting_down"
    )
