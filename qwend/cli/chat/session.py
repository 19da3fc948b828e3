"""A chat that the daemon keeps: taken up where it was left.

Rule 1: what a person sees of what was said before is decided here.
Rule 2: this file does not know what is said next.
"""

from __future__ import annotations

from qwend.cli.amounts import counted
from qwend.cli.answer import Screen
from qwend.cli.chat.conversation import Conversation
from qwend.cli.report import say_dim
from qwend.client import ChatMessage, Client, RequestFailed
from qwend.client.sessions import check_kept


def resumed(client: Client, name: str, system: str | None) -> Conversation:
    """The conversation of this name as far as it is, or a new one. Raises: as `Client.session`."""
    check_kept(name, client.welcome)
    try:
        kept = client.session(name).messages
    except RequestFailed as error:
        if error.code != "unknown_session":
            raise
        kept = ()
    said = [ChatMessage(each.role, each.content) for each in kept]
    return Conversation(system, name, said)


def answer_kept(client: Client, conversation: Conversation) -> str | None:
    """The answer to the question that was asked last, if the daemon has it already."""
    if conversation.session is None:
        return None
    kept = resumed(client, conversation.session, None)
    if _turns(kept) <= _turns(conversation) - 1:
        return None
    return kept.messages[-1].content


def show_last_turn(conversation: Conversation, screen: Screen) -> None:
    """Remind the person of what was said last."""
    if conversation.session is None:
        return
    if not len(conversation):
        say_dim(f"The session {conversation.session} begins here.")
        return
    messages = counted(len(conversation), "messages")
    say_dim(f"The session {conversation.session} goes on ({messages}). Last was said:")
    asked = [each for each in conversation.messages if each.role == "user"][-1:]
    for each in asked:
        screen.write(f"> {each.content}")
        screen.end_line()
    screen.write(conversation.messages[-1].content)
    screen.end_line()
    screen.write("\n")


def _turns(conversation: Conversation) -> int:
    return sum(each.role == "user" for each in conversation.messages)
